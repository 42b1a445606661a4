"""TREC runs and relevance judgements as text files."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latewood.common.files import replacing
from latewood.common.types import Run
from latewood.errors import InvalidInputError, StorageError
from latewood.forms.candidates import read_candidates
from latewood.forms.ids import one_id, plain_ids
from latewood.forms.values import path_of
from latewood.index.results import Hit

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
    score that is not below the one before it is written as the next smaller double; two different float32 scores never
    meet.

    Parameters
    ----------
    path : path-like
        The file is replaced when the whole run is written; what fails leaves it as it was.
    run : mapping of query id to hits in order, or to {document id: score}
    tag : str
        Name of the system, without blanks.

    Raises
    ------
    InvalidInputError
        An id or tag that is empty or has blanks, a document twice for one query, a score that is NaN or no number.
    StorageError
        The file cannot be written.
    """
    _replace(Path(path_of(path)), run_text(run, tag=tag))


def run_text(run: Any, *, tag: str = "latewood") -> str:
    """Give the lines that `write_run` writes."""
    name = _field(tag, "tag")
    lines = []
    for query, hits in rankings(run).items():
        _field(query, "query id")
        previous = math.inf
        for rank, (document, score) in enumerate(hits.items(), start=1):
            written = max(score, LOWEST_SCORE)
            if written >= previous:
                written = math.nextafter(previous, -math.inf)
            lines.append(f"{query} Q0 {_field(document, 'document id')} {rank} {written!r} {name}\n")
            previous = written
    return "".join(lines)


def rankings(run: Any) -> Run:
    """Bring a run to query id → document id → score, all ids as str, the best first.

    Scores of a mapping put its documents in order, ties as they are given. Hits, and candidates in other forms of
    `latewood.FirstStage`, are in order already.
    """
    if not isinstance(run, Mapping):
        message = f"the run is a {type(run).__name__}; pass a mapping of query id to hits or to {{document id: score}}"
        raise InvalidInputError(message)
    result: Run = {}
    for key, hits in run.items():
        query = text_id(key, "query id")
        ids, scores = read_candidates(hits, f"the hits of query {query!r}")
        documents = [text_id(document, "document id") for document in plain_ids(ids)]
        values = [-float(rank) for rank in range(len(ids))] if scores is None else scores.tolist()
        order = np.argsort([-value for value in values], kind="stable").tolist()
        ranked = {documents[at]: values[at] for at in (order if isinstance(hits, Mapping) else range(len(ids)))}
        if query in result or len(ranked) != len(documents):
            twice = f"has query {query!r}" if query in result else f"lists a document of query {query!r}"
            message = f"the run {twice} twice; ids are compared as strings, and each counts once"
            raise InvalidInputError(message)
        result[query] = ranked
    return result


def text_id(value: Any, what: str) -> str:
    """Bring an id to the string that stands for it in a run.

    Evaluation tools are written in C: text that is no Unicode, or ends early there, would bring them down.
    """
    key = one_id(value)
    text = str(key)
    if "\0" in text or (not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)):
        message = f"the {what} {key!r} has characters that evaluation tools cannot read"
        raise InvalidInputError(message)
    return text


def read_run(path: str | os.PathLike[str]) -> Run:
    """Read a run, as query id → document id → score in the order of scores, ties in the order of ranks.

    Raises
    ------
    InvalidInputError
        No such file, one that is not UTF-8 text, or a line that does not fit, with its number.
    """
    rows: dict[str, list[tuple[float, int, str]]] = {}
    for number, line in _lines(path):
        fields = line.split()
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
        if math.isnan(row[0]):
            message = f"{os.fspath(path)}, line {number}: the score is NaN, which has no place in a ranking"
            raise InvalidInputError(message)
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
    """Read judgements: BEIR's three columns with a header, or TREC's four (`query iteration document relevance`).

    Ids may have blanks where tabs divide three columns, as in BEIR's files.

    Raises
    ------
    InvalidInputError
        As for `read_run`; two different relevances of one document for one query.
    """
    qrels: Qrels = {}
    for number, line in _lines(path):
        fields = [field.strip() for field in line.split("\t" if line.count("\t") == 2 else None)]
        if number == 1 and not _is_number(fields[-1]):
            continue
        if len(fields) not in (3, 4):
            message = f"{os.fspath(path)}, line {number}: {len(fields)} fields; judgements have 3 (BEIR) or 4 (TREC)"
            raise InvalidInputError(message)
        try:
            relevance = int(fields[-1])
        except ValueError as error:
            message = f"{os.fspath(path)}, line {number}: {error}"
            raise InvalidInputError(message) from error
        if qrels.setdefault(fields[0], {}).setdefault(fields[-2], relevance) != relevance:
            message = (
                f"{os.fspath(path)}, line {number}: document {fields[-2]!r} has another relevance for query "
                f"{fields[0]!r} before; leave one of them out"
            )
            raise InvalidInputError(message)
    return qrels


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _lines(path: str | os.PathLike[str]) -> Iterable[tuple[int, str]]:
    source = Path(path_of(path))
    try:
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"{source}: not UTF-8 text ({error}); it must be a text file in UTF-8"
        raise InvalidInputError(message) from error
    except (OSError, ValueError) as error:
        message = f"{source}: {getattr(error, 'strerror', None) or error}"
        raise InvalidInputError(message) from error
    return [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _field(value: Any, what: str) -> str:
    text = text_id(value, what)
    if not text or any(character.isspace() for character in text):
        message = f"the {what} {text!r} cannot stand in a TREC run: it is empty or has blanks"
        raise InvalidInputError(message)
    return text


def _replace(path: Path, text: str) -> None:
    """Write a file beside, and put it in place when it is whole; a pipe or device is written to as it is."""
    try:
        # What a pipe resolves to is the name of no file.
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        with replacing(path.resolve()) as scratch:
            scratch.write_text(text, encoding="utf-8")
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        message = f"the run cannot be written to {path}: {getattr(error, 'strerror', None) or error}"
        raise StorageError(message) from error
