"""Checkpoints of the hub: configs and headers are fetched at once, weight files only when they are needed."""

from __future__ import annotations

import errno
import hashlib
import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from .._core.errors import CheckpointError, ResmoeError
from .._core.files import full_disk

T = TypeVar("T")
#: Files that models are opened with, whatever their tokenizer is called.
PATTERNS = (
    *("*.json", "*.jinja", "*.txt", "tokenizer*", "vocab*", "chat_template*", "additional_chat_templates/*.jinja"),
    *("*.model", "*.model.v*", "*.tiktoken", "*.spm", "LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*"),
)
#: All files but weights.
_METADATA_FILES = [*PATTERNS, "*.py"]
#: A hub that has too many requests is asked so many times, and waited for so many seconds at most each time.
_ATTEMPTS, _LONGEST_WAIT = 5, 300
_TOO_MANY_REQUESTS = 429


def fetch_snapshot(hub_id: str) -> Path:
    """Fetch a hub checkpoint's files without its weights; return their folder in the hub's cache, named by its commit.

    Raises
    ------
    CheckpointError
        If the hub cannot provide it.
    """
    from huggingface_hub import snapshot_download

    return Path(_asked(hub_id, lambda: snapshot_download(hub_id, allow_patterns=_METADATA_FILES)))


def fetch_file(hub_id: str, path: Path, folder: Path | None = None) -> Path:
    """Fetch one file of a snapshot, unless it is there, and return where it lies.

    Parameters
    ----------
    hub_id
        The checkpoint.
    path
        The file in the snapshot.
    folder
        Where it is fetched to if it is not in the cache (None: into the cache).

    Raises
    ------
    CheckpointError
        If the hub cannot provide it, or what came is not what the hub announced.
    OutputError
        If there is no room for it.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    place = path if folder is None or path.is_file() else folder / path.name
    if place.is_file():
        return place
    revision = path.parent.name
    url = hf_hub_url(hub_id, path.name, revision=revision)
    announced = _asked(hub_id, lambda: get_hf_file_metadata(url).etag, path.name)
    place = Path(
        _asked(hub_id, lambda: hf_hub_download(hub_id, path.name, revision=revision, local_dir=folder), path.name)
    )
    _check_content(hub_id, place, announced)
    return place


def fetch_header(hub_id: str, path: Path) -> dict[str, dict[str, Any]]:
    """Fetch the header of a snapshot's safetensors file without the file."""
    return {name: dict(entry) for name, entry in _header(hub_id, path.name, path.parent.name).items()}


@cache  # of a commit, which does not change: whoever opens a checkpoint for every layer asks once
def _header(hub_id: str, name: str, revision: str) -> dict[str, dict[str, Any]]:
    from huggingface_hub import HfApi

    metadata = _asked(hub_id, lambda: HfApi().parse_safetensors_file_metadata(hub_id, name, revision=revision), name)
    return {
        key: {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": tensor.data_offsets}
        for key, tensor in metadata.tensors.items()
    }


def has_file(hub_id: str, path: Path) -> bool:
    """Whether a snapshot has a file, in the cache or on the hub."""
    from huggingface_hub import HfApi

    revision = path.parent.name
    return path.is_file() or _asked(
        hub_id, lambda: HfApi().file_exists(hub_id, path.name, revision=revision), path.name
    )


def _check_content(hub_id: str, place: Path, announced: str | None) -> None:
    """Refuse, and remove, a large file that is not the one the hub announced: their tags are SHA-256 hashes."""
    if announced is None or re.fullmatch(r"[0-9a-f]{64}", announced) is None:
        return
    with place.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != announced:
        place.resolve().unlink(missing_ok=True)
        place.unlink(missing_ok=True)
        raise CheckpointError(
            f"{place.name} of {hub_id!r} came with SHA-256 {found[:16]}..., expected {announced[:16]}... as the hub "
            "announces it: it was removed, run again"
        )


def _asked(hub_id: str, question: Callable[[], T], name: str | None = None) -> T:
    """Ask the hub, again after a while where it has too many requests.

    Raises
    ------
    CheckpointError, OutputError
        In place of what the hub's client raises.
    """
    from huggingface_hub.errors import HfHubHTTPError, NotASafetensorsRepoError, SafetensorsParsingError

    # The client's HTTP library differs between its versions; what their errors have in common is the base of its own.
    transport: type[Exception] = HfHubHTTPError.__bases__[0]
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return question()
        except (NotASafetensorsRepoError, SafetensorsParsingError) as error:
            raise CheckpointError(f"{name} of {hub_id!r} is no safetensors file ({_first_line(error)})") from error
        except (transport, OSError, ValueError) as error:
            seconds = _told_to_wait(error, attempt)
            if seconds is None or attempt == _ATTEMPTS:
                raise _hub_error(hub_id, error, name) from error
            time.sleep(seconds)
    raise AssertionError("the last attempt returns or raises")


def _told_to_wait(error: Exception, attempt: int) -> float | None:
    """Seconds after which a hub that has too many requests may be asked again (None: that was not its answer)."""
    response = next((found.response for found in _causes(error) if hasattr(found, "response")), None)
    if response is None or response.status_code != _TOO_MANY_REQUESTS:
        return None
    said = response.headers.get("Retry-After", "")
    return min(_LONGEST_WAIT, float(said) if said.isdecimal() else 2.0**attempt)


def _hub_error(hub_id: str, error: Exception, name: str | None) -> ResmoeError:
    """What is said in place of an error of the hub's client, or of one that led to it."""
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

    what = f"{hub_id!r}" if name is None else f"{name} of {hub_id!r}"
    causes = list(_causes(error))
    if full := next((one for one in causes if isinstance(one, OSError) and one.errno == errno.ENOSPC), None):
        return full_disk(what, full)
    if any(isinstance(one, GatedRepoError) for one in causes):
        reason, advice = "it is gated", "accept its conditions on the hub, and log in with 'hf auth login'"
    elif any(isinstance(one, RepositoryNotFoundError) for one in causes):
        reason = "no such checkpoint, or a private one"
        advice = "check the name, or log in with 'hf auth login'"
    elif any(isinstance(one, OfflineModeIsEnabled) for one in causes) or _offline():
        reason, advice = "HF_HUB_OFFLINE is set, and it is not in the cache", "unset it, or fetch it once before"
    elif any(getattr(getattr(one, "response", None), "status_code", 0) == _TOO_MANY_REQUESTS for one in causes):
        reason, advice = "too many requests", "log in with 'hf auth login', or run again later"
    else:
        reason, advice = _first_line(causes[-1]), "check the name, the network and HF_ENDPOINT, and run again"
    here = f"checkpoint {what} is no local folder" if name is None else f"{what} is not here"
    return CheckpointError(f"{here}, and the hub did not provide it ({reason}): {advice}")


def _offline() -> bool:
    from huggingface_hub import is_offline_mode

    return is_offline_mode()


def _causes(error: BaseException) -> list[BaseException]:
    """An error and those that it was raised from, which the hub's client hides below its advice."""
    found = [error]
    while (before := found[-1].__cause__) is not None and before not in found:
        found.append(before)
    return found


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
