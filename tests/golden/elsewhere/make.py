"""Makes the folders beside it again, each with the real library in an environment of its own.

    python make.py fast-plaid    fast-plaid 1.7.0 (MIT)
    python make.py pylate        pylate 1.6.0 (MIT): the layout of fast-plaid 1.4.6, and two pickles of ids
    python make.py stanford      pylate 1.6.0 with `use_fast=False`, and ninja: colbert-ai's layout, and the two pickles
    python make.py next-plaid    next-plaid 1.8.5 (Apache-2.0), by the small crate in benches/compare/next_plaid
    python make.py colbert-ai    colbert-ai 0.2.22 (MIT) with faiss-cpu, ninja and Transformers 4

The vectors are drawn, so that nobody's text or model is in them. Beside each folder, `NAME.json` has what the library
itself answered to `queries`, and `NAME.npz` the vectors that it decodes its codes to (next-plaid decodes no signs).
colbert-ai's search and encoder need a checkpoint: here its indexer and its updater run as they are on drawn vectors,
and MaxSim on what its codec decodes stands for its search.
"""

import json
import pickle
import shutil
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

HERE = Path(__file__).parent
DIM = 32
DOCUMENTS = 36
DELETED = [3, 20]
NAMES = [f"dök/{number:02}" for number in range(DOCUMENTS)]
METADATA = [{"lang": "en" if number % 2 else "de", "page": number, "share": number / 8} for number in range(DOCUMENTS)]


