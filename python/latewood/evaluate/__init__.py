"""BEIR folders, TREC runs, and metrics by ir-measures."""

from latewood.evaluate.beir import Collection, load_beir
from latewood.evaluate.metrics import DEFAULT_METRICS, evaluate_run
from latewood.evaluate.trec import read_qrels, read_run, write_run

__all__ = ["DEFAULT_METRICS", "Collection", "evaluate_run", "load_beir", "read_qrels", "read_run", "write_run"]
