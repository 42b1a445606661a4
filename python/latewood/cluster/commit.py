"""A commit of a cluster, as one call reads it: whatever is asked of shards meanwhile, it is asked of this commit."""

from collections.abc import Mapping, Sequence
from typing import Any

from latewood.cluster.asking import MissingShardsError, Shards
from latewood.cluster.manifest import ClusterManifest
from latewood.common.types import Id
from latewood.errors import InvalidInputError, ServiceError


class Commit:
    """Asks shards about one commit.

    Parameters
    ----------
    manifest : ClusterManifest
        Of the commit.
    shards : Shards
    timeout : float
        Seconds for each question.
    partial : bool
        Whether `ask_some` may do without shards.
    """

    def __init__(self, manifest: ClusterManifest, shards: Shards, *, timeout: float, partial: bool) -> None:
        self.signature = manifest.signature
        self.places = range(len(manifest.shards))
        self.missing: set[int] = set()
        """Shards that did not answer `ask_some` once."""
        self._manifest = manifest
        self._shards = shards
        self._timeout = timeout
        self._partial = partial

    def ask(self, method: str, calls: Mapping[int, tuple[Any, ...]]) -> dict[int, Any]:
        """Ask shards, all of which must answer."""
        try:
            return self._answers(method, calls)
        except MissingShardsError as error:
            raise self._incomplete(error, "") from error

    def ask_some(self, method: str, calls: Mapping[int, tuple[Any, ...]]) -> dict[int, Any]:
        """Ask shards, of which some may be missing where that is allowed; `missing` has them from then on.

        One that is missing is not asked again: it may be back, and nobody is to wait for it twice.
        """
        try:
            return self._answers(method, {place: own for place, own in calls.items() if place not in self.missing})
        except MissingShardsError as error:
            if not self._partial:
                raise self._incomplete(error, ", or with allow_partial=True") from error
            self.missing.update(error.shards)
            return error.answers

    def everywhere(self, *arguments: Any) -> dict[int, tuple[Any, ...]]:
        """Give calls that ask every shard the same."""
        return dict.fromkeys(self.places, arguments)

    def owners(self, keys: Sequence[Id]) -> list[int]:
        """Give the shard that owns each id."""
        wrong = next(filter(self._manifest.excludes, keys), None)
        if wrong is not None:
            message = f"the id {wrong!r} is no {self._manifest.id_kind}, as the ids of this cluster are"
            raise InvalidInputError(message)
        return self._manifest.shards_of(keys).tolist() if keys else []

    def owned(self, keys: Sequence[Id]) -> dict[int, list[Id]]:
        """Give the ids that each shard owns."""
        owned: dict[int, list[Id]] = {}
        for key, place in zip(keys, self.owners(keys), strict=True):
            owned.setdefault(place, []).append(key)
        return owned

    def _answers(self, method: str, calls: Mapping[int, tuple[Any, ...]]) -> dict[int, Any]:
        # What is one value for several shards stays one, and is written once.
        pinned_once = {id(arguments): (self.signature, *arguments) for arguments in calls.values()}
        pinned = {place: pinned_once[id(arguments)] for place, arguments in calls.items()}
        return self._shards.ask(method, pinned, timeout=self._timeout)

    def _incomplete(self, error: MissingShardsError, otherwise: str) -> ServiceError:
        names = ", ".join(f"shard {place}" for place in error.shards)
        if error.late:
            message = (
                f"{names} did not answer within {self._timeout:g} seconds; ask for less at once, or open with a longer "
                f"timeout{otherwise}"
            )
            return ServiceError(message, 504)
        message = (
            f"no replica of {names} answers; see that Ray runs, and that it has a node and CPUs for each, or open with "
            f"more replicas{otherwise}"
        )
        return ServiceError(message, 503)
