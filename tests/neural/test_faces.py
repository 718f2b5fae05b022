"""CelebA's published layout: pictures by part, one line for whatever is missing; ten tiny pictures stand in for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resmoe_lab._core.errors import DataError
from resmoe_lab.neural.experiments import experiment_pictures, run_experiment, settings_table
from resmoe_lab.neural.experiments.celeba import WEIGHTS, filters
from resmoe_lab.neural.faces import faces


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten pictures of 22 x 18 pixels in one colour each, six of them for training."""
    (tmp_path / "img_align_celeba").mkdir()
    rows = []
    for number in range(10):
        pixels = np.full((22, 18, 3), 25 * number, dtype=np.uint8)
        pixels[:, :9, 0] = 255
        Image.fromarray(pixels).save(tmp_path / "img_align_celeba" / f"{number + 1:06}.jpg", quality=95)
        rows.append(f"{number + 1:06}.jpg {0 if number < 6 else 1 if number < 7 else 2}")
    (tmp_path / "list_eval_partition.txt").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_every_part_has_its_pictures(folder: Path) -> None:
    train = faces(folder, "train", side=2, count=100)
    assert train.shape == (6, 12)
    blue = train.view(6, 2, 2, 3)[..., 2].mean(dim=(1, 2))
    assert blue.tolist() == pytest.approx([25 * number / 255 for number in range(6)], abs=0.06)
    assert train.view(6, 2, 2, 3)[:, :, 0, 0].min() > 0.8
    assert len(faces(folder, "test", side=2, count=100)) == 3
    assert len(faces(folder, "train", side=2, count=4)) == 4


def test_what_is_missing_or_damaged_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match="holds no folder img_align_celeba, expected CelebA as published"):
        faces(folder / "img_align_celeba", side=2, count=9)
    with pytest.raises(DataError, match=r"tells of 1 pictures for validation in .*, expected at least 2"):
        faces(folder, "validation", side=2, count=9)
    (folder / "img_align_celeba" / "000003.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"picture .*000003.jpg cannot be read"):
        faces(folder, side=2, count=9)
    (folder / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg zero\n")
    with pytest.raises(DataError, match=r"line 2 of .* is '000002.jpg zero', expected a file's name and 0, 1 or 2"):
        faces(folder, side=2, count=9)
    (folder / "list_eval_partition.txt").write_text("000001.jpg 0\n")
    with pytest.raises(DataError, match=r"000002.jpg is not in .*list_eval_partition.txt"):
        faces(folder, side=2, count=9)
    (folder / "list_eval_partition.txt").unlink()
    with pytest.raises(DataError, match=r"list_eval_partition.txt cannot be read .*it tells which pictures"):
        faces(folder, side=2, count=9)
    for path in (folder / "img_align_celeba").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"holds no pictures, expected \*.jpg"):
        faces(folder, side=2, count=9)


def test_faces_are_the_barycenter_of_what_is_seen_of_them() -> None:
    """The maps are gradients of convex potentials that average to the identity: symmetric, and positive definite."""
    maps = filters(5)
    mean = sum(weight * matrix for weight, matrix in zip(WEIGHTS, maps, strict=True))
    assert torch.allclose(mean, torch.eye(75, dtype=torch.float64), atol=1e-12)
    for matrix in maps:
        assert torch.allclose(matrix, matrix.T, atol=1e-12)
        values = torch.linalg.eigvalsh(matrix)
        assert values.min() > 0.15
        assert values.max() > 1.2, "it changes something"


def test_a_small_run_goes_from_a_folder_to_metrics_and_pictures(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    table = run_experiment("celeba", quick=True, data=folder, out=out)
    values = dict(zip(table["metric"], table["value"], strict=True))
    assert values["L2-UVP without maps"] > 0
    assert all(np.isfinite(value) for value in values.values())
    [(label, rows)] = experiment_pictures("celeba", quick=True, data=folder, out=out)
    assert label == "8 x 8 pixels"
    assert rows["faces"].shape == rows["mapped from way 1"].shape == (3, 8, 8, 3)
    assert settings_table("celeba", quick=True, data=folder)["steps"].tolist() == [60]


def test_without_a_folder_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("RESMOE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="data set 'celeba' not found in --data-dir"):
        run_experiment("celeba", quick=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "celeba").symlink_to(folder)
    monkeypatch.setenv("RESMOE_DATA", str(tmp_path / "data"))
    assert settings_table("celeba", quick=True)["case"].tolist() == ["8 x 8 pixels"]
