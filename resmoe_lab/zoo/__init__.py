"""The zoo's models: how they are trained, and where they are found."""

from __future__ import annotations

from pathlib import Path

from .._core.cache import cache_folder
from .recipes import RECIPES as RECIPES
from .upcycle_recipes import UPCYCLED as UPCYCLED

_PACKAGE = Path(__file__).resolve().parents[1]


def data_folder() -> Path:
    """The folder of embedded models and tasks: inside an installed package, or ``data/`` of a checkout."""
    packaged = _PACKAGE / "data"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "data"


def folder(name: str) -> Path:
    """Where the model called `name` is, or is to be built: upcycled ones are too large for the repository."""
    return cache_folder() / "zoo" / name if name in UPCYCLED else data_folder() / "zoo" / name


def names() -> list[str]:
    """Names of all models that the zoo can build."""
    return sorted(RECIPES | UPCYCLED)


def is_built(name: str) -> bool:
    """Whether the model is there, ready to be opened."""
    return (folder(name) / "model.safetensors").is_file()
