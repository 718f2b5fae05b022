"""The fusion panel without a browser, on a small MNIST of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from resmoe_lab import workbench
from resmoe_lab._core.errors import CheckpointError, UsageError
from resmoe_lab.fusion import FUSED, MLPNet, save_network
from resmoe_lab.workbench import shipped
from resmoe_lab.workbench.ship import ship_fusion

from ...fusion.test_images import write_mnist
from .conftest import PATIENCE, check_files


@pytest.fixture
def network_files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two network files and a folder with images."""
    files = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        files.append(save_network(MLPNet((784, 20, 12, 10)), tmp_path / f"net-{seed}.safetensors"))
    return files[0], files[1], write_mnist(tmp_path)


@pytest.fixture
def panel(network_files: tuple[Path, Path, Path]) -> Iterator[Any]:
    first, second, data_dir = network_files
    shown = workbench.fusion(first, second, data_dir=data_dir).wait(PATIENCE)
    yield shown
    shown.close()


def test_the_slider_changes_picture_and_words(panel: Any, pictures: Callable[[Any], dict[str, bytes]]) -> None:
    before, message = pictures(panel), panel.message.value
    assert before["mixing"].startswith(b"\x89PNG")
    panel.weight.value = 1.0
    after = pictures(panel)
    assert after["mixing"] != before["mixing"]
    at = panel.view.at(1.0)
    assert at[FUSED] == at["B"]
    assert f"<b>{at['B']:.2f} %</b>" in panel.message.value != message
    assert "at 1.00: A " in panel.pictures["mixing"].alt


def test_everything_offered_can_be_saved(panel: Any) -> None:
    assert panel.save.files[0]["name"] == "net-0-net-1-fusion-accuracy.csv"
    check_files(panel)


def test_the_code_shows_the_same_again(panel: Any) -> None:
    panel.weight.value = 0.3
    panel.wait(PATIENCE)
    scope: dict[str, Any] = {}
    exec(panel.save.code.replace("; workbench.", "; made = workbench."), scope)
    again = scope["made"].wait(PATIENCE)
    assert again.save.code == panel.save.code
    assert "weight=0.3" in again.save.code
    assert bytes(again.pictures["mixing"].png) == bytes(panel.pictures["mixing"].png)
    assert "cached" in again.mark.value


def test_another_way_to_compare_is_computed_anew(panel: Any) -> None:
    before = panel.view
    panel.by.value = "activations"
    with pytest.raises(UsageError, match="200 samples are requested, expected from 1 to 40"):
        panel.wait(PATIENCE)
    panel._settled.wait(PATIENCE)
    assert "200 samples" in panel.message.value
    assert panel.view is before, "what was on the screen stays"


def test_frozen_charts_come_from_the_record_on_the_screen(panel: Any, texts: Callable[..., list[str]]) -> None:
    [chart] = panel.freeze().values()
    assert chart.to_json() == panel.view.charts()["mixing"].to_json()
    assert "Accuracy at weight 0.50" in texts(chart)


def test_the_two_may_change_places(panel: Any) -> None:
    before = panel.view.at(0.0)
    first, second = panel.first.value, panel.second.value
    panel.first.value, panel.second.value = second, first
    panel.wait(PATIENCE)
    assert panel.view.at(0.0)["A"] == before["B"]


def test_networks_of_other_widths_have_no_plain_average(panel: Any, tmp_path: Path) -> None:
    panel.second.value = str(save_network(MLPNet((784, 30, 12, 10)), tmp_path / "wide.safetensors"))
    panel.wait(PATIENCE)
    assert "vanilla average" not in panel.view.at(0.5)
    assert "networks of different widths have no vanilla average" in panel.message.value


def test_a_file_that_is_not_there_is_one_line_and_the_picture_stays(panel: Any) -> None:
    before = bytes(panel.pictures["mixing"].png)
    panel.first.value = "/no/such/<script>alert(1)</script>"
    with pytest.raises(CheckpointError):
        panel.wait(PATIENCE)
    panel._settled.wait(PATIENCE)
    assert "resmoe-error" in panel.message.value
    assert "no network at /no/such/" in panel.message.value
    assert "<script" not in panel.message.value
    assert bytes(panel.pictures["mixing"].png) == before


def test_it_shows_itself_as_a_widget(panel: Any) -> None:
    bundle = panel._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in (bundle[0] if isinstance(bundle, tuple) else bundle)


def test_without_networks_an_example_is_shown(
    network_files: tuple[Path, Path, Path], pictures: Callable[[Any], dict[str, bytes]]
) -> None:
    first, second, data_dir = network_files
    panel = workbench.fusion(data_dir=data_dir).wait(PATIENCE)
    assert "An example" in panel.message.value
    assert "came with the package" in panel.mark.value
    before = pictures(panel)["mixing"]
    panel.weight.value = 0.1
    at = panel.wait(PATIENCE).view.at(0.1)
    assert pictures(panel)["mixing"] != before
    assert at[FUSED] > max(at["A"], at["B"], at["vanilla average"]), "what the figure shows"
    assert f"<b>{at[FUSED]:.2f} %</b>" in panel.message.value
    check_files(panel)
    arguments = f"'', '', by='weights', weight=0.1, data_dir={str(data_dir)!r}"
    assert panel.save.code == f"from resmoe_lab import workbench; workbench.fusion({arguments})"
    panel.first.value, panel.second.value = str(first), str(second)
    panel.wait(PATIENCE)
    assert "example" not in panel.message.value
    panel.close()


def test_a_damaged_example_leaves_the_panel_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "FUSION_EXAMPLE", tmp_path / "none.npz")
    panel = workbench.fusion()
    assert panel.message.value.startswith("Name the files")
    assert panel.view is None
    panel.close()


def test_the_example_is_made_from_two_trained_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "FUSION_EXAMPLE", tmp_path / "example.npz")
    assert ship_fusion(data_dir=write_mnist(tmp_path, 240), epochs=1) == tmp_path / "example.npz"
    example = shipped.fusion_example()
    assert example is not None
    assert {"A", "B", FUSED} <= set(example.value.at(0.5).index)
