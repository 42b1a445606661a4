"""Requests that the description of a service allows, and such as break it: each gets an answer, and none is a fault."""

import tempfile
import time
from pathlib import Path
from typing import Any

from latewood import Index
from trials.counts import Attempts, Counts
from trials.serving import Service

CASES = 20
"""Requests of one attempt, all to one path."""
SLOW = 20.0
"""Seconds that any of them may take; so little is asked of so small an index."""
NAME = "news"
TEXTS = {"rings": "A tree grows one ring each year.", "owls": "Owls hunt at night.", "none": ""}


def run(counts: Counts, attempts: Attempts) -> None:
    """Ask a service in ways that are drawn from its own description."""
    import httpx
    import schemathesis

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / NAME
        index = Index.create(folder)
        index.add(
            list(TEXTS),
            texts=list(TEXTS.values()),
            metadata=[{"lang": "en", "page": place} for place in range(len(TEXTS))],
        )
        with Service({NAME: folder}) as service:
            described = httpx.get(f"{service.url}/openapi.json").json()
            schema = schemathesis.openapi.from_dict(described)
            operations = [found.ok() for found in schema.get_all_operations()]
            modes = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
            for name, choices in attempts:
                # What has no body cannot be asked wrongly.
                operation = choices.choice(operations)
                mode = choices.choice(modes if operation.body else modes[:1])
                _ask(counts, f"{name} {operation.label}", operation, mode, service.url, choices.getrandbits(32))
                if service.process.poll() is not None:
                    counts.fault("panics", f"{name}: the service has ended with {service.process.returncode}")
                    return
        problems = Index.open(folder).check()
        if problems:
            counts.fault("unopenable", f"check() says {problems}")


def _ask(counts: Counts, name: str, operation: Any, mode: Any, url: str, seed: int) -> None:
    import httpx
    import hypothesis
    import requests

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=CASES,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(operation.as_strategy(generation_mode=mode), hypothesis.strategies.integers(0, 2))
    def asks(case: Any, stranger: int) -> None:
        if stranger and "name" in (case.path_parameters or {}):
            case.path_parameters["name"] = NAME
        begun = time.perf_counter()
        try:
            answer = case.call(base_url=url, timeout=SLOW)
        except (httpx.TimeoutException, requests.Timeout):
            counts.fault("hangs", f"{name}: no answer in {SLOW} s: {case.body!r:.300}")
            return
        counts.note("requests")
        counts.note(f"answers {answer.status_code // 100}xx")
        # Who asks for less time than there can be is told so by the status for that.
        short = answer.status_code == 504 and isinstance(case.body, dict) and case.body.get("timeout", 1.0) < 1.0
        if answer.status_code >= 500 and not short:
            counts.fault("untyped", f"{name}: {answer.status_code} {answer.text:.200} for {case.body!r:.300}")
        if time.perf_counter() - begun > SLOW:
            counts.fault("hangs", f"{name}: {time.perf_counter() - begun:.1f} s")
        kind = answer.headers.get("content-type", [""])[0]
        if answer.status_code >= 400 and not (kind == "application/problem+json" and answer.json()["detail"]):
            counts.fault("untyped", f"{name}: {answer.status_code} is no problem, but {kind} {answer.text:.200}")

    asks()
