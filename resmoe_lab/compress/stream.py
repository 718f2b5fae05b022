"""Shards of a hub checkpoint: fetched ahead of the work that takes them, and deleted after it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Protocol, TypeVar

from .._core.errors import UsageError
from ..checkpoint import Checkpoint
from .config import CompressionConfig

#: Where shards that will be deleted are fetched to, in the output folder.
SHARDS_FOLDER = ".shards"


class Step(Protocol):
    """Work that takes some tensors of a checkpoint."""

    def names(self, checkpoint: Checkpoint) -> Iterable[str]:
        """Return the names of the tensors."""


S = TypeVar("S", bound=Step)


def check_discard(checkpoint: Checkpoint, config: CompressionConfig, *, scheduler: str | None) -> None:
    """Refuse to delete shards where there are none to delete, or where all of them are needed to the end.

    Raises
    ------
    UsageError
        Saying which.
    """
    if checkpoint.hub_id is None:
        raise UsageError(
            f"discard deletes shards that were fetched, found {checkpoint.source} on this machine: omit it"
        )
    if scheduler is not None:
        raise UsageError(f"discard goes shard by shard in one process, found scheduler {scheduler!r}: omit one of them")
    if config.export == "gguf":
        raise UsageError("discard goes shard by shard, and a GGUF export needs all of them at its end: omit it")
    if config.calibration is not None:
        raise UsageError("discard goes shard by shard, and calibration text runs the whole model: omit one of them")


def in_order_of_shards(checkpoint: Checkpoint, steps: Iterable[S]) -> list[S]:
    """Return steps in the order in which no shard is needed again once the next ones have come."""
    return sorted(steps, key=lambda step: max(_files(checkpoint, step)))


def streamed(checkpoint: Checkpoint, steps: Sequence[S]) -> Generator[S, None, None]:
    """Yield each step once its shards are there; whoever asks for the next one has done it.

    While a step is done, the next shard is fetched. Where a checkpoint has a folder of its own for its shards, those
    that no further step takes are deleted from it.

    Raises
    ------
    CheckpointError, OutputError
        If a shard cannot be fetched; steps before it have been yielded.
    """
    needed = [_files(checkpoint, step) for step in steps]
    last = {file: number for number, files in enumerate(needed) for file in files}
    shards = _Ahead(list(last), checkpoint.fetched) if checkpoint.hub_id is not None else None
    for number, (step, files) in enumerate(zip(steps, needed, strict=True)):
        for file in files if shards is not None else ():
            assert shards is not None
            shards.wait(file)
        yield step
        for file in files:
            if checkpoint.shards is not None and last[file] == number:
                (checkpoint.shards / file.name).unlink(missing_ok=True)


def most_shard_bytes(checkpoint: Checkpoint, steps: Iterable[Step]) -> int:
    """Return the most bytes of shards that lie in a folder of their own at once, the one that is fetched included."""
    sizes = dict[Path, int]()
    for info in checkpoint.tensors.values():
        parts = [info] if info.encoded is None else [part for _, part in info.encoded.parts.values()]
        for part in parts:
            sizes[part.file] = sizes.get(part.file, 0) + part.nbytes
    needed = sorted((_files(checkpoint, step) for step in steps), key=max)
    order = list({file: None for files in needed for file in files})
    last = {file: number for number, files in enumerate(needed) for file in files}
    most = 0
    for number, files in enumerate(needed):
        come = max(order.index(file) for file in files) + 2
        most = max(most, sum(sizes[file] for file in order[:come] if last[file] >= number))
    return most


def remove_shards(folder: Path, *, parts_only: bool = False) -> None:
    """Remove the shards in an output folder, or only the parts of those that a killed run was fetching."""
    place = folder / SHARDS_FOLDER
    shutil.rmtree(place / ".cache" if parts_only else place, ignore_errors=True)


def _files(checkpoint: Checkpoint, step: Step) -> list[Path]:
    return sorted({file for name in step.names(checkpoint) for file in checkpoint.tensors[name].files})


class _Ahead:
    """Fetches files one after another, one ahead of those that were waited for.

    Parameters
    ----------
    files
        In the order in which they are waited for first.
    fetch
        Fetches one.
    """

    def __init__(self, files: Sequence[Path], fetch: Callable[[Path], Path]) -> None:
        self._fetch, self._files = fetch, list(files)
        self._coming: dict[Path, Future[Path]] = {}

    def wait(self, file: Path) -> None:
        """Wait for a file, and have the next one fetched."""
        self._start(file)
        self._coming[file].result()
        following = self._files.index(file) + 1
        if following < len(self._files):
            self._start(self._files[following])

    def _start(self, file: Path) -> None:
        if file not in self._coming:
            self._coming[file] = Future()
            # A daemon: a run that is stopped does not wait for gigabytes.
            Thread(target=self._run, args=(file,), daemon=True).start()

    def _run(self, file: Path) -> None:
        try:
            self._coming[file].set_result(self._fetch(file))
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._coming[file].set_exception(error)
