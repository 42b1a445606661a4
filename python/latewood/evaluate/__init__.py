"""BEIR folders, data sets of ir_datasets, TREC runs, metrics by ir-measures, and whether a difference is chance."""

from latewood.evaluate.beir import Collection, load_beir
from latewood.evaluate.comparison import Comparison, Difference, compare_runs
from latewood.evaluate.datasets import dataset_qrels
from latewood.evaluate.metrics import DEFAULT_METRICS, evaluate_run
from latewood.evaluate.trec import read_qrels, read_run, write_run

__all__ = [
    "DEFAULT_METRICS",
    "Collection",
    "Comparison",
    "Difference",
    "compare_runs",
    "dataset_qrels",
    "evaluate_run",
    "load_beir",
    "read_qrels",
    "read_run",
    "write_run",
]
