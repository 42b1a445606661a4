"""SIGKILL of a worker, or of the whole service, while it is under load: nothing that was acknowledged is lost."""

from trials import soak
from trials.counts import Attempts, Counts


def run(counts: Counts, attempts: Attempts) -> None:
    """Do as `trials/soak.py`, and kill."""
    soak.load(counts, attempts, kills=True)
