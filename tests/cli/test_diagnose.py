"""The verb `diagnose`, equal bytes and calibration, as scripts see them."""

import json
import sys
from pathlib import Path

import pytest

from resmoe_lab import cli

from ..experts import pico


def _run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    return _call(monkeypatch, capsys, "diagnose", *arguments)


def _call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["resmoe-lab", *arguments])
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, *capsys.readouterr()


def test_every_layer_gets_its_figures_and_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("mixtral-tiny", "--layers", "0", "--centers", "average,wasserstein", "--tokens", "300", "--json")
    code, out, _ = _run(monkeypatch, capsys, *arguments)
    assert code == 0
    [layer] = json.loads(out)["layers"]
    assert layer["layer"] == 0
    assert layer["residual_gain"].keys() == {"average", "wasserstein"}
    for key in ("spectrum", "permutation_distance", "similarity", "equal_bytes"):
        assert layer[key]
    assert layer["routing_load"]["largest"] >= 1 / 8
    assert layer["advice"].startswith("A center")


def test_without_a_run_of_the_model_there_is_no_load(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = _run(monkeypatch, capsys, "mixtral-tiny", "--layers", "1", "--centers", "average", "--no-routing")
    assert code == 0
    assert "Layer 1. A center" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--centers", "waserstein"), "unknown center 'waserstein': did you mean wasserstein"),
        (("--keep", "0"), "keep is 0, expected a number in (0, 1]"),
        (("--text", "piqa"), "task 'piqa' has no running text"),
        (("--centers", "wasserstein-usage", "--no-routing"), "needs calibration statistics and has none"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = _run(monkeypatch, capsys, "mixtral-tiny", "--layers", "0", *arguments)
    assert code == 2
    assert out == ""
    assert message in err.splitlines()[-1]


@pytest.mark.parametrize("method", ["up", "resmoe-up", "meo"])
def test_equal_bytes_decide_what_is_kept(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, budget = pico.save(pico.mixtral(), tmp_path / "pico"), 1400
    arguments = ("--out", str(tmp_path / "out"), "--layers", "0", "--method", method, "--match-bytes", str(budget))
    code, out, err = _call(monkeypatch, capsys, "compress", str(checkpoint), *arguments, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert 0 < result["keep"] < 1
    assert 0.6 * budget < result["bytes"] <= budget


def test_a_calibrated_method_is_told_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("mixtral-tiny", "--out", str(tmp_path / "out"), "--layers", "0", "--method", "resmoe-up-aware")
    code, _, err = _call(monkeypatch, capsys, "compress", *arguments)
    assert code == 2
    assert "method 'resmoe-up-aware' needs calibration statistics" in err
    assert not (tmp_path / "out").exists()
    calibration = ("--calibrate", "storyworld_perplexity", "--tokens", "300")
    code, out, err = _call(monkeypatch, capsys, "compress", *arguments, *calibration, "--json")
    assert code == 0, err
    manifest = json.loads(Path(json.loads(out)["manifest"]).read_text())
    assert manifest["settings"]["calibration"]["source"] == "storyworld_perplexity"
