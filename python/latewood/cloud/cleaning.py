"""What no generation of a store needs any more."""

from datetime import timedelta

from latewood.cloud.generations import CHECKSUM, FILES, described, description_of, numbers
from latewood.cloud.store import Store
from latewood.forms.values import count_of, number_of


def clean(url: str, *, keep: int = 2, older_than: float = 86_400.0) -> int:
    """Remove from object storage the generations but the newest, and contents that none of these names.

    Parameters
    ----------
    url : str
        As for `Index.publish`.
    keep : int
        How many generations stay.
    older_than : float
        Seconds that a content must have been there, so that nothing is taken from somebody who is publishing. They are
        counted by the store's own clock, from its newest object on.

    Returns
    -------
    int
        How many objects were removed.

    Raises
    ------
    InvalidInputError, StorageError, CorruptIndexError
        As for `Index.publish`; nothing was removed that a generation needs.
    """
    keep, age = count_of(keep, "keep"), number_of(older_than, "older_than", least=0.0)
    store = Store(url)
    known = numbers(store)
    kept = [described(store, number) for number in known[-keep:]]
    needed = {file.sha256 for generation in kept for file in generation.files}
    # All else in the folder is somebody else's.
    contents = {name: told for name, told in store.names(FILES).items() if CHECKSUM.fullmatch(name)}
    now = max((time for _, time in contents.values()), default=None)
    gone = [description_of(number) for number in known[:-keep]]
    # First what names them: nobody who reads a description misses a content.
    store.delete(gone)
    limit = timedelta(seconds=age)
    old = [
        f"{FILES}/{name}"
        for name, (_, time) in contents.items()
        if name not in needed and now is not None and now - time >= limit
    ]
    store.delete(old)
    return len(gone) + len(old)
