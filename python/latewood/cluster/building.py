"""A cluster of a whole collection: one codec of a sample, and shards by builders that each read the source."""

import json
import operator
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np

from latewood.cluster.creating import BUILDING, NOTE, alone, create_shard, new_codec, train
from latewood.cluster.manifest import CODEC, SHARDS, ClusterManifest, root_of, shard_of
from latewood.cluster.order import ORDER, refuse_order
from latewood.cluster.routing import SLOTS, divided, slots_of
from latewood.cluster.sessions import Session
from latewood.cluster.source import Rows, count_rows, parquet_files, read_rows
from latewood.common.packages import import_optional
from latewood.common.progress import ProgressBar, progress_bar
from latewood.common.types import KeepVectors
from latewood.encode.nano import NAME as NANO
from latewood.encode.protocol import as_encoder
from latewood.errors import (
    DimensionError,
    DuplicateIdError,
    EncoderRequiredError,
    IndexLockedError,
    InvalidInputError,
    LatewoodError,
    StorageError,
)
from latewood.forms.values import count_of, flag_of, optional, shown
from latewood.index.index import Index
from latewood.index.writer import Writer

ADDED_DOCUMENTS, ADDED_VALUES = 1024, 2**22
"""Documents, and components of their vectors, that a builder hands on together."""
COMMITTED_DOCUMENTS = 2**16
"""Documents between two commits of a builder: what waits in its memory is bounded by them."""
LINGERING = 10.0
"""Seconds that a worker's process may take to end."""
PURPOSE = "building shards in several processes"
TRIES = 5
"""How often a shard whose worker is lost is begun again."""
POLL = 0.5
"""Seconds between two looks at what the workers have done."""


