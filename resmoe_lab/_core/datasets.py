"""Where data sets are looked for. Nothing from outside is ever kept in the repository."""

from __future__ import annotations

import gzip
import json
import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cache import cache_folder
from .errors import DataError
from .files import whole_file

#: Environment variable that names a folder of data sets.
DATA_VARIABLE = "RESMOE_DATA"
_REPOSITORY = Path(__file__).resolve().parents[2]
Rows = Iterable[dict[str, Any]]


def _jsonl(rows: Rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _text(rows: Rows) -> str:
    # The hub's copy has lost the single space that a blank line is in the published file.
    return "".join(row["text"] or " \n" for row in rows)


def _labels(rows: Rows) -> str:
    return "".join(f"{row['label']}\n" for row in rows)


def _idx_images(rows: Rows) -> bytes:
    return _idx([row["image"].tobytes() for row in rows], shape=(28, 28))


def _idx_labels(rows: Rows) -> bytes:
    return _idx([bytes([row["label"]]) for row in rows], shape=())


def _idx(items: list[bytes], *, shape: tuple[int, ...]) -> bytes:
    """Pack bytes in the idx format: two zeros, the code of bytes, the number of axes, their lengths, the values."""
    header = struct.pack(f">BBBB{1 + len(shape)}I", 0, 0, 8, 1 + len(shape), len(items), *shape)
    return gzip.compress(header + b"".join(items), mtime=0)


@dataclass(frozen=True)
class _HubFile:
    """How a file is made from a data set of the hub."""

    hub_id: str
    config: str | None
    split: str
    write: Callable[[Rows], str | bytes]


_ON_THE_HUB = {
    "wikitext-2/wiki.test.raw": _HubFile("Salesforce/wikitext", "wikitext-2-raw-v1", "test", _text),
    "lambada/lambada_test.jsonl": _HubFile("EleutherAI/lambada_openai", "default", "test", _jsonl),
    "piqa/valid.jsonl": _HubFile("baber/piqa", None, "validation", _jsonl),
    "piqa/valid-labels.lst": _HubFile("baber/piqa", None, "validation", _labels),
    "mnist/train-images-idx3-ubyte.gz": _HubFile("ylecun/mnist", "mnist", "train", _idx_images),
    "mnist/train-labels-idx1-ubyte.gz": _HubFile("ylecun/mnist", "mnist", "train", _idx_labels),
    "winogrande/dev.jsonl": _HubFile("allenai/winogrande", "winogrande_xl", "validation", _jsonl),
}


def data_folders(data_dir: str | Path | None = None) -> list[tuple[str, Path]]:
    """The folders that are searched, in order, each with the name that messages call it."""
    folders = []
    if data_dir is not None:
        folders.append(("--data-dir", Path(data_dir)))
    if os.environ.get(DATA_VARIABLE):
        folders.append((f"${DATA_VARIABLE}", Path(os.environ[DATA_VARIABLE])))
    folders.append(("data/local", _REPOSITORY / "data" / "local"))
    return folders


def find_data(name: str, *, data_dir: str | Path | None = None) -> Path:
    """Find a file or folder of a data set, on the hub last.

    Parameters
    ----------
    name
        Relative path, such as ``"wikitext-2/wiki.test.raw"``.
    data_dir
        Searched before ``$RESMOE_DATA`` and ``data/local/``.

    Raises
    ------
    DataError
        If it is in none of the places, naming them all.
    """
    for _, folder in data_folders(data_dir):
        if (folder / name).exists():
            return folder / name
    try:
        return _from_hub(name)
    except (KeyError, ImportError, OSError, ValueError) as error:
        reason = "not kept there" if isinstance(error, KeyError) else str(error).strip().splitlines()[0]
        places = ", ".join(f"{label} ({folder})" for label, folder in data_folders(data_dir))
        raise DataError(
            f"data set {name!r} not found in --data-dir, ${DATA_VARIABLE}, data/local/ or on the hub; "
            f"looked in {places} and there ({reason}): set ${DATA_VARIABLE} to the folder that holds it"
        ) from error


def _from_hub(name: str) -> Path:
    """Make the file from the hub's data set, once, in the user's cache folder."""
    source = _ON_THE_HUB[name]
    path = cache_folder() / name
    if not path.is_file():
        from datasets import load_dataset

        content = source.write(load_dataset(source.hub_id, source.config, split=source.split))
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            part.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path
