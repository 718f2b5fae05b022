"""What the tests, the examples in the docstrings and the notebooks share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


#: Files that take longest begin first: workers get whole files, and a long one at the end would leave the others idle.
_FIRST = ("tests/notebooks", "tests/browser", "tests/workbench", "resmoe_lab/experiments")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the files that take longest first."""

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(config.rootpath).as_posix()
        return next((number for number, folder in enumerate(_FIRST) if path.startswith(folder)), len(_FIRST))

    items.sort(key=place)


@pytest.fixture(autouse=True, scope="session")
def user_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the whole run, its kernels and its other processes included, one empty cache of scores."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all workers
    with pytest.MonkeyPatch.context() as patch:
        # Fonts are no result: matplotlib goes on with those that it has found before.
        patch.setenv("MPLCONFIGDIR", os.environ.get("MPLCONFIGDIR") or _matplotlib_cache())
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield


def _matplotlib_cache() -> str:
    import matplotlib

    return matplotlib.get_cachedir()
