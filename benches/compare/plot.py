"""The picture of a run: a panel of bars for each number of threads and candidates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compare.record import Row

COLOURS = {
    "latewood": ("#1b7f5c", "latewood"),
    "exact": ("#7a8ca3", "others: exact in this run"),
    "approximate": ("#c78b3c", "others: approximate in this run"),
    "search": ("#b7b7b7", "others: search restricted to the candidates"),
}


def draw(path: Path, rows: Sequence[Row], head: dict[str, Any]) -> None:
    """Draw nanoseconds for a token, logarithmic, with the milliseconds for a query beside each bar.

    Parameters
    ----------
    path : Path
        Of the PNG file.
    rows : sequence of Row
    head : dict
        "machine" and "vectors", for the line below.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    settings = list(dict.fromkeys((row.threads, row.candidates) for row in rows))
    columns = len({candidates for _, candidates in settings})
    lines = -(-len(settings) // columns)
    height = max(sum((row.threads, row.candidates) == setting for row in rows) for setting in settings)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(7.5 * columns, (0.33 * height + 1.2) * lines + 1),
        sharex=True,  # one scale and one pair of limits for all
        squeeze=False,
        layout="constrained",
    )
    for axis, setting in zip(axes.flat, settings, strict=False):
        panel(axis, [row for row in rows if (row.threads, row.candidates) == setting], *setting)
    known = [row.ns_per_token for row in rows if row.ns_per_token is not None] or [1.0]
    axes[0, 0].set_xscale("log")
    # Room before the shortest bar for its length to show, and behind the longest for its label.
    axes[0, 0].set_xlim(min(known) / 2, max(known) * 100)
    axes[0, 0].xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    figure.legend(
        handles=[Patch(color=colour, label=label) for colour, label in COLOURS.values()],
        loc="outside upper center",
        ncols=len(COLOURS) if columns > 1 else 2,
        frameon=False,
    )
    figure.supxlabel(f"ns for each token of the candidates, logarithmic (less is better)\n{caption(head)}", fontsize=9)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def panel(axis: Any, rows: Sequence[Row], threads: int, candidates: int) -> None:
    """Draw the bars of one setting, the fastest at the top, those without a figure at the bottom."""
    ordered = sorted(rows, key=lambda row: row.ns_per_token or float("inf"))
    for place, row in enumerate(ordered):
        if row.ns_per_token is None or row.ms is None:
            reason = row.note.split(":")[0]
            axis.text(0.01, place, reason, transform=axis.get_yaxis_transform(), va="center", fontsize=8)
            continue
        colour, _ = COLOURS["latewood" if row.package == "latewood" else row.kind]
        axis.barh(place, row.ns_per_token, color=colour, height=0.72)
        axis.text(row.ns_per_token, place, f" {label(row)}", va="center", fontsize=8)
    axis.set_yticks(range(len(ordered)), [row.arm for row in ordered], fontsize=9)
    axis.set_ylim(len(ordered) - 0.4, -0.6)
    at_once = "one thread" if threads == 1 else f"{threads} threads, queries in batches"
    axis.set_title(f"{candidates:,} random candidates, {at_once}", fontsize=11)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", alpha=0.25)
    axis.set_axisbelow(True)


def label(row: Row) -> str:
    """Figures beside a bar; what is not exact also says how much of the exact top 10 it keeps."""
    figures = f"{short(row.ns_per_token or 0)} ns, {short(row.ms or 0)} ms a query"
    return figures if row.kind == "exact" or row.overlap_10 is None else f"{figures}, top 10: {row.overlap_10:.2f}"


def short(value: float) -> str:
    """Three digits, or more where there are more before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def caption(head: dict[str, Any]) -> str:
    """Machine, vectors and what the labels mean."""
    return (
        f"{circumstances(head)}\n"
        "medians; top 10: share of the exact top 10 of the candidates that is among the answer's"
    )


def circumstances(head: dict[str, Any]) -> str:
    """Machine and vectors, on one line."""
    machine, vectors = head["machine"], head["vectors"]
    return (
        f"{machine['processor']}, {machine['cores']} cores, kernels {machine['simd']}, latewood {machine['latewood']}; "
        f"{vectors['tokens']:,} tokens x {vectors['dim']}, {vectors['query_tokens_mean']:.0f} query tokens"
    )
