"""Records of panels on disk: tables and arrays in one file, from which nothing but values is read."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from .._core.cache import cache_folder
from .._core.files import atomic_write
from .._core.parsing import parse_json, read_arrays
from ..checkpoint import Checkpoint
from ..scoring.score_cache import code_key
from ..store.manifest import checkpoint_hash

_PACKAGE = __name__.partition(".")[0]
_RECORD = "record"
#: Larger records are computed anew: what is kept is what is small.
_MAX_BYTES = 1 << 24
#: Where records are to be short, arrays of float32 from this many values on are stored in float16: hidden states, and
#: what routers say of every token.
_MANY = 2048
_HALF = np.dtype(np.float16)


def record_path(checkpoint: Checkpoint, panel: str, key: Hashable) -> Path:
    """Return the file of a panel's record: by the model's weights, what was asked, and the package's code."""
    text = json.dumps([checkpoint_hash(checkpoint), panel, repr(key), code_key()])
    return cache_folder() / "panels" / f"{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}.npz"


def save_record(record: Any, path: Path, *, short: bool = False) -> bool:
    """Write a record, unless it is large; return whether it was written.

    Parameters
    ----------
    record
        A dataclass of this package, of plain values, mappings, sequences, arrays, tensors, tables and such dataclasses.
    path
        An ``.npz`` file.
    short
        Store long arrays of float32 in float16, which are read as float32 again.
    """
    arrays = _Arrays(short)
    tree = _encode(record, arrays)
    if sum(array.nbytes for array in arrays.values()) > _MAX_BYTES:
        return False
    arrays[_RECORD] = np.frombuffer(json.dumps(tree).encode(), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part, part.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)
    return True


def load_record(path: Path, kind: type[Any]) -> Any:
    """Return the record that was written to a file; None if there is none, or it is damaged or of another kind."""
    try:
        arrays = read_arrays(path)
        record = _decode(parse_json(arrays.pop(_RECORD).tobytes()), arrays)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return None
    return record if isinstance(record, kind) else None


class _Arrays(dict[str, np.ndarray]):
    """Arrays by name, each once however often a record holds it."""

    def __init__(self, short: bool) -> None:
        super().__init__()
        self._short = short
        self._names: dict[int, tuple[str, Any]] = {}

    def name(self, value: np.ndarray | torch.Tensor) -> str:
        """Return the name of an array or tensor, which is added if it is new."""
        if id(value) not in self._names:
            array = value if isinstance(value, np.ndarray) else value.detach().cpu().numpy()
            if self._short and array.dtype == np.float32 and array.size >= _MANY:
                array = _halved(array)
            self._names[id(value)] = f"a{len(self)}", value  # held: nothing else gets its id meanwhile
            self[f"a{len(self)}"] = array
        return self._names[id(value)][0]


def _encode(value: Any, arrays: _Arrays) -> Any:
    """Values as JSON knows them; arrays go into a dictionary, under their number."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray | torch.Tensor):
        return {"array" if isinstance(value, np.ndarray) else "tensor": arrays.name(value)}
    if isinstance(value, pd.DataFrame):
        columns = [[str(name), str(value[name].dtype), _column(value[name], arrays)] for name in value]
        return {"table": columns, "rows": len(value)}
    if is_dataclass(value) and type(value).__module__.startswith(f"{_PACKAGE}."):
        inner = {field.name: _encode(getattr(value, field.name), arrays) for field in fields(value)}
        return {"class": f"{type(value).__module__}:{type(value).__name__}", "fields": inner}
    if isinstance(value, Mapping):
        return {"items": [[_encode(name, arrays), _encode(inner, arrays)] for name, inner in value.items()]}
    if isinstance(value, list | tuple):
        return {"tuple" if isinstance(value, tuple) else "list": [_encode(inner, arrays) for inner in value]}
    raise TypeError(f"{type(value).__name__} is no value of a record")


def _halved(array: np.ndarray) -> np.ndarray:
    """An array of float32 in float16, where all its values are within its bounds."""
    return array.astype(_HALF) if np.abs(array).max() <= np.finfo(_HALF).max else array


def _column(column: pd.Series, arrays: _Arrays) -> Any:
    if column.dtype.kind in "biuf" and not isinstance(column.dtype, pd.api.extensions.ExtensionDtype):
        return _encode(column.to_numpy(), arrays)
    return _encode([None if pd.isna(value) else value for value in column], arrays)


def _decode(tree: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if not isinstance(tree, dict):
        return tree
    if "array" in tree:
        return _whole(arrays[tree["array"]])
    if "tensor" in tree:
        return torch.from_numpy(_whole(arrays[tree["tensor"]]))
    if "table" in tree:
        columns = {
            name: pd.Series(_decode(values, arrays)).astype(kind) if tree["rows"] else pd.Series(dtype=kind)
            for name, kind, values in tree["table"]
        }
        return pd.DataFrame(columns)
    if "class" in tree:
        return _class(tree["class"])(**{name: _decode(inner, arrays) for name, inner in tree["fields"].items()})
    if "items" in tree:
        return {_decode(name, arrays): _decode(inner, arrays) for name, inner in tree["items"]}
    kind = tuple if "tuple" in tree else list
    return kind(_decode(inner, arrays) for inner in tree[kind.__name__])


def _whole(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype == _HALF else array


def _class(name: str) -> type[Any]:
    """A dataclass of this package by its module and name, and nothing else."""
    module, _, attribute = name.partition(":")
    # A file imports nothing: the panel that reads it has imported what its records are made of.
    if not module.startswith(f"{_PACKAGE}.") or module not in sys.modules:
        raise ValueError(f"{name} is not of this package")
    kind = getattr(sys.modules[module], attribute)
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise ValueError(f"{name} is no dataclass")
    return kind
