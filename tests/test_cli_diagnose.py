"""The verb `diagnose`, as scripts see it."""

import json
import sys

import pytest

from resmoe_lab import cli


def _run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["resmoe-lab", "diagnose", *arguments])
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
    assert layer["advice"].startswith("A common expert")


def test_without_a_run_of_the_model_there_is_no_load(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = _run(monkeypatch, capsys, "mixtral-tiny", "--layers", "1", "--centers", "average", "--no-routing")
    assert code == 0
    assert "Layer 1. A common expert" in out


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
