"""TREC runs and relevance judgements as text files."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from latewood._typing import Run
from latewood.errors import InvalidInputError
from latewood.results import Hit

Qrels = dict[str, dict[str, int]]

LOWEST_SCORE = -1e9
"""Written for a score of `-inf`, which a document without tokens has; evaluation tools do not read infinities."""


def write_run(
    path: str | os.PathLike[str],
    run: Mapping[str, Mapping[str, float]] | Mapping[str, Sequence[Hit]],
    *,
    tag: str = "latewood",
) -> None:
    """Write a run: `query Q0 document rank score tag`, a line for each hit.

    Evaluation tools sort by score again and break ties by document id. So that they see the ranking that was given, a
    score
    that is not below the one before it is written as the next smaller double; two different float32 scores never meet.

    Parameters
    ----------
    path : path-like
    run : mapping of query id to hits in order, or to {document id: score}
    tag : str
        Name of the system, without blanks.
    """
    _check_field(tag, "tag")
    lines = []
    for query, hits in run.items():
        _check_field(query, "query id")
        previous = math.inf
        for rank, (document, score) in enumerate(_ranked(hits), start=1):
            _check_field(document, "document id")
            written = max(float(score), LOWEST_SCORE)
            if written >= previous:
                written = math.nextafter(previous, -math.inf)
            lines.append(f"{query} Q0 {document} {rank} {written!r} {tag}\n")
            previous = written
    Path(path).write_text("".join(lines), encoding="utf-8")


def read_run(path: str | os.PathLike[str]) -> Run:
    """Read a run, as query id → document id → score in the order of scores, ties in the order of ranks."""
    rows: dict[str, list[tuple[float, int, str]]] = {}
    for number, fields in _rows(path):
        if len(fields) != 6:
            message = (
                f"{os.fspath(path)}, line {number}: {len(fields)} fields; a run has: query Q0 document rank score tag"
            )
            raise InvalidInputError(message)
        try:
            row = (-float(fields[4]), int(fields[3]), fields[2])
        except ValueError as error:
            message = f"{os.fspath(path)}, line {number}: {error}"
            raise InvalidInputError(message) from error
        rows.setdefault(fields[0], []).append(row)
    run: Run = {}
    for query, found in rows.items():
        found.sort(key=lambda row: row[:2])
        run[query] = {document: -score for score, _, document in found}
        if len(run[query]) != len(found):
            message = f"{os.fspath(path)}: query {query!r} lists a document twice"
            raise InvalidInputError(message)
    return run


def read_qrels(path: str | os.PathLike[str]) -> Qrels:
    """Read judgements: BEIR's three columns with a header, or TREC's four (`query iteration document relevance`)."""
    qrels: Qrels = {}
    for number, fields in _rows(path):
        if number == 1 and not fields[-1].lstrip("-").isdigit():
            continue
        if len(fields) not in (3, 4):
            message = f"{os.fspath(path)}, line {number}: {len(fields)} fields; judgements have 3 (BEIR) or 4 (TREC)"
            raise InvalidInputError(message)
        try:
            relevance = int(fields[-1])
        except ValueError as error:
            message = f"{os.fspath(path)}, line {number}: {error}"
            raise InvalidInputError(message) from error
        qrels.setdefault(fields[0], {})[fields[-2]] = relevance
    return qrels


def _rows(path: str | os.PathLike[str]) -> Iterable[tuple[int, list[str]]]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        message = f"{os.fspath(path)}: {error.strerror or error}"
        raise InvalidInputError(message) from error
    return [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]


def _ranked(hits: Any) -> list[tuple[str, float]]:
    if isinstance(hits, Mapping):
        return sorted(((str(key), float(score)) for key, score in hits.items()), key=lambda item: -item[1])
    return [(str(hit.id), hit.score) for hit in hits]


def _check_field(value: str, what: str) -> None:
    if not value or any(character.isspace() for character in value):
        message = f"the {what} {value!r} cannot stand in a TREC run: it is empty or has blanks"
        raise InvalidInputError(message)
