"""The picture of a simulated cluster: a panel for each load, a line for each number of replicas, and the comparison."""

from pathlib import Path
from typing import Any

COLOURS = {1: "#8a8a8a", 2: "#1f78b4", 3: "#0b5d41"}
MEASURED, SIMULATED = "#d95f02", "#1f78b4"
NAMES = {"in_one_process": "one process", "by_ray": "Ray"}


def draw(path: Path, content: dict[str, Any]) -> None:
    """Draw the 99th percentile of a query's time against the number of shards, both logarithmic.

    Parameters
    ----------
    path : Path
        Of the PNG file.
    content : dict
        "simulated" and "compared", rows as of benches/cluster_model.py, and "shards".
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    loads = sorted({row["load"] for row in content["simulated"]})
    figure, axes = plt.subplots(1, len(loads) + 1, figsize=(4.2 * (len(loads) + 1), 4.6), layout="constrained")
    for axis, load in zip(axes, loads, strict=False):
        panel(axis, [row for row in content["simulated"] if row["load"] == load])
        axis.set_title(f"cores {load:.0%} busy without hedging", fontsize=10)
        axis.sharey(axes[0])
    axes[0].set_ylabel("ms, p99 (thin: p50)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=9)
    comparison(axes[-1], content["compared"])
    shard = content["shards"][-1]
    figure.supxlabel(
        f"shards, each of {shard['tokens'] / 1e6:.1f} M tokens: simulated from searches measured in one, "
        f"{shard['seconds']['p50_ms']:.1f} ms (p50)",
        fontsize=9,
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def panel(axis: Any, rows: list[dict[str, Any]]) -> None:
    """Draw the lines of one load."""
    for replicas, hedging in sorted({(row["replicas"], row["hedging"]) for row in rows}):
        own = [row for row in rows if (row["replicas"], row["hedging"]) == (replicas, hedging)]
        label = f"{replicas} replica{'s' * (replicas > 1)}{', hedged' * hedging}"
        style = {"color": COLOURS[replicas], "linestyle": "-" if hedging or replicas == 1 else ":"}
        shards = [row["shards"] for row in own]
        axis.plot(shards, [row["p99_ms"] for row in own], marker="o", markersize=4, label=label, **style)
        axis.plot(shards, [row["p50_ms"] for row in own], linewidth=0.6, **style)
    axis.set_xscale("log")
    axis.set_yscale("log")
    shards = sorted({row["shards"] for row in rows})
    axis.set_xticks(shards, [str(count) for count in shards], minor=False)
    axis.set_xticks([], minor=True)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if str(value)[0] in "25" else "")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25, which="both")


def comparison(axis: Any, rows: list[dict[str, Any]]) -> None:
    """Draw measured percentiles beside simulated ones, of the clusters on this machine."""
    places = range(len(rows))
    for key, mark in (("p50_ms", "o"), ("p99_ms", "D")):
        name = key.removesuffix("_ms")
        axis.plot(places, [row[key] for row in rows], mark, color=MEASURED, label=f"{name} measured")
        axis.plot(
            places,
            [row[f"simulated_{key}"] for row in rows],
            mark,
            color=SIMULATED,
            fillstyle="none",
            markersize=9,
            label=f"{name} simulated",
        )
    axis.set_xticks(list(places), [f"{NAMES[row['cluster']]}\n{row['load']:.0%}" for row in rows], fontsize=8)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if str(value)[0] in "25" else "")
    axis.set_title("four small shards, here", fontsize=10)
    axis.legend(fontsize=8, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25, which="both")
