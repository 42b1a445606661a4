"""An index in object storage behind a line that fails: whole commits or typed errors, and never other bytes."""

import os
import random
import tempfile
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from latewood import Index
from latewood.errors import CorruptIndexError, StorageError
from trials.corpora import token_vectors
from trials.counts import Attempts, Counts
from trials.s3 import Faults, server_behind_faults

DIM = 16
URL = "s3://bucket/trial"
MORE = 0.15
"""How often one more request fails, after the one that does for certain."""
EACH = 25
"""Attempts with one index; then another has the address."""
TOLD = (StorageError, CorruptIndexError)


def run(counts: Counts, attempts: Attempts) -> None:
    """Publish, open and follow, with a fault at least in each attempt."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        endpoint, faults = stack.enter_context(server_behind_faults())
        environment = {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint,
            "LATEWOOD_CACHE": str(Path(scratch, "cache")),
        }
        stack.enter_context(patch.dict(os.environ, environment))
        stack.enter_context(patch("latewood.cloud.store.RETRIES", 1))
        stack.enter_context(patch("latewood.cloud.store.TIMEOUT", timedelta(seconds=1)))
        life: _Life | None = None
        for number, (name, choices) in enumerate(attempts):
            faults.choices = random.Random(name)
            if number % EACH == 0:
                life = _Life(Path(scratch, f"index-{number}"), f"{URL}-{number}", counts)
            if life is not None:
                life.attempt(name, choices, faults)
        for kind in faults.done:
            counts.note(f"faults {kind}")


class _Life:
    """An index, what each of its commits answers, and somebody who follows it."""

    def __init__(self, path: Path, url: str, counts: Counts) -> None:
        self.counts = counts
        self.url = url
        vectors = token_vectors(3, 40, dim=DIM)
        self.vectors = [np.asarray(one) for one in vectors]
        self.index = Index.create(path, dim=DIM, train_after=0)
        self.index.add(range(30), vectors=self.vectors[:30])
        self.index.publish(url)
        self.answers = {self.index.generation: self.answer(self.index)}
        self.reader = Index.open(url)
        self.next = 100

    def answer(self, index: Index) -> Any:
        hits = index.search(self.vectors[30], 10)
        return list(index.ids()), [(hit.id, hit.score) for hit in hits]

    def attempt(self, name: str, choices: random.Random, faults: Faults) -> None:
        """Change, do one thing after another until a request has failed, and look what came of it."""
        if choices.random() < 0.5:
            self.index.add([self.next], vectors=[self.vectors[self.next % 40]])
            self.next += 1
            self.answers[self.index.generation] = self.answer(self.index)
        before = len(faults.done)
        faults.rate, faults.sure = 0.0, 0
        while len(faults.done) == before:
            work = choices.choice((self.publish, self.open, self.open_afresh, self.refresh))
            faults.rate, faults.sure = MORE, int(choices.random() < 0.3)
            try:
                work()
                self.counts.note("whole")
            except TOLD as error:
                self.counts.note(f"told by {type(error).__name__}")
            # Whatever else there is, is a finding.
            except Exception as error:  # noqa: BLE001
                self.counts.fault("untyped", f"{name}: {work.__name__}: {type(error).__name__}: {error}")
            finally:
                faults.rate, faults.sure = 0.0, 0
        # The line is sound again.
        try:
            self.index.publish(self.url)
            self.reader.refresh()
            self.judge(self.reader)
            if self.reader.generation != self.index.generation:
                self.counts.fault("lost", f"{name}: generation {self.reader.generation}, not {self.index.generation}")
        except Exception as error:  # noqa: BLE001
            self.counts.fault("unopenable", f"{name}: {type(error).__name__}: {error}")

    def publish(self) -> None:
        self.index.publish(self.url)

    def open(self) -> None:
        self.judge(Index.open(self.url))

    def open_afresh(self) -> None:
        with tempfile.TemporaryDirectory() as cache:
            self.judge(Index.open(self.url, cache_dir=cache))

    def refresh(self) -> None:
        seen = self.reader.generation
        self.reader.refresh()
        if self.reader.generation < seen:
            self.counts.fault("silent", f"a reader went back from generation {seen}")
        self.judge(self.reader)

    def judge(self, index: Index) -> None:
        if self.answer(index) != self.answers[index.generation] or index.check():
            self.counts.fault("silent", f"generation {index.generation} is another one")
