"""Pictures by matplotlib, which is imported when one is drawn."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latewood.common.packages import import_optional

MOST_LABELS = 80
"""Tokens that are named on an axis: more could not be read."""


def heat_map(
    matrix: Any, *, rows: Sequence[str] | None, columns: Sequence[str] | None, title: str, axes: Any = None
) -> Any:
    """Draw query tokens against document tokens, with each row's best marked; the axes."""
    pyplot = import_optional("matplotlib.pyplot", extra="plot", purpose="a plot")
    if axes is None:
        height, width = (1.2 + 0.24 * min(size, most) for size, most in zip(matrix.shape, (60, 100), strict=True))
        _, axes = pyplot.subplots(figsize=(max(width, 5.0) + 1.6, max(height, 2.4) + 0.8), layout="constrained")
    image = axes.imshow(matrix, aspect="auto", cmap="viridis", interpolation="nearest")
    if matrix.size:
        axes.scatter(
            matrix.argmax(axis=1), np.arange(len(matrix)), marker="o", s=22, facecolors="none", edgecolors="red"
        )
    for names, axis, turned in ((rows, axes.yaxis, False), (columns, axes.xaxis, True)):
        if names is not None and len(names) <= MOST_LABELS:
            # Dollar signs would be read as formulas.
            labels = [name.replace("$", r"\$") for name in names]
            axis.set_ticks(range(len(names)), labels, rotation=90 if turned else 0, fontsize=8)
    axes.set(xlabel="document tokens", ylabel="query tokens")
    axes.set_title(title.replace("$", r"\$"), fontsize=10)
    axes.figure.colorbar(image, ax=axes, label="adds to the score", shrink=0.8)
    return axes


def measures(values: Mapping[str, Mapping[str, float]], axes: Any = None) -> Any:
    """Draw measures of several runs beside each other; the axes.

    Parameters
    ----------
    values : mapping of run to mapping of measure to value
    """
    pyplot = import_optional("matplotlib.pyplot", extra="plot", purpose="a plot")
    names = list(next(iter(values.values())))
    if axes is None:
        _, axes = pyplot.subplots(figsize=(2.0 + 1.3 * len(names), 4.0), layout="constrained")
    width = 0.8 / len(values)
    for number, (run, own) in enumerate(values.items()):
        places = np.arange(len(names)) + (number - (len(values) - 1) / 2) * width
        bars = axes.bar(places, [own[name] for name in names], width, label=run.replace("$", r"\$"))
        axes.bar_label(bars, fmt="%.3f", fontsize=8, padding=2, rotation=90 if len(values) > 3 else 0)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(0, min(1.25, 1.2 * max(max(own.values()) for own in values.values()) + 0.02))
    axes.set_ylabel("mean over queries")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=3, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return axes