def vectors(seed: int, lengths: list[int], dim: int = DIM) -> list[Any]:
    """Draw documents of unit vectors that lie in clusters, as those of models do."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((24, dim))
    parts = []
    for length in lengths:
        part = centres[generator.integers(0, 24, length)] + 0.6 * generator.standard_normal((length, dim))
        parts.append((part / np.linalg.norm(part, axis=1, keepdims=True)).astype(np.float32))
    return parts


def documents(dim: int = DIM) -> list[Any]:
    return vectors(1, [4 + number % 7 for number in range(DOCUMENTS)], dim)


def queries(dim: int = DIM) -> list[Any]:
    return vectors(2, [5] * 6, dim)


def flat(parts: list[Any]) -> tuple[Any, Any]:
    return np.concatenate(parts), np.cumsum([0, *map(len, parts)])


def write(name: str, decoded: dict[Any, Any], found: list[list[tuple[Any, float]]]) -> None:
    """Write what the library decodes and finds: id → vectors, and for each query ids with scores."""
    if decoded:
        values, offsets = flat(list(decoded.values()))
        np.savez_compressed(HERE / f"{name}.npz", values=values.astype(np.float32), offsets=offsets)
    # What is left by a process that has the folder open.
    for left in [*(HERE / name).rglob("*.lock"), *(HERE / name).rglob("metadata.db-*")]:
        left.unlink()
    answer = {"ids": list(decoded), "found": [[[key, float(score)] for key, score in hits] for hits in found]}
    (HERE / f"{name}.json").write_text(json.dumps(answer, ensure_ascii=False) + "\n", encoding="utf-8")


def without_paths(folder: Path, root: str) -> None:
    """Take the folder of this machine out of the settings."""
    for path in folder.glob("*.json"):
        path.write_text(path.read_text().replace(root.replace("/", "\\/"), "scratch"))


def emptied(name: str) -> Path:
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def fast_plaid() -> None:
    import torch
    from fast_plaid import filtering
    from fast_plaid.search import FastPlaid

    torch.set_num_threads(1)
    folder = emptied("fast-plaid")
    given = [torch.from_numpy(part) for part in documents()]
    with FastPlaid(index=str(folder), device="cpu") as index:
        # In chunks of ten, so that there are several.
        index.create(given[:30], nbits=4, batch_size=10, metadata=METADATA[:30])
        index.update(given[30:], metadata=METADATA[30:], start_from_scratch=0)
        index.delete(DELETED)
        left = len(filtering.get(index=str(folder)))
        decoded = dict(enumerate(part.float().numpy() for part in index.get_embeddings(list(range(left)))))
        found = index.search([torch.from_numpy(query) for query in queries()], top_k=10, n_ivf_probe=64)
    write("fast-plaid", decoded, found)


def pylate() -> None:
    import torch
    from pylate import indexes

    torch.set_num_threads(1)
    folder = emptied("pylate")
    given = documents()
    index = indexes.PLAID(str(folder.parent), folder.name, nbits=2, device="cpu", n_ivf_probe=64, show_progress=False)
    index.add_documents(NAMES[:30], given[:30])
    index.add_documents(NAMES[30:], given[30:])
    index.remove_documents([NAMES[number] for number in DELETED])
    # A document that is added twice: the older copy stays in its index.
    index.add_documents([NAMES[5]], [given[6]])
    found = [[(hit["id"], hit["score"]) for hit in hits] for hits in index(queries(), k=10)]
    rows = index._index._load_documents_ids_to_plaid_ids()
    decoded = dict(zip(rows, index._index.fast_plaid.get_embeddings(list(rows.values())), strict=True))
    write("pylate", {key: part.float().numpy() for key, part in decoded.items()}, found)


def stanford() -> None:
    import torch
    from pylate import indexes
    from pylate.indexes.stanford_nlp.indexing.codecs.residual import ResidualCodec

    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = emptied("pylate-stanford")
    # It takes no other number of dimensions.
    given = documents(128)
    index = indexes.PLAID(str(folder.parent), folder.name, use_fast=False, nbits=2)
    index.add_documents(NAMES[:30], given[:30])
    index.add_documents(NAMES[30:], given[30:])
    index.remove_documents([NAMES[number] for number in DELETED])
    found = [[(hit["id"], hit["score"]) for hit in hits] for hits in index(queries(128), k=10)]
    codec = ResidualCodec.load(str(folder))
    rows: list[Any] = []
    for chunk in range(len(list(folder.glob("*.codes.pt")))):
        values = codec.decompress(ResidualCodec.Embeddings.load(str(folder), chunk)).numpy()
        lengths = json.loads((folder / f"doclens.{chunk}.json").read_text())
        rows += np.split(values, np.cumsum(lengths)[:-1])
    with (folder / "documents_ids_to_plaid_ids.pkl").open("rb") as file:
        numbers = pickle.load(file)
    without_paths(folder, str(HERE))
    write("pylate-stanford", {key: rows[number] for key, number in numbers.items()}, found)


def next_plaid() -> None:
    import next_plaid_arm

    for name, bits, binary in (("next-plaid", 4, False), ("next-plaid-binary", 4, True)):
        folder = emptied(name)
        given = documents()
        values, offsets = flat(given)
        rows = [
            json.dumps({**entry, "id": key, "tags": ["a", key], "new": True})
            for entry, key in zip(METADATA, NAMES, strict=True)
        ]
        next_plaid_arm.build(str(folder), values, offsets, bits, rows, binary)
        next_plaid_arm.delete(str(folder), DELETED)
        index = next_plaid_arm.Index(str(folder))
        found = [
            list(zip(*index.search([query], 10, n_ivf_probe=64, threshold=False)[0], strict=True))
            for query in queries()
        ]
        left = DOCUMENTS - len(DELETED)
        decoded = {} if binary else dict(enumerate(index.vectors(list(range(left)))))
        del index
        write(name, decoded, found)


def colbert_ai() -> None:
    import torch
    from colbert.data import Collection
    from colbert.index_updater import IndexUpdater
    from colbert.indexing.codecs.residual import ResidualCodec
    from colbert.indexing.collection_indexer import CollectionIndexer
    from colbert.indexing.index_saver import IndexSaver
    from colbert.infra import ColBERTConfig

    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = emptied("colbert-ai")
    given = documents()

    class Encoder:
        """Stands where the checkpoint is: a passage is the number of a document."""

        def encode_passages(self, passages: list[str]) -> tuple[Any, list[int]]:
            parts = [given[int(passage)] for passage in passages]
            return torch.from_numpy(np.concatenate(parts)), [len(part) for part in parts]

    class Indexer(CollectionIndexer):  # type: ignore[misc]
        def __init__(self, config: Any, collection: Any) -> None:
            self.verbose = 0
            self.config = config
            self.rank, self.nranks = 0, 1
            self.use_gpu = False
            self.collection = Collection.cast(collection)
            self.encoder = Encoder()
            self.saver = IndexSaver(config)

    # Three chunks, where a collection of this size would be one.
    Collection.get_chunksize = lambda self: 15

    with tempfile.TemporaryDirectory() as scratch:
        config = ColBERTConfig(
            dim=DIM,
            nbits=2,
            root=scratch,
            experiment="golden",
            index_name="index",
            checkpoint="drawn",
            gpus=0,
            nranks=1,
        )
        written = Path(config.index_path_)
        written.mkdir(parents=True)
        Indexer(config, [str(number) for number in range(DOCUMENTS)]).run([[None]])
        codec = ResidualCodec.load(str(written))
        embeddings = ResidualCodec.Embeddings.load_chunks(str(written), range(3), sum(map(len, given)))
        ranker = SimpleNamespace(
            ivf=None, embeddings=embeddings, codec=codec, doclens=torch.tensor([len(part) for part in given])
        )
        searcher = SimpleNamespace(index=str(written), ranker=ranker, config=config)
        updater = IndexUpdater(config, searcher)
        updater.remove(DELETED)
        updater.persist_to_disk()
        shutil.copytree(written, folder)
    bounds = np.cumsum([0, *map(len, given)])
    # What is behind the last is room to read strides in.
    stored = ResidualCodec.Embeddings(embeddings.codes[: bounds[-1]], embeddings.residuals[: bounds[-1]])
    everything = codec.decompress(stored).numpy()
    decoded = {
        number: everything[bounds[number] : bounds[number + 1]] for number in range(DOCUMENTS) if number not in DELETED
    }
    found = []
    for query in queries():
        scores = {number: float((query @ part.T).max(axis=1).sum()) for number, part in decoded.items()}
        found.append(sorted(scores.items(), key=lambda item: -item[1])[:10])
    without_paths(folder, scratch)
    write("colbert-ai", decoded, found)


if __name__ == "__main__":
    {
        "fast-plaid": fast_plaid,
        "pylate": pylate,
        "stanford": stanford,
        "next-plaid": next_plaid,
        "colbert-ai": colbert_ai,
    }[sys.argv[1]]()
