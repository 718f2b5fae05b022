"""Cache of scores on disk, so that a notebook that is run again costs nothing."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from .._core.cache import cache_folder
from .._core.files import atomic_write, make_folder
from .._core.parsing import read_json
from ..checkpoint import Checkpoint
from .likelihood import Likelihood
from .outcome import Outcome

#: Seconds between two writes of an unfinished evaluation's results.
_SAVE_INTERVAL = 2.0
_BLOCK_BYTES = 1 << 24
_HASH = re.compile(r"[0-9a-f]{32}")


def model_key(checkpoint: Checkpoint) -> str:
    """BLAKE2 hash of a checkpoint's config, tokenizer and every byte of its weights.

    Hashes of files are cached by size and time of change. A checkpoint of the hub has its commit, which stands for
    every byte.
    """
    if checkpoint.hub_id is not None:
        return checkpoint.folder.name
    digest = hashlib.blake2b(digest_size=16)
    weights = checkpoint.files
    small = sorted(path for path in checkpoint.folder.glob("*") if path.suffix in (".json", ".model", ".txt", ".jinja"))
    for path in [*small, *weights]:
        # Manifests and cards hold times and machines, which change no score.
        if path.name not in ("resmoe_manifest.json", "card.json"):
            digest.update(f"{path.name} {_file_hash(path)}".encode())
    return digest.hexdigest()


def _file_hash(path: Path) -> str:
    status = path.stat()
    return _hashed(str(path.absolute()), status.st_size, status.st_mtime_ns)


@cache
def _hashed(path: str, size: int, changed: int) -> str:
    """Hash of a file's bytes, cached in memory and on disk under path, size and time of change."""
    name = hashlib.blake2b(f"{path} {size} {changed}".encode(), digest_size=16).hexdigest()
    cached = cache_folder() / "hashes" / name
    with suppress(OSError, ValueError):
        if _HASH.fullmatch(known := cached.read_text("utf-8")):
            return known
    digest = hashlib.blake2b(digest_size=16)
    with Path(path).open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    if size > _BLOCK_BYTES:  # a small file is read again as quickly
        make_folder(cached.parent)
        with atomic_write(cached) as part:
            part.write_text(digest.hexdigest(), "utf-8")
    return digest.hexdigest()


@cache
def code_key() -> str:
    """BLAKE2 hash of the package's own code: a corrected method or scoring never gets scores of the old code."""
    digest = hashlib.blake2b(version("resmoe-lab").encode(), digest_size=16)
    root = Path(__file__).resolve().parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


class ScoreCache:
    """Outcomes on disk, each under the key that decides it.

    Parameters
    ----------
    folder
        Where they are stored; a folder of the user's cache if not given.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self._folder = Path(folder) if folder is not None else cache_folder() / "scores"

    def path(self, key: Mapping[str, Any]) -> Path:
        """Return the file of a key, of which any JSON is made; it also depends on the package's code."""
        text = json.dumps({**key, "code": code_key()}, sort_keys=True, default=str)
        return self._folder / f"{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}.json"

    def get(self, key: Mapping[str, Any]) -> list[Outcome] | None:
        """Return the outcomes stored under a key; None if there are none, or the file is damaged."""
        stored = _read_sealed(self.path(key))
        return None if stored is None else [Outcome.from_dict(outcome) for outcome in stored]

    def put(self, key: Mapping[str, Any], outcomes: list[Outcome]) -> None:
        """Store outcomes, and remove the partial results of their evaluation."""
        _write_sealed(self.path(key), [outcome.as_dict() for outcome in outcomes], key=dict(key))
        self.partial(key).path.unlink(missing_ok=True)

    def table(self, key: Mapping[str, Any], compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Return the table stored under a key, computed and stored if there is none."""
        if (stored := self.known_table(key)) is not None:
            return stored
        table = compute()
        _write_sealed(self.path(key), table.to_dict("list"), key=dict(key))
        return table

    def known_table(self, key: Mapping[str, Any]) -> pd.DataFrame | None:
        """Return the table stored under a key; None if there is none, or the file is damaged."""
        stored = _read_sealed(self.path(key))
        return None if stored is None else pd.DataFrame(stored)

    def partial(self, key: Mapping[str, Any]) -> PartialResults:
        """Return where an unfinished evaluation stores its results."""
        return PartialResults(self.path(key).with_suffix(".partial"))


class PartialResults:
    """Results of an unfinished evaluation, on disk within a few seconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written = time.monotonic()

    def load(self) -> dict[int, Likelihood]:
        """Return the stored results; none if the file is missing or damaged."""
        stored = _read_sealed(self.path) or {}
        return {int(number): Likelihood(**result) for number, result in stored.items()}

    def save(self, results: Mapping[int, Likelihood]) -> None:
        """Store all results so far, at most every few seconds."""
        if time.monotonic() - self._written < _SAVE_INTERVAL:
            return
        _write_sealed(self.path, {str(number): asdict(result) for number, result in results.items()})
        self._written = time.monotonic()


def _write_sealed(path: Path, content: Any, **more: Any) -> None:
    """Write a JSON file that tells by itself whether it is what was written."""
    text = json.dumps(content)
    make_folder(path.parent)
    with atomic_write(path) as part:
        sealed = {**more, "content": content, "seal": _seal(text)}
        part.write_text(json.dumps(sealed, default=str), "utf-8")


def _read_sealed(path: Path) -> Any:
    """Return the content of such a file; None if it is missing or not what was written: it is computed again then."""
    try:
        sealed = read_json(path)
        content = sealed["content"]
        return content if sealed["seal"] == _seal(json.dumps(content)) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _seal(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def hash_rows(rows: Any) -> str:
    """BLAKE2 hash of a task's rows, wherever they come from."""
    return hashlib.blake2b(json.dumps(rows, sort_keys=True).encode(), digest_size=16).hexdigest()
