"""Folders of indexes ↔ dataset repositories of the Hugging Face Hub."""

from pathlib import Path
from typing import Any

from latewood.common.packages import import_optional
from latewood.errors import InvalidInputError, StorageError
from latewood.forms.values import optional, text_of

FILES = ["MANIFEST-*", "NEWEST", "*.lwd"]
"""What belongs to an index; its lock and whatever else lies beside are nobody's business."""


def upload(folder: str, repo_id: str, **options: Any) -> str:
    """Upload the files of an index in one commit, in the place of those of an older one; gives the commit's address."""
    hub = _hub("uploading an index")
    _check(repo_id, options)
    create = {"private": options.pop("private"), "token": options["token"]}
    message = options.pop("commit_message") or "Upload an index of latewood"

    def work() -> str:
        hub.create_repo(repo_id, repo_type="dataset", exist_ok=True, **create)
        done = hub.upload_folder(
            repo_id=repo_id,
            repo_type="dataset",
            folder_path=folder,
            allow_patterns=FILES,
            delete_patterns=FILES,
            commit_message=message,
            **options,
        )
        return str(done.commit_url)

    return str(_told(work, f"the index {folder!r} cannot be uploaded to {repo_id!r}"))


def download(repo_id: str, **options: Any) -> str:
    """Download the files of an index, those that are not in the cache yet; gives their folder."""
    hub = _hub("downloading an index")
    _check(repo_id, options)
    folder = _told(
        lambda: hub.snapshot_download(repo_id, repo_type="dataset", allow_patterns=FILES, **options),
        f"the index {repo_id!r} cannot be downloaded",
    )
    if not any(Path(folder).glob("MANIFEST-*")):
        message = f"the dataset repository {repo_id!r} holds no index; push_to_hub puts one there"
        raise InvalidInputError(message)
    return str(folder)


def _hub(purpose: str) -> Any:
    return import_optional("huggingface_hub", extra="hub", purpose=purpose)


def _check(repo_id: Any, options: dict[str, Any]) -> None:
    text_of(repo_id, "repo_id")
    for name in ("revision", "commit_message"):
        optional(text_of, options.get(name), name)


def _told(work: Any, what: str) -> Any:
    """Do work on the network and tell in one line what went wrong."""
    try:
        return work()
    # A repository's name that is none.
    except ValueError as error:
        message = f"{what}: {error}"
        raise InvalidInputError(message) from error
    # Networks fail in many ways, each with an exception of some layer.
    except Exception as error:
        message = f"{what}: {' '.join(str(error).split())[:500] or type(error).__name__}"
        raise StorageError(message) from error
