"""Seismic as a first stage."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from latewood.common.packages import import_optional
from latewood.common.types import Id
from latewood.errors import InvalidInputError
from latewood.forms.ids import plain_ids
from latewood.forms.values import count_of, number_of
from latewood.rerank.first_stages.protocol import FirstStageHits, texts_of


class SeismicFirstStage:
    """Seismic, a fast index of learned sparse vectors: the package `pyseismic-lsr`.

    Parameters
    ----------
    index : seismic.SeismicIndex
        Or one of its variants with string tokens.
    encode : callable
        List of query texts → for each a mapping of token (as the index was built with) to weight.
    ids : sequence of str or int, optional
        The documents' ids, where they are not strings: Seismic gives all ids back as strings.
    query_cut, heap_factor
        As in Seismic: tokens of a query that are looked at, and how much is pruned.

    Notes
    -----
    Seismic's batch call gives results in the order in which its threads finish; they are put in order here. Its scores
    are rounded to half precision, and it may find fewer than k documents.
    """

    def __init__(
        self,
        index: Any,
        encode: Callable[[list[str]], Sequence[Mapping[Any, float]]],
        ids: Iterable[Id] | None = None,
        *,
        query_cut: int = 10,
        heap_factor: float = 0.7,
    ) -> None:
        if not callable(getattr(index, "batch_search", None)) or not callable(encode):
            message = (
                f"a {type(index).__name__} and a {type(encode).__name__} are given; pass a Seismic index and what "
                "encodes queries"
            )
            raise InvalidInputError(message)
        self._index = index
        self._encode = encode
        self._by_name = None if ids is None else {str(key): key for key in plain_ids(ids)}
        self._options = {
            "query_cut": count_of(query_cut, "query_cut"),
            "heap_factor": number_of(heap_factor, "heap_factor", least=0.0, most=1.0),
        }

    def search(self, query: str, k: int) -> FirstStageHits:
        """See `FirstStage.search`."""
        return self.search_batch([query], k)[0]

    def search_batch(self, queries: Sequence[str], k: int) -> list[FirstStageHits]:
        """See `FirstStage.search_batch`."""
        texts, depth = texts_of(queries, "queries"), count_of(k, "k")
        kind = import_optional("seismic", purpose="the Seismic first stage").get_seismic_string()
        encoded = [{str(token): float(weight) for token, weight in entry.items()} for entry in self._encode(texts)]
        # A query without tokens finds nothing, and Seismic is not asked.
        asked = [position for position, entry in enumerate(encoded) if entry]
        found: list[FirstStageHits] = [([], []) for _ in texts]
        if not asked:
            return found
        results = self._index.batch_search(
            queries_ids=np.array([str(position) for position in asked], dtype=kind),
            query_components=[np.array(list(encoded[position]), dtype=kind) for position in asked],
            query_values=[np.array(list(encoded[position].values()), dtype=np.float32) for position in asked],
            k=depth,
            **self._options,
        )
        for hits in filter(None, results):
            names = [str(name) for _, _, name in hits]
            keys: list[Id] = [self._by_name[name] for name in names] if self._by_name is not None else list(names)
            found[int(hits[0][0])] = (keys, [float(score) for _, score, _ in hits])
        return found
