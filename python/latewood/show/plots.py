"""Pictures by matplotlib, which is imported when one is drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latewood.common.packages import import_optional
from latewood.errors import InvalidInputError

MOST_LABELS = 80
"""Tokens that are named on an axis: more could not be read."""


def check_format(path: Path) -> None:
    """Refuse a file whose name ends as no picture's does, before there is something to draw."""
    pyplot = import_optional("matplotlib.pyplot", extra="plot", purpose="a plot")
    known = pyplot.Figure().canvas.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in known:
        message = f"{str(path)!r} does not end as a picture's name does; end it with one of .{', .'.join(known)}"
        raise InvalidInputError(message)


def heat_map(
    matrix: Any, *, rows: Sequence[str] | None, columns: Sequence[str] | None, title: str, axes: Any = None
) -> Any:
    """Draw query tokens against document tokens, with each row's best marked; the axes."""
    pyplot = import_optional("matplotlib.pyplot", extra="plot", purpose="a plot")
    if axes is None:
        height, width = (1.2 + 0.24 * min(size, most) for size, most in zip(matrix.shape, (60, 100), strict=True))
        _, axes = pyplot.subplots(figsize=(max(width, 5.0) + 1.6, max(height, 2.4) + 0.8), layout="constrained")
    if matrix.size:
        image = axes.imshow(matrix, aspect="auto", cmap="viridis", interpolation="nearest")
        axes.figure.colorbar(image, ax=axes, label="adds to the score", shrink=0.8)
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
    return axes


def measures(values: Mapping[str, Mapping[str, float]]) -> Any:
    """Draw measures of several runs beside each other; the axes.

    Parameters
    ----------
    values : mapping of run to mapping of measure to value
    """
    pyplot = import_optional("matplotlib.pyplot", extra="plot", purpose="a plot")
    names = list(next(iter(values.values())))
    labels = [run.replace("$", r"\$") for run in values]
    across = max(2.0 + (0.8 + 0.25 * len(values)) * len(names), 1.0 + 0.09 * max(map(len, labels)))
    figure, axes = pyplot.subplots(figsize=(across, 3.6 + 0.25 * len(values)), layout="constrained")
    width = 0.8 / len(values)
    for number, (run, own) in enumerate(zip(labels, values.values(), strict=True)):
        places = np.arange(len(names)) + (number - (len(values) - 1) / 2) * width
        bars = axes.bar(places, [own[name] for name in names], width, label=run)
        axes.bar_label(bars, fmt="%.3f", fontsize=8, padding=2, rotation=90 if len(values) > 3 else 0)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(0, min(1.25, 1.2 * max(max(own.values()) for own in values.values()) + 0.02))
    axes.set_ylabel("mean over queries")
    figure.legend(loc="outside lower center", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return axes
