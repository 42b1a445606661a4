"""Everything that a user can ask of an index and do to it, as values that can be compared to the bit."""

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from latewood import Feedback, Index
from latewood.errors import InternalError, LatewoodError
from trials.bases import Base, new_id

Answer = dict[str, Any]
"""{"value": …}, {"error": class, "message": …}, or the same with "untyped" or "panic" for "error"."""


def answer(call: Callable[[], Any]) -> Answer:
    """Call and give the value, or the exception by its kind."""
    try:
        return {"value": call()}
    except InternalError as error:
        return {"panic": type(error).__name__, "message": str(error)}
    except LatewoodError as error:
        return {"error": type(error).__name__, "message": str(error)}
    except Exception as error:  # noqa: BLE001  every exception that is not the library's own is a finding
        return {"untyped": type(error).__name__, "message": str(error)}


def interrogate(open_index: Callable[[], Index], base: Base, *, write: bool) -> dict[str, Answer]:
    """Open an index, ask everything, and with `write` add a document, change another, compact, and ask again."""
    answers: dict[str, Answer] = {}
    opened: list[Index] = []

    def opens() -> bool:
        opened.append(open_index())
        return True

    answers["open"] = answer(opens)
    if not opened:
        return answers
    index = opened[0]
    ids, queries, new = base.asked()

    def ask(when: str) -> None:
        for name, call in _questions(index, ids, queries):
            answers[f"{when}{name}"] = answer(call)

    ask("")
    answers["check"] = answer(index.check)
    if write:
        key = new_id(ids)
        added: dict[str, Any] = {"vectors": new, "texts": ["a new text"], "metadata": [{"number": -1}]}

        def change() -> None:
            with index.writer() as writer:
                writer.add([key], **added)
                writer.update_metadata([key, ids[1]], {"changed": 3})

        answers["add"] = answer(change)
        ask("after add: ")
        answers["compact"] = answer(index.compact)
        ask("after compact: ")
        answers["after compact: open"] = answer(lambda: len(Index.open(index.path)))
        answers["after compact: check"] = answer(index.check)
    return answers


def _questions(index: Index, ids: list[Any], queries: list[Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
    def hits(**options: Any) -> Any:
        found = index.search_batch(queries, 8, **options)
        return [[(hit.id, hit.score.hex(), hit.text, hit.metadata) for hit in some] for some in found]

    def explained() -> Any:
        return [_digest(hit.explain().matrix) for hit in index.search(queries[0], 3, gather="exact")]

    yield "ids", lambda: plain(index.ids())
    yield "contains", lambda: index.contains(ids).tolist()
    yield "default", hits
    yield "flood", lambda: hits(gather="flood")
    yield "postings", lambda: hits(gather="postings")
    yield "fde", lambda: hits(gather="fde")
    yield "exact", lambda: hits(gather="exact")
    yield "filter", lambda: hits(filter={"number": {"lt": 40}, "even": True})
    yield "name filter", lambda: hits(filter={"name": ["n1", "n39", "n149"]})
    yield "changed", lambda: [plain(index.ids(filter={"changed": number})) for number in (1, 2, None)]
    yield "groups", lambda: hits(group_by="changed", offset=1)
    yield "chosen ids", lambda: hits(ids=ids)
    yield "feedback", lambda: hits(feedback=Feedback())
    yield "rerank", lambda: [(hit.id, hit.score.hex(), hit.text) for hit in index.rerank(queries[0], ids)]
    yield "explain", explained
    yield "explain one", lambda: _digest(index.explain(queries[0], ids[0]).matrix)
    yield "documents", lambda: [[found.id, found.text, found.metadata] for found in index.documents(ids)]
    yield "vectors", lambda: _digest(index.vectors(index.ids()).values)
    yield "info", lambda: _counts(index)


def plain(ids: Any) -> list[Any]:
    """Ids as JSON has them."""
    return list(ids.tolist() if isinstance(ids, np.ndarray) else ids)


def _counts(index: Index) -> str:
    info = index.info()
    return json.dumps([info[name] for name in ("documents", "dim")] + [len(index)])


def _digest(array: Any) -> str:
    contents = np.ascontiguousarray(array)
    return f"{contents.shape} {hashlib.blake2b(contents.tobytes(), digest_size=16).hexdigest()}"
