"""Questions with the passage that answers them, and passages BM25 takes for it."""

from dataclasses import dataclass

import bm25s
import numpy as np
import numpy.typing as npt

from training.nano_en.settings import SEED, Settings
from training.nano_en.texts import HELD_OUT, SETS, document_text, lines
from training.nano_en.tokens import END, START, Tokens, load_tokenizer, ragged

# How many questions of each collection a pass uses: the many of SQuAD would drown the rest.
SHARES = {"squad-train": 36_000, "medquad": 14_000, "pubmedqa": 1_000}


@dataclass(frozen=True, slots=True)
class Pairs:
    """The questions of one collection.

    Parameters
    ----------
    queries, documents : Tokens
    positives : numpy.ndarray
        Of each query, one document.
    negatives : numpy.ndarray
        [queries, number], documents.
    """

    queries: Tokens
    documents: Tokens
    positives: npt.NDArray[np.int64]
    negatives: npt.NDArray[np.int64]


def cut(texts: list[str], length: int) -> Tokens:
    """Tokenise texts, cut to `length` tokens with their markers."""
    tokenizer = load_tokenizer()
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return ragged([[START, *encoding.ids[: length - 2], END] for encoding in encodings])


def mine(settings: Settings, name: str) -> Pairs:
    """Read a collection's pairs and find each question's hard negatives.

    Parameters
    ----------
    settings : Settings
    name : str

    Returns
    -------
    Pairs
    """
    if name in HELD_OUT:
        message = f"{name} is a test collection"
        raise ValueError(message)
    folder = settings.sets / name
    documents = {entry["_id"]: document_text(entry) for entry in lines(folder / "corpus.jsonl")}
    place = {key: i for i, key in enumerate(documents)}
    questions = {entry["_id"]: entry["text"] for entry in lines(folder / "queries.jsonl")}
    relevant: dict[str, list[int]] = {}
    with (folder / "qrels" / "test.tsv").open(encoding="utf-8") as file:
        for row in list(file)[1:]:
            query, document, _ = row.split("\t")
            relevant.setdefault(query, []).append(place[document])
    rng = np.random.default_rng(SEED)
    keys = [str(key) for key in rng.permutation(sorted(relevant))[: SHARES[name]]]
    texts = list(documents.values())
    retriever = bm25s.BM25()
    retriever.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
    depth = min(settings.negatives + 8, len(texts))
    found, _ = retriever.retrieve(
        bm25s.tokenize([questions[key] for key in keys], show_progress=False), k=depth, show_progress=False
    )
    negatives = np.zeros((len(keys), settings.negatives), np.int64)
    for out, key, row in zip(negatives, keys, found, strict=True):
        wrong = [int(i) for i in row if int(i) not in relevant[key]]
        out[:] = np.resize(wrong or [0], settings.negatives)
    return Pairs(
        cut([questions[key] for key in keys], settings.query_length),
        cut(texts, settings.document_length),
        np.array([relevant[key][0] for key in keys]),
        negatives,
    )


def read(settings: Settings) -> list[Pairs]:
    """Return every collection's pairs, mined at the first call."""
    folder = settings.work / "pairs"
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for source in SETS:
        if not (settings.sets / source.name).is_dir():
            continue
        path = folder / f"{source.name}.npz"
        if not path.exists():
            pairs = mine(settings, source.name)
            partial = path.with_suffix(".part.npz")
            np.savez(
                partial,
                positives=pairs.positives,
                negatives=pairs.negatives,
                query_ids=pairs.queries.ids,
                query_offsets=pairs.queries.offsets,
                document_ids=pairs.documents.ids,
                document_offsets=pairs.documents.offsets,
            )
            partial.rename(path)
        with np.load(path) as file:
            found.append(
                Pairs(
                    Tokens(file["query_ids"], file["query_offsets"]),
                    Tokens(file["document_ids"], file["document_offsets"]),
                    file["positives"],
                    file["negatives"],
                )
            )
    return found
