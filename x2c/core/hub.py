"""Access to the Hugging Face hub and its local cache. The library is imported only when it is needed."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable
from pathlib import Path

PATIENCE_SECONDS = 3.0


def repository(source: str) -> str:
    """`owner/name` of a source such as `owner/name` or `hf-hub:owner/name`; empty for anything else."""
    name = source.removeprefix("hf-hub:")
    return name if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) else ""


def offline() -> bool:
    """Whether the user keeps libraries off the network (HF_HUB_OFFLINE)."""
    from huggingface_hub import constants

    asked = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    return asked or bool(constants.HF_HUB_OFFLINE)


@functools.cache
def answers() -> bool:
    """Whether the hub can be reached; asked with one short request per process."""
    from huggingface_hub import constants, get_session

    try:
        response = get_session().head(constants.ENDPOINT, timeout=PATIENCE_SECONDS)
    except Exception:  # The class of the error depends on the HTTP library that huggingface_hub uses.
        return False
    return bool(response.status_code < 500)


def cached(name: str, files: Iterable[str], revision: str) -> Path | None:
    """Return the folder of a repository's files in the local cache; None unless all are there."""
    from huggingface_hub import try_to_load_from_cache

    paths = [try_to_load_from_cache(name, file, revision=revision or None) for file in files]
    return Path(str(paths[0])).parent if paths and all(isinstance(path, str) for path in paths) else None


def snapshot(name: str, revision: str = "") -> Path:
    """The folder of a whole repository, from the local cache or fetched into it. Raises OSError where it cannot be had."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision or None))
    except Exception as error:  # Which one depends on the HTTP library that huggingface_hub happens to use.
        raise OSError(" ".join(str(error).split())) from error


def download(name: str, files: Iterable[str], revision: str) -> Path:
    """Download a repository's files into the local cache; return their folder. Raises OSError if that fails."""
    from huggingface_hub import snapshot_download

    if offline():
        raise OSError("HF_HUB_OFFLINE is set and it is not in the hub's cache")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(files)))
    except Exception as error:  # The class of the error depends on the HTTP library that huggingface_hub uses.
        raise OSError(str(error)) from error
