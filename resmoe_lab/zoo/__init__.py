"""The zoo: recipes and folders of small models."""

from __future__ import annotations

from pathlib import Path

from .._core.cache import cache_folder
from .recipes import RECIPES as RECIPES
from .upcycle_recipes import UPCYCLED as UPCYCLED

_PACKAGE = Path(__file__).resolve().parents[1]


def data_folder() -> Path:
    """Return the folder of embedded models and tasks: in an installed package, or ``data/`` of a checkout."""
    packaged = _PACKAGE / "data"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "data"


def folder(name: str) -> Path:
    """Return the folder of a model, built or not; upcycled models are in the user's cache."""
    return cache_folder() / "zoo" / name if name in UPCYCLED else data_folder() / "zoo" / name


def names() -> list[str]:
    """Return the names of all models that the zoo can build."""
    return sorted(RECIPES | UPCYCLED)


def is_built(name: str) -> bool:
    """Whether a model has been built."""
    return (folder(name) / "model.safetensors").is_file()
