"""What an adapter adds to the call that it wraps: milliseconds for each framework.

    PYTHONPATH=tests python benches/frameworks.py [--candidates 100]

The adapters are those of `tests/adapters`, whose calls make the framework's documents anew each time, but for frames of
PyTerrier and datasets of MTEB: what is measured is what the adapter adds, and a little more. The encoder looks vectors
up, so that encoding does not hide anything.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from _pytest.outcomes import Skipped
from numpy.typing import NDArray

from common import milliseconds, write_record
from conformance import Adapter
from latewood import Index, Reranker

ADAPTERS = Path(__file__).parents[1] / "tests" / "adapters"
CALLS = 200


class Known:
    """Gives vectors that were made before; a text that it does not know has those of the first."""

    name = "known"
    dim = 64

    def __init__(self, texts: list[str], tokens: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._vectors = {text: rng.standard_normal((tokens, self.dim)).astype(np.float32) for text in texts}
        self._first = self._vectors[texts[0]]

    def encode_query(self, inputs: list[str], /) -> list[NDArray[np.float32]]:  # noqa: D102
        return [vectors[:8] for vectors in self.encode_document(inputs)]

    def encode_document(self, inputs: list[str], /) -> list[NDArray[np.float32]]:  # noqa: D102
        return [self._vectors.get(text, self._first) for text in inputs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--no-record", action="store_true", help="print only")
    options = parser.parse_args()
    texts = [f"text {place}" for place in range(options.candidates)]
    ids = [f"id-{place}" for place in range(options.candidates)]
    encoder = Known(texts, tokens=60, seed=7)
    rows = []
    with tempfile.TemporaryDirectory() as scratch, Index.create(Path(scratch) / "index", encoder=encoder) as index:
        index.add(ids, texts=texts, metadata=[{"place": place} for place in range(len(ids))])
        for name in sorted(path.stem for path in ADAPTERS.glob("*.py") if path.stem != "__init__"):
            try:
                adapter: Adapter = import_module(f"adapters.{name}").ADAPTER
            except Skipped as missing:
                print(f"{name}: {missing}")
                continue
            rows.append({"adapter": name, **measured(adapter, index, Reranker(encoder), ids, texts)})
            print(json.dumps(rows[-1]))
    if not options.no_record:
        print(f"written: {write_record('frameworks', {'candidates': options.candidates, 'rows': rows})}")


def measured(adapter: Adapter, index: Index, reranker: Reranker, ids: list[str], texts: list[str]) -> dict[str, Any]:
    """Time each call of an adapter beside the one that it wraps."""
    row: dict[str, Any] = {}
    query = texts[0]
    rerank, retrieve = adapter.rerank, adapter.retrieve
    if rerank is not None and adapter.by_id is not None:
        stored = adapter.by_id(index, 10)
        row["by_id"] = added(lambda: rerank(stored, query, ids, texts), lambda: index.rerank(query, ids, k=10))
    if rerank is not None and adapter.by_text is not None:
        encoding = adapter.by_text(reranker, 10)
        row["by_text"] = added(lambda: rerank(encoding, query, ids, texts), lambda: reranker.rank(query, texts, 10))
    if retrieve is not None and adapter.retriever is not None:
        retriever = adapter.retriever(index, 10)
        row["retrieve"] = added(lambda: retrieve(retriever, query), lambda: index.search(query, 10))
    return row


def added(call: Callable[[], Any], wrapped: Callable[[], Any]) -> dict[str, float]:
    whole = milliseconds(lambda _: call(), CALLS, rounds=7)["median"]
    inner = milliseconds(lambda _: wrapped(), CALLS, rounds=7)["median"]
    return {"ms": whole, "wrapped_ms": inner, "added_ms": round(whole - inner, 3)}


if __name__ == "__main__":
    main()