def build(
    source: Any,
    path: str | os.PathLike[str],
    *,
    shards: int,
    encoder: Any = None,
    dim: int | None = None,
    sample: int = 8192,
    workers: int | None = None,
    show_progress: bool | None = None,
    bits: Literal[1, 2, 4, 8] | None = None,
    centroids: int | None = None,
    seed: int | None = None,
    keep_vectors: KeepVectors | None = None,
) -> ClusterManifest:
    """Build a cluster of a collection: train its codec on a sample of everything, and fill all shards in parallel.

    Called again after it was cut off, with the same arguments, it goes on where it was: the source is not written
    again, the codec not trained again, and shards that are ready stay. Until it is ready there is no cluster in the
    folder.

    Parameters
    ----------
    source : path-like, sequence of `pathlib.Path`, Ray Dataset, Arrow table, data frame, or iterable of documents
        Parquet files, or a folder of them, with the columns `text`, or one `list<fixed_size_list<float>>` of token
        vectors, or both; `id`, without which a document's id is its row's number; `metadata` (a JSON object or a
        struct); all other columns are fields of the metadata. A document of an iterable is a text, an array of vectors
        [tokens, dim], or a mapping of such columns. All but files are written as Parquet files first, which are removed
        at the end; what can be read only once, as iterators and Datasets, a call that goes on does not read again.
    path : path-like
        A folder that all workers reach under this name.
    shards : int
        Each should fit a machine; `grow` makes more of them later.
    encoder : Encoder, MultiVectorEncoder or str, optional
        For texts; each worker gets a copy. The name of a model is loaded by each. With neither `dim` nor `encoder` it
        is "latewood/nano-en".
    dim : int, optional
        Dimensions of vectors, where no encoder tells them.
    sample : int
        Documents, drawn evenly from all, on which the codec is trained.
    workers : int, optional
        Ray actors at work at the same time, each with one CPU and one shard; by default as many as there are shards,
        and Ray lets them wait for CPUs. 0 builds one shard after the other in this process, without Ray.
    show_progress : bool, optional
        A bar on standard error; None shows it on a terminal where tqdm is installed.
    bits, centroids, seed, keep_vectors
        As for `Index.create`.

    Returns
    -------
    ClusterManifest
        Of the first generation.

    Raises
    ------
    IndexExistsError
        There is a cluster in the folder, or an index.
    DuplicateIdError
        Two documents have the same id.
    InvalidInputError
        A source that cannot be read, or has no document; another build, with other settings, was begun in the folder;
        it has files of another kind where a cluster keeps its own; an encoder that cannot be sent to workers.
    IndexLockedError
        Somebody else is building there.
    EncoderMismatchError
        A build was begun with another encoder.
    StorageError
        A shard's worker was lost again and again; the system refuses to read or write.
    MissingDependencyError
        pyarrow (extra `arrow`) or Ray (extra `ray`) is not installed.
    """
    root, count = root_of(path), count_of(shards, "shards", most=SLOTS)
    sample = count_of(sample, "sample")
    workers = optional(count_of, workers, "workers", least=0)
    show_progress = optional(flag_of, show_progress, "show_progress")
    if encoder is None and dim is None:
        encoder = NANO
    encoder = encoder if encoder is None or isinstance(encoder, str) else as_encoder(encoder)
    if workers != 0:
        _check_can_be_sent(encoder)
    building, codec = root / BUILDING, root / CODEC
    settings = {"bits": bits, "centroids": centroids, "seed": seed, "keep_vectors": keep_vectors}
    firsts = [*divided(0, SLOTS, count), SLOTS]
    with alone(root), _told(root):
        fresh = None if codec.exists() else new_codec(building, dim=dim, encoder=encoder, **settings)
        if fresh is None and encoder is not None:
            # Shards that are ready were made with the recorded one.
            Index.open(codec, encoder=encoder)
        files = parquet_files(source, building / "rows")
        total = count_rows(files)
        read = [[os.fspath(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
        _refuse_another(building / NOTE, {"shards": count, "dim": dim, "sample": sample, "files": read, **settings})
        try:
            if fresh is not None:
                train(fresh, **_drawn(files, total, sample, seed=seed or 0))
                (building / CODEC).rename(codec)
            (root / SHARDS).mkdir(exist_ok=True)
            jobs = {
                f"{SHARDS}/{place:04}": (root, files, f"{SHARDS}/{place:04}", firsts[place], firsts[place + 1], encoder)
                for place in range(count)
                if not (root / f"{SHARDS}/{place:04}").exists()
            }
            with progress_bar(total, "building", show_progress=show_progress) as bar:
                if workers == 0:
                    for job in jobs.values():
                        build_shard(*job, bar.update)
                elif jobs:
                    _in_parallel(jobs, workers or count, bar)
            manifest = _manifest(root, firsts, total)
        except (InvalidInputError, DuplicateIdError, DimensionError, EncoderRequiredError):
            # Another source is needed, and nothing that was made of this one may go into what is built of that.
            (building / NOTE).unlink()
            raise
        manifest.publish(root)
    return manifest


def _check_can_be_sent(encoder: Any) -> None:
    """Refuse an encoder that workers cannot get, before any work."""
    cloudpickle = import_optional("ray.cloudpickle", extra="ray", purpose=PURPOSE)
    try:
        cloudpickle.dumps(encoder)
    except Exception as error:  # a foreign encoder may raise anything
        message = f"the encoder cannot be sent to workers ({error}); give the name of a model, or workers=0"
        raise InvalidInputError(message) from error


@contextmanager
def _told(root: Path) -> Iterator[None]:
    """Tell what the system refuses as the library tells it."""
    try:
        yield
    except OSError as error:
        if isinstance(error, LatewoodError):
            raise
        message = f"cannot build in {os.fspath(root)!r}: {error}; see to that, and call again"
        raise StorageError(message) from error


def build_shard(
    root: Path, files: list[Path], folder: str, first: int, last: int, encoder: Any, report: Callable[[int], Any], /
) -> None:
    """Fill one shard with the documents of its slots; its folder gets its name when it is whole.

    `report` is called with how many documents were added.
    """
    place = root / BUILDING / Path(folder).name
    index = _once_free(lambda: create_shard(root, place))
    if encoder is not None:
        index.use_encoder(encoder, check_encoder=False)
    waiting: list[Rows] = []
    uncommitted = 0
    writer = index.writer(show_progress=False)
    try:
        for rows in read_rows(files):
            slots = slots_of(rows.ids)
            waiting.append(rows.chosen(np.flatnonzero((slots >= first) & (slots < last))))
            documents = sum(len(part.ids) for part in waiting)
            values = sum(part.vectors.values.size for part in waiting if part.vectors is not None)
            if documents >= ADDED_DOCUMENTS or values >= ADDED_VALUES:
                _add(writer, waiting)
                report(documents)
                uncommitted += documents
                waiting = []
            if uncommitted >= COMMITTED_DOCUMENTS:
                writer.commit()
                uncommitted = 0
        _add(writer, waiting)
        report(sum(len(part.ids) for part in waiting))
        writer.commit()
    finally:
        writer.close()
    index.close()
    place.rename(root / folder)


def _once_free(make: Callable[[], Index]) -> Index:
    """Wait for the lock of a worker that was ended: nobody else builds here."""
    end = time.monotonic() + LINGERING
    while True:
        try:
            return make()
        except IndexLockedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def _add(writer: Writer, parts: list[Rows]) -> None:
    parts = [part for part in parts if part.ids]
    if not parts:
        return
    ids = [key for part in parts for key in part.ids]
    for part in parts:
        for fields in part.fields:
            refuse_order(fields)
    orders = [order for part in parts for order in part.orders]
    given = [fields for part in parts for fields in part.fields]
    metadata = [{**own, ORDER: order} for own, order in zip(given, orders, strict=True)]
    texts = [text for part in parts for text in part.texts or [None] * len(part.ids)]
    if parts[0].vectors is None:
        writer.add(ids, texts=texts, metadata=metadata)
    else:
        vectors = [vector for part in parts for vector in part.vectors or ()]
        writer.add(ids, vectors=vectors, texts=texts, metadata=metadata)


def _drawn(files: list[Path], total: int, count: int, *, seed: int) -> dict[str, Any]:
    """Draw documents evenly from all, as the arguments that train a codec on them."""
    places = np.sort(np.random.default_rng(seed).choice(total, size=min(count, total), replace=False))
    texts: list[str] = []
    vectors: list[Any] = []
    for rows in read_rows(files):
        within = places[(places >= rows.orders[0]) & (places <= rows.orders[-1])] - rows.orders[0]
        part = rows.chosen(within)
        if part.vectors is None:
            texts += [text or "" for text in part.texts or ()]
        else:
            vectors += list(part.vectors)
    return {"sample": vectors or None, "sample_texts": None if vectors else texts}


def _manifest(root: Path, firsts: list[int], total: int) -> ClusterManifest:
    indexes = [Index.open(root / f"{SHARDS}/{place:04}") for place in range(len(firsts) - 1)]
    kinds = {index.info()["id_kind"] for index in indexes if len(index)}
    if len(kinds) > 1:
        message = "the ids of the source are str and int; use one kind"
        raise InvalidInputError(message)
    shards = [
        shard_of(root, f"{SHARDS}/{place:04}", index.generation, firsts[place]) for place, index in enumerate(indexes)
    ]
    return ClusterManifest(1, kinds.pop() if kinds else None, total, tuple(shards))


def _refuse_another(note: Path, settings: dict[str, Any]) -> None:
    """Note the settings of a build, or compare them with those of the one that is to go on."""
    if not note.exists():
        fresh = note.with_suffix(".partial")
        # Numbers may be numpy's.
        fresh.write_text(json.dumps(settings, default=operator.index), encoding="utf-8")
        fresh.replace(note)
        return
    begun = json.loads(note.read_text(encoding="utf-8"))
    for name, value in settings.items():
        if begun.get(name) != value:
            message = (
                f"a build with other settings was begun in {os.fspath(note.parents[1])!r}: {name} was "
                f"{shown(begun.get(name))} and is {shown(value)}; call with the same to go on, or remove the folder "
                f"{BUILDING!r} in it to begin again"
            )
            raise InvalidInputError(message)


class _Builder:
    """What a worker of Ray does: it builds one shard, and tells meanwhile how far it is."""

    def __init__(self) -> None:
        self._documents = 0

    def build(self, root: Path, files: list[Path], folder: str, first: int, last: int, encoder: Any) -> None:
        build_shard(root, files, folder, first, last, encoder, self._count)

    def documents(self) -> int:
        return self._documents

    def _count(self, documents: int) -> None:
        self._documents += documents


def _in_parallel(jobs: dict[str, tuple[Any, ...]], workers: int, bar: ProgressBar) -> None:
    """Build shards by actors, so many at a time; a shard whose actor is lost goes to another from its beginning."""
    with closing(Session(PURPOSE)) as session:
        ray = session.ray
        actor = ray.remote(num_cpus=1, max_concurrency=2)(_Builder)
        waiting, tries = list(jobs), dict.fromkeys(jobs, 0)
        running: dict[Any, tuple[str, Any]] = {}
        shown: dict[str, int] = dict.fromkeys(jobs, 0)
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    folder = waiting.pop(0)
                    builder = actor.remote()
                    running[builder.build.remote(*jobs[folder])] = (folder, builder)
                for task in ray.wait(list(running), timeout=POLL)[0]:
                    folder, builder = running[task]
                    done = _is_done(ray, task)
                    del running[task]
                    if not done:
                        tries[folder] += 1
                        if tries[folder] == TRIES:
                            message = f"the worker of {folder!r} was lost {TRIES} times; does it have enough memory?"
                            raise StorageError(message)
                        waiting.append(folder)
                    ray.kill(builder)
                _show(ray, running, shown, bar)
        finally:
            for _, builder in running.values():
                ray.kill(builder)


def _is_done(ray: Any, task: Any) -> bool:
    """Whether a shard is built, and False if its worker is lost; an error of the build is raised as it was."""
    try:
        ray.get(task)
    except ray.exceptions.RayActorError:
        return False
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        message = f"a worker failed: {' '.join(str(error).split())[:300]}"
        raise StorageError(message) from error
    return True


def _show(ray: Any, running: dict[Any, tuple[str, Any]], shown: dict[str, int], bar: ProgressBar) -> None:
    for folder, builder in running.values():
        answer = builder.documents.remote()
        # One that waits for a CPU, or that is lost, says nothing.
        if ray.wait([answer], timeout=POLL / 10)[0]:
            with suppress(ray.exceptions.RayError):
                documents = ray.get(answer)
                bar.update(documents - shown[folder])
                shown[folder] = documents
