"""Packed checkpoints that version 0.1.0 wrote open as they did, and compute what they computed then."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import resmoe_lab
from resmoe_lab.checkpoint import open_checkpoint

from ..experts import pico

FOLDER = Path(__file__).parents[1] / "data" / "packed-0.1.0"
LOGITS = load_file(FOLDER / "last_logits.safetensors")


@pytest.mark.parametrize("case", sorted(LOGITS))
def test_it_computes_what_it_computed_then(case: str) -> None:
    name, mode = case.rsplit(".", 1)
    model = resmoe_lab.load(FOLDER / name, mode=mode)
    logits = pico.logits(model, torch.arange(12)[None])[0, -1]
    torch.testing.assert_close(logits, LOGITS[case], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted({case.rsplit(".", 1)[0] for case in LOGITS}))
def test_saved_again_it_is_the_same(name: str, tmp_path: Path) -> None:
    model = resmoe_lab.load(FOLDER / name)
    model.save_pretrained(tmp_path)
    again = resmoe_lab.load(tmp_path)
    assert torch.equal(pico.logits(again, torch.arange(12)[None]), pico.logits(model, torch.arange(12)[None]))
    assert open_checkpoint(tmp_path).packed
