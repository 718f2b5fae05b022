"""The four places, in their order, the hub played by a stand-in."""

import gzip
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from resmoe_lab._core import datasets
from resmoe_lab._core.datasets import find_data
from resmoe_lab._core.errors import DataError

from ..conftest import data_or_skip

NAME = "wikitext-2/wiki.test.raw"
HUB_ROWS = [{"text": ""}, {"text": " = Title = \n"}, {"text": ""}, {"text": " Some words . \n"}]


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No data set is anywhere, and the hub cannot be reached."""
    monkeypatch.delenv("RESMOE_DATA", raising=False)
    monkeypatch.setattr(datasets, "_REPOSITORY", tmp_path / "repository")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    return tmp_path


def _put(folder: Path, text: str) -> None:
    (folder / NAME).parent.mkdir(parents=True)
    (folder / NAME).write_text(text)


def test_the_order_of_the_folders(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _put(nowhere / "repository" / "data" / "local", "local")
    assert find_data(NAME).read_text() == "local"
    _put(nowhere / "variable", "variable")
    monkeypatch.setenv("RESMOE_DATA", str(nowhere / "variable"))
    assert find_data(NAME).read_text() == "variable"
    _put(nowhere / "option", "option")
    assert find_data(NAME, data_dir=nowhere / "option").read_text() == "option"
    assert find_data(NAME, data_dir=nowhere / "empty").read_text() == "variable"


@pytest.mark.parametrize("name", [NAME, "no/such/thing"])
def test_nowhere_names_all_four(nowhere: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"--data-dir, \$RESMOE_DATA, data/local/ or on the hub") as caught:
        find_data(name)
    assert "\n" not in str(caught.value)


def test_the_hub_is_asked_last_and_once(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []

    def load_dataset(hub_id: str, config: str, split: str) -> list[dict[str, str]]:
        requests.append((hub_id, config, split))
        return HUB_ROWS

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    path = find_data(NAME)
    assert path.read_text() == " \n = Title = \n \n Some words . \n"
    assert find_data(NAME) == path
    assert requests == [("Salesforce/wikitext", "wikitext-2-raw-v1", "test")]
    assert path.is_relative_to(nowhere / "cache")


def test_the_published_file_has_a_space_in_its_blank_lines() -> None:
    text = data_or_skip(NAME).read_text("utf-8")
    assert " \n = Robert Boulter = \n \n" in text
    assert "\n\n" not in text


def test_mnist_of_the_hub_becomes_the_published_files(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    from resmoe_lab.fusion import mnist

    pixels = np.arange(3 * 784, dtype=np.uint8).reshape(3, 28, 28)
    rows = [{"image": Image.fromarray(picture), "label": 7 - index} for index, picture in enumerate(pixels)]
    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=lambda *_, split: rows))
    images = mnist("test")
    assert images.labels.tolist() == [7, 6, 5]
    assert np.allclose(images.inputs[:, 0].numpy() * 0.3081 + 0.1307, pixels / 255, atol=1e-6)


def test_pictures_of_the_hub_become_the_published_files() -> None:
    """The idx format, read back as the format's page says."""
    from PIL import Image

    from resmoe_lab._core.datasets import _idx_images, _idx_labels

    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (3, 28, 28), dtype=np.uint8)
    rows = [{"image": Image.fromarray(picture), "label": place} for place, picture in enumerate(pictures)]
    images, labels = (gzip.decompress(write(rows)) for write in (_idx_images, _idx_labels))
    assert images[:4] == bytes([0, 0, 8, 3])
    assert np.frombuffer(images, ">i4", count=3, offset=4).tolist() == [3, 28, 28]
    assert np.array_equal(np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28), pictures)
    assert labels[:8] == bytes([0, 0, 8, 1, 0, 0, 0, 3])
    assert list(labels[8:]) == [0, 1, 2]
