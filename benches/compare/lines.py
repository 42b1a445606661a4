"""The picture of a frontier: a panel for each number of threads and hits, a line for each way to search."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compare.plot import circumstances

if TYPE_CHECKING:
    from frontier import Point

OURS = ("#0b5d41", "#66c2a5", "#8db600", "#1f78b4", "#111111", "#7b3fb5", "#c39be0")
OTHERS = ("#d95f02", "#e7298a", "#a6761d", "#8a8a8a")
MARKERS = "osD^vPX"
TICKS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995)
BEST = 0.997
"""What is found beyond this is drawn here, since the axis of what is missed has no zero."""


def draw(path: Path, points: Sequence["Point"], head: dict[str, Any]) -> None:
    """Draw the share of the true hits that is found, its misses logarithmic, against logarithmic milliseconds.

    Parameters
    ----------
    path : Path
        Of the PNG file.
    points : sequence of Point
    head : dict
        "machine" and "vectors", for the line below.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    threads, ks = (list(dict.fromkeys(values)) for values in zip(*((p.threads, p.k) for p in points), strict=True))
    figure, axes = plt.subplots(
        len(threads), len(ks), figsize=(7 * len(ks), 4.6 * len(threads) + 1.4), squeeze=False, layout="constrained"
    )
    styles = styles_of(points)
    for row, some in zip(axes, threads, strict=True):
        for axis, k in zip(row, ks, strict=True):
            panel(axis, [p for p in points if (p.threads, p.k) == (some, k)], styles)
            axis.set_title(
                f"top {k}, {'one thread' if some == 1 else f'{some} threads, queries in a batch'}", fontsize=11
            )
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3 * len(ks) - 1, frameon=False, fontsize=9)
    figure.supylabel("share of the true hits found, its misses logarithmic", fontsize=9)
    caption = circumstances(head).replace("; ", "\n")
    figure.supxlabel(f"ms a query, logarithmic; the large marks are the defaults\n{caption}", fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def styles_of(points: Sequence["Point"]) -> dict[tuple[str, str], dict[str, Any]]:
    """Give each line its colour and mark, the same in all panels; latewood's are full, the others dashed."""
    names = list(dict.fromkeys((point.system, point.line) for point in points))
    ours = [name for name in names if name[0].startswith("latewood")]
    others = [name for name in names if name not in ours]
    return {
        name: {"color": colours[i % len(colours)], "linestyle": dash, "marker": MARKERS[i % len(MARKERS)]}
        for some, colours, dash in ((ours, OURS, "-"), (others, OTHERS, "--"))
        for i, name in enumerate(some)
    }


def panel(axis: Any, points: Sequence["Point"], styles: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Draw the lines of one number of threads and hits."""
    from matplotlib.ticker import LogLocator, NullFormatter

    for (system, line), style in styles.items():
        mine = [p for p in points if (p.system, p.line) == (system, line) and p.ms is not None]
        if not mine:
            continue
        label = system if line in {"default", "search"} else f"{system}, {line}"
        places = [p.ms for p in mine], [min(p.overlap or 0.0, BEST) for p in mine]
        axis.plot(*places, label=label, markersize=4, linewidth=1.3, **style)
        for p, x, y in zip(mine, *places, strict=True):
            if p.default:
                axis.plot([x], [y], markersize=9, color=style["color"], marker=style["marker"])
    axis.set_xscale("log")
    axis.set_yscale("function", functions=(lambda y: -np.log10(1 - np.minimum(y, 0.9999)), lambda y: 1 - 10.0**-y))
    lowest = min((p.overlap for p in points if p.overlap is not None), default=0.5)
    axis.set_ylim(max(min(lowest - 0.02, 0.9), 0.3), 0.9975)
    axis.set_yticks([tick for tick in TICKS if tick >= axis.get_ylim()[0]], minor=False)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.3f}".rstrip("0"))
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
