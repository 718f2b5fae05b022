"""Search for data sets, in folders and on the hub. External data never enters the repository."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .cache import cache_folder
from .errors import DataError
from .files import atomic_write
from .idx import idx_bytes

#: Environment variable with a folder of data sets.
DATA_VARIABLE = "RESMOE_DATA"
_REPOSITORY = Path(__file__).resolve().parents[2]
Rows = Iterable[dict[str, Any]]


def _jsonl(rows: Rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _text(rows: Rows) -> bytes:
    # The hub's copy lacks the single space of blank lines in the published file.
    return "".join(row["text"] or " \n" for row in rows).encode()


def _labels(rows: Rows) -> bytes:
    return "".join(f"{row['label']}\n" for row in rows).encode()


def _idx_labels(rows: Rows) -> bytes:
    """Encode labels in MNIST's published format, a compressed idx file."""
    return idx_bytes(np.array([row["label"] for row in rows], np.uint8))


def _idx_images(rows: Rows) -> bytes:
    """Encode images in MNIST's published format, a compressed idx file."""
    return idx_bytes(np.stack([np.asarray(row["image"], np.uint8) for row in rows]))


@dataclass(frozen=True)
class _HubFile:
    """A file that can be created from a data set of the hub."""

    hub_id: str
    config: str | None
    split: str
    write: Callable[[Rows], bytes]


_HUB_FILES = {
    "wikitext-2/wiki.test.raw": _HubFile("Salesforce/wikitext", "wikitext-2-raw-v1", "test", _text),
    "lambada/lambada_test.jsonl": _HubFile("EleutherAI/lambada_openai", "default", "test", _jsonl),
    "piqa/valid.jsonl": _HubFile("baber/piqa", None, "validation", _jsonl),
    "piqa/valid-labels.lst": _HubFile("baber/piqa", None, "validation", _labels),
    "winogrande/dev.jsonl": _HubFile("allenai/winogrande", "winogrande_xl", "validation", _jsonl),
    "mnist/train-images-idx3-ubyte.gz": _HubFile("ylecun/mnist", None, "train", _idx_images),
    "mnist/train-labels-idx1-ubyte.gz": _HubFile("ylecun/mnist", None, "train", _idx_labels),
    "mnist/t10k-images-idx3-ubyte.gz": _HubFile("ylecun/mnist", None, "test", _idx_images),
    "mnist/t10k-labels-idx1-ubyte.gz": _HubFile("ylecun/mnist", None, "test", _idx_labels),
}


def data_folders(data_dir: str | Path | None = None) -> list[tuple[str, Path]]:
    """Return the folders that are searched, in order, each with its name for messages."""
    folders = []
    if data_dir is not None:
        folders.append(("--data-dir", Path(data_dir)))
    if os.environ.get(DATA_VARIABLE):
        folders.append((f"${DATA_VARIABLE}", Path(os.environ[DATA_VARIABLE])))
    folders.append(("data/local", _REPOSITORY / "data" / "local"))
    return folders


def find_data(name: str, *, data_dir: str | Path | None = None) -> Path:
    """Find a file or folder of a data set, in local folders or else on the hub.

    Parameters
    ----------
    name
        Relative path, such as ``"wikitext-2/wiki.test.raw"``.
    data_dir
        Searched before ``$RESMOE_DATA`` and ``data/local/``.

    Raises
    ------
    DataError
        If it is in none of them.
    """
    for _, folder in data_folders(data_dir):
        if (folder / name).exists():
            return folder / name
    try:
        return _from_hub(name)
    except (KeyError, ImportError, OSError, ValueError) as error:
        reason = "not available there" if isinstance(error, KeyError) else str(error).strip().splitlines()[0]
        folders = ", ".join(f"{label} ({folder})" for label, folder in data_folders(data_dir))
        raise DataError(
            f"data set {name!r} not found in --data-dir, ${DATA_VARIABLE}, data/local/ or on the hub; "
            f"looked in {folders} and there ({reason}): set ${DATA_VARIABLE} to the folder that holds it"
        ) from error


def _from_hub(name: str) -> Path:
    """Create the file from the hub's data set in the user's cache folder, if it is not there yet."""
    source = _HUB_FILES[name]
    path = cache_folder() / name
    if not path.is_file():
        from datasets import load_dataset

        content = source.write(load_dataset(source.hub_id, source.config, split=source.split))
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as part:
            part.write_bytes(content)
    return path
