"""Measured routing of a model, read from a file: how often each expert is used, where the model itself cannot run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .._core.errors import DataError, UsageError
from .._core.parsing import read_arrays
from ..centers import Statistics
from ..checkpoint import Checkpoint
from ..experts import family_of

#: Compressed, an expert's number takes a bit or more, and unpacked no more than 64.
_MOST_TIMES = 64
#: The array of an .npz file that holds several, and the columns of a .parquet file.
_ARRAY, _COLUMNS = "experts", ("layer", "expert")
_SUFFIXES = (".npz", ".parquet")


@dataclass(frozen=True)
class UsageTrace:
    """How often a model's routers chose each expert of each layer.

    Parameters
    ----------
    source
        The file's name and the beginning of its hash.
    tokens
        How many tokens were routed.
    usage
        Layer -> (N,) float64: share of the choices that each expert received; the shares add up to one.
    """

    source: str
    tokens: int
    usage: Mapping[int, torch.Tensor]

    def statistics(
        self, layers: Sequence[int], measured: Mapping[int, Statistics] | None = None
    ) -> dict[int, Statistics]:
        """Return what is known about the experts of some layers.

        Parameters
        ----------
        layers
            Numbers of the layers.
        measured
            What calibration text tells about them: everything but the usage is left as it is.
        """
        if measured:
            return {
                layer: replace(own, usage=self.usage[layer], source=f"{own.source}, usage of {self.source}")
                for layer, own in measured.items()
            }
        return {layer: Statistics(self.usage[layer], source=self.source, tokens=self.tokens) for layer in layers}


def read_usage(path: str | Path, checkpoint: Checkpoint) -> UsageTrace:
    """Read which experts a model's tokens took.

    Parameters
    ----------
    path
        An ``.npz`` file with one array of whole numbers, or several of which one is called ``experts``: (tokens, layers
        with experts, top_k) numbers of experts, -1 for none. Or a ``.parquet`` file with one row a choice, in columns
        ``layer`` (the model's own number) and ``expert``.
    checkpoint
        The model; only its headers are read.

    Returns
    -------
    UsageTrace
        Usage of all layers with experts.

    Raises
    ------
    UsageError
        If it is no such file, or pyarrow is missing to read it.
    DataError
        If it is damaged, or of another model.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import resmoe_lab as rl
    >>> from resmoe_lab.scoring.usage_trace import read_usage
    >>> experts = np.zeros((6, 4, 2), dtype=np.uint8)
    >>> experts[:, :, 1] = 3
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/trace.npz", experts=experts)
    ...     trace = read_usage(f"{folder}/trace.npz", rl.open_checkpoint("mixtral-tiny"))
    >>> trace.tokens, trace.usage[2][[0, 3]].tolist()
    (6, [0.5, 0.5])
    """
    path = Path(path)
    if path.suffix not in _SUFFIXES:
        raise UsageError(f"routing trace {path.name!r}, expected a file in {' or '.join(_SUFFIXES)}: convert it")
    try:
        digest = _digest(path)
    except OSError as error:
        raise DataError(f"routing trace {path} cannot be read ({error.strerror}): check the path") from error
    family = family_of(checkpoint)
    shape = family.shape(checkpoint.config)
    counter = _Counter(path.name, checkpoint.name, family.layers(checkpoint), (shape.num_experts, shape.top_k))
    tokens = counter.add_array(_array(path)) if path.suffix == ".npz" else counter.add_rows(_batches(path))
    return UsageTrace(f"routing trace {path.name} ({digest})", tokens, counter.usage())


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return file_digest(stream, partial(blake2b, digest_size=4)).hexdigest()


class _Counter:
    """Counts choices, and refuses those that no token of the model can have made."""

    def __init__(self, file: str, model: str, layers: Sequence[int], sizes: tuple[int, int]) -> None:
        self._file, self._model, self._layers = file, model, list(layers)
        self._num_experts, self._top_k = sizes
        self._counts = np.zeros((len(layers), self._num_experts), dtype=np.int64)

    def _of_another(self, found: str, expected: str) -> DataError:
        return DataError(
            f"routing trace {self._file} is of another model than {self._model}: found {found}, expected {expected}"
        )

    def _check(self, experts: np.ndarray) -> None:
        if experts.size and (int(experts.max()) >= self._num_experts or int(experts.min()) < -1):
            wrong = int(experts.max()) if int(experts.max()) >= self._num_experts else int(experts.min())
            raise self._of_another(f"expert {wrong}", f"numbers from 0 to {self._num_experts - 1}, -1 for none")

    def add_array(self, experts: np.ndarray) -> int:
        """Count an array of (tokens, layers, k); return the number of tokens."""
        if experts.ndim != 3 or experts.dtype.kind not in "iu":
            raise DataError(
                f"routing trace {self._file} holds {experts.dtype} of shape {experts.shape}, "
                "expected whole numbers (tokens, layers, k)"
            )
        if experts.shape[1] != len(self._layers):
            raise self._of_another(f"{experts.shape[1]} layers", f"{len(self._layers)} layers with experts")
        if experts.shape[2] != self._top_k:
            raise self._of_another(f"{experts.shape[2]} experts a token", str(self._top_k))
        self._check(experts)
        for row in range(len(self._layers)):
            chosen = experts[:, row].astype(np.int64).ravel()
            self._counts[row] += np.bincount(chosen[chosen >= 0], minlength=self._num_experts)
        return len(experts)

    def add_rows(self, batches: Iterator[tuple[np.ndarray, np.ndarray]]) -> int:
        """Count rows of layer and expert; return the number of tokens that they are of."""
        choices = np.zeros(len(self._layers), dtype=np.int64)
        known = np.array(self._layers)
        for layers, experts in batches:
            places = np.searchsorted(known, layers).clip(max=len(known) - 1)
            if (other := known[places] != layers).any():
                raise self._of_another(f"layer {int(layers[other][0])}", f"layers with experts {self._layers}")
            self._check(experts)
            choices += np.bincount(places, minlength=len(known))
            chosen = experts >= 0
            np.add.at(self._counts, (places[chosen], experts[chosen]), 1)
        if len(set(choices.tolist())) != 1 or int(choices[0]) % self._top_k:
            found = f"{choices.min():,} to {choices.max():,} rows a layer"
            raise self._of_another(found, f"the same number in each, {self._top_k} a token")
        return int(choices[0]) // self._top_k

    def usage(self) -> dict[int, torch.Tensor]:
        """Return the share of the choices of each layer."""
        totals = self._counts.sum(1)
        if (empty := np.flatnonzero(totals == 0)).size:
            raise DataError(
                f"routing trace {self._file} has no token in layer {self._layers[empty[0]]}: trace more text"
            )
        shares = self._counts / totals[:, None]
        return {layer: torch.from_numpy(row.copy()) for layer, row in zip(self._layers, shares, strict=True)}


def _array(path: Path) -> np.ndarray:
    """The array of an .npz file."""
    try:
        arrays = read_arrays(path, most_times=_MOST_TIMES)
    except ValueError as error:
        raise DataError(f"routing trace {path} is damaged ({error}): make it again") from error
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    if _ARRAY not in arrays:
        raise DataError(f"routing trace {path.name} holds arrays {sorted(arrays)}, expected one called {_ARRAY!r}")
    return arrays[_ARRAY]


def _batches(path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Layers and experts of a .parquet file, some rows at a time: however much it unpacks to, memory stays small."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(
            f"routing trace {path.name} needs pyarrow: pip install 'resmoe-lab[trace]', or convert it to .npz"
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            schema: Any = file.schema_arrow
            kinds = [schema.field(name).type if name in schema.names else None for name in _COLUMNS]
            if not all(kind is not None and pa.types.is_integer(kind) for kind in kinds):
                raise DataError(
                    f"routing trace {path.name} has columns {schema.names}, expected whole numbers in {list(_COLUMNS)}"
                )
            for batch in file.iter_batches(batch_size=1 << 16, columns=list(_COLUMNS)):
                if any(batch.column(name).null_count for name in _COLUMNS):
                    raise DataError(f"routing trace {path.name} has rows without a layer or an expert: make it again")
                layers, experts = (batch.column(name).cast(pa.int64()).to_numpy() for name in _COLUMNS)
                yield layers, experts
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise DataError(f"routing trace {path} is damaged ({' '.join(str(error).split())}): make it again") from error
