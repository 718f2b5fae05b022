"""Where data sets are looked for. Nothing from outside is ever kept in the repository."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import DataError

#: Environment variable that names a folder of data sets.
DATA_VARIABLE = "RESMOE_DATA"
_REPOSITORY = Path(__file__).resolve().parents[2]


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
    """Find a file or folder of a data set.

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
    places = ", ".join([f"{label} ({folder})" for label, folder in data_folders(data_dir)])
    raise DataError(
        f"data set {name!r} not found in --data-dir, ${DATA_VARIABLE}, data/local/ or on the hub; looked in {places}: "
        f"put it in one of them or set ${DATA_VARIABLE} to the folder that holds it"
    )
