"""MTEB: an encoder with an index as a model that searches and reranks its tasks (docs/integrations/mteb.md)."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any
from weakref import finalize

from latewood.common.packages import import_optional
from latewood.common.types import Run

import_optional("mteb", extra="mteb", purpose="the adapter for MTEB")

# What a model reads of a document or a query is decided there; the models within MTEB import it, too.
from mteb._create_dataloaders import _retrieval_texts as texts_of
from mteb.models.model_meta import ModelMeta, ScoringFunction
from mteb.types import PromptType

from latewood.encode.nano import nano_en
from latewood.encode.protocol import Encoder, as_encoder
from latewood.errors import InvalidInputError, LatewoodError
from latewood.forms.values import optional, path_of, text_of
from latewood.index.additions import ENCODE_CHUNK
from latewood.index.index import Index
from latewood.integrations.ranking import ranked_batch, search_options_of, settings_of

COMMIT_CHUNK = 16 * ENCODE_CHUNK
"""Documents that are committed together: an interruption costs as many at most."""


class LatewoodSearch:
    """A model for `mteb.evaluate`: encodes each task's documents once into an index, searches it, and reranks by it.

    Retrieval tasks index their whole corpus. Reranking tasks, and those of `task.convert_to_reranking`, index the
    documents that are to be reranked and no others.

    Parameters
    ----------
    encoder : Encoder, MultiVectorEncoder or str, optional
        The one inside the wheel by default.
    folder : path-like, optional
        Where indexes stay, one for each model, task, revision, subset and split; a later run finds them there, and one
        that was interrupted goes on with what is missing. By default they are temporary.
    name, revision : str, optional
        Under which MTEB keeps results; by default those of the encoder. A name has the form "organisation/model".
    options : mapping, optional
        Of `Index.search`, such as `{"recall": 1.0}`.
    **settings
        Of `Index.create`: `codec`, `bits` and more. Results of other settings have another experiment's name in MTEB.

    Raises
    ------
    InvalidInputError
        A parameter that does not fit, at once; a task with anything but text.
    """

    # With a method `predict` or `encode`, MTEB would take this for a model of another kind.

    def __init__(
        self,
        encoder: Any = None,
        *,
        folder: str | os.PathLike[str] | None = None,
        name: str | None = None,
        revision: str | None = None,
        options: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.encoder: Encoder = nano_en() if encoder is None else as_encoder(encoder)
        self.folder = optional(path_of, folder, "folder")
        self.options = search_options_of(options)
        self.settings = settings_of(settings)
        self.mteb_model_meta = _metadata(
            self.encoder,
            optional(text_of, name, "name"),
            optional(text_of, revision, "revision"),
            {**settings, **self.options},
        )
        self._corpus: Any = None
        self._missing: dict[str, int] = {}
        self._index: Index | None = None
        self._cleanup: Callable[[], object] = bool

    def index(self, corpus: Any, *, task_metadata: Any, hf_split: str, hf_subset: str, **_: Any) -> None:
        """Take a corpus; its documents are encoded when it is known which of them are needed."""
        if set(task_metadata.modalities) != {"text"}:
            message = f"the task {task_metadata.name} has {', '.join(task_metadata.modalities)}; only text is encoded"
            raise InvalidInputError(message)
        self.close()
        if self.folder is None:
            root = Path(mkdtemp(prefix="latewood-mteb-"))
            self._cleanup = finalize(self, rmtree, root, ignore_errors=True)
        else:
            meta = self.mteb_model_meta
            parts = (meta.model_name_as_path(), meta.experiment_name or "default", task_metadata.name)
            root = Path(self.folder, *parts, task_metadata.revision or "no_revision")
        root.mkdir(parents=True, exist_ok=True)
        self._index = Index.create(
            root / f"{hf_subset}-{hf_split}", encoder=self.encoder, exist_ok=True, **self.settings
        )
        ids = corpus["id"][:]
        known = self._index.contains(ids)
        self._corpus = corpus
        self._missing = {key: row for row, key in enumerate(ids) if not known[row]}

    def search(
        self, queries: Any, *, top_k: int, top_ranked: Mapping[str, Sequence[str]] | None = None, **_: Any
    ) -> Run:
        """Give the best documents of each query, of the whole corpus or of those that `top_ranked` has for it."""
        if self._index is None:
            message = "search comes before index: MTEB calls index(corpus) first"
            raise LatewoodError(message)
        names = queries["id"][:]
        texts = texts_of(queries, PromptType.query)
        if top_ranked is None:
            self._fill(self._index, self._missing)
            return self._index.search_arrays(texts, top_k, **self.options).to_run(names)
        candidates = [list(dict.fromkeys(top_ranked.get(name, ()))) for name in names]
        self._fill(self._index, {key for one in candidates for key in one})
        ranked = ranked_batch(self._index, texts, candidates, key=str, content=str, top_k=top_k, options={})
        return {name: dict(pairs) for name, pairs in zip(names, ranked, strict=True)}

    def close(self) -> None:
        """Let go of the index, and remove it if it is temporary."""
        if self._index is not None:
            self._index.close()
        self._cleanup()
        self._corpus = self._index = None
        self._missing = {}

    def _fill(self, index: Index, wanted: Collection[str]) -> None:
        """Encode what is wanted of the corpus and not in the index yet; a commit for each part, so that it stays."""
        keys = [key for key in self._missing if key in wanted]
        for start in range(0, len(keys), COMMIT_CHUNK):
            part = keys[start : start + COMMIT_CHUNK]
            documents = self._corpus.select([self._missing[key] for key in part])
            index.add(part, texts=texts_of(documents, PromptType.document), store_texts=False)
            for key in part:
                del self._missing[key]


def _metadata(encoder: Encoder, name: str | None, revision: str | None, experiment: Mapping[str, Any]) -> ModelMeta:
    """Say what MTEB keeps results under."""
    own = name or str(getattr(encoder, "name", type(encoder).__name__))
    if own.count("/") != 1:
        if name is not None:
            message = f"name={name!r}; MTEB's names have the form 'organisation/model'"
            raise InvalidInputError(message)
        own = f"latewood/{Path(own).name}"
    return ModelMeta.create_empty(
        {
            "name": own,
            "revision": revision or getattr(encoder, "revision", None),
            "embed_dim": getattr(encoder, "dim", None),
            "similarity_fn_name": ScoringFunction.MAX_SIM,
            "model_type": ["late-interaction"],
            "experiment_kwargs": dict(experiment) or None,
        }
    )
