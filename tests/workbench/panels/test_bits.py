"""Panels with methods that go by bits a weight."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

import resmoe_lab as rl
from resmoe_lab import cli, workbench
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.plots.series import error_text

from .conftest import PATIENCE

_METHODS = ["up", "rtn", "resmoe-up", "resmoe-coded"]


def test_the_slider_of_bits_shows_what_fits(pico_checkpoint: Checkpoint) -> None:
    panel = workbench.errors(pico_checkpoint, methods=_METHODS, equal="bytes", bits=6).wait(PATIENCE)
    stacks = [rl.load_stack(pico_checkpoint, layer=layer) for layer in rl.moe_layers(pico_checkpoint)]
    for bits in (6.0, 9.0):
        panel.bits.value = bits
        panel.wait(PATIENCE)
        values = panel._values()
        tables = [rl.errors_at_bits(s, methods=_METHODS, bits=[bits], center=rl.find_center(s)) for s in stacks]
        for name, value in values.items():
            rows = [table[table["method"] == name]["relative_error"].item() for table in tables]
            assert value == pytest.approx(sum(rows) / len(rows), rel=1e-5)
        assert f"at bits a weight {bits:g}" in panel._alt("errors")
        best = str(values.index[0])
        assert f"<b>{best}</b> has the lowest error: {error_text(values.iloc[0])}" in panel.message.value
        assert f"bits={bits}" in panel.save.code
    assert panel.controls["keep"].layout.display == "none"
    panel.close()


def test_bytes_in_the_panels_tables_are_those_that_are_stored(pico_checkpoint: Checkpoint) -> None:
    panel = workbench.errors(pico_checkpoint, methods=["resmoe-coded"]).wait(PATIENCE)
    stacks = [rl.load_stack(pico_checkpoint, layer=layer) for layer in rl.moe_layers(pico_checkpoint)]
    layers = [rl.compress_layer(s, method="resmoe-coded", keep=0.5, center=rl.find_center(s)) for s in stacks]
    row = panel.view.sizes.query("keep == 0.5").iloc[0]
    assert row["true_bytes"] == sum(rl.storage_ledger(layer).true_bytes for layer in layers)
    assert row["paper_bytes"] == sum(rl.storage_ledger(layer).paper_bytes for layer in layers)
    panel.close()


def test_at_equal_keep_it_says_how_many_bits_that_is(pico_checkpoint: Checkpoint) -> None:
    panel = workbench.errors(pico_checkpoint, methods=["up", "rtn"], keep=0.5).wait(PATIENCE)
    assert "Told 8 bits a weight, which is this keep of 16: rtn." in panel.message.value
    panel.close()


@pytest.mark.parametrize("method", ["rtn", "resmoe-coded", "coded", "mxfp4"])
def test_the_single_layer_takes_methods_by_bits(pico_checkpoint: Checkpoint, method: str) -> None:
    explorer = workbench.Explorer(pico_checkpoint, methods=["up"], method=method, keep=0.5).wait(PATIENCE)
    bits = 4 if method == "mxfp4" else 8
    assert f"{method} at keep 0.5, which is {bits} bits a weight: relative error" in explorer.message.value
    assert bytes(explorer.pictures["weights"].png).startswith(b"\x89PNG")
    for line in filter(None, explorer.save.command.split(" && ")):
        cli.app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)
    assert ("--bits 8" in explorer.save.command) == (method != "mxfp4")
    explorer.close()


def test_too_few_bits_are_said_not_raised(pico_checkpoint: Checkpoint) -> None:
    explorer = workbench.Explorer(pico_checkpoint, methods=["up"], method="rtn", keep=0.1).wait(PATIENCE)
    assert "keep 0.1 leaves 1.6 bits a weight, expected at least 2 bits" in explorer.message.value
    explorer.close()


def test_a_sweep_is_told_its_bits(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    choices: dict[str, Any] = {"methods": ["rtn"], "keeps": [0.25], "bits": [2, 3]}
    panel = workbench.sweep(pico_checkpoint, out=tmp_path / "out", **choices).wait(PATIENCE)
    assert panel.choices().config.bits == (2, 3)
    assert "--bits 2,3" in panel.command()
    assert "bits=[2.0, 3.0]" in panel.code()
    panel.form.bits.value = "17"
    with pytest.raises(rl.ResmoeError, match="bits is 17"):
        panel.choices()
    panel.close()
