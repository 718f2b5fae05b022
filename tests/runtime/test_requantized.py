"""Packed checkpoints opened as integers: a small file that runs at a fixed rate."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import resmoe_lab as rl
from resmoe_lab._core.errors import UsageError
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.compress import CompressionConfig, compress_checkpoint
from resmoe_lab.runtime.experts import ResMoEExperts

TOKENS = torch.tensor([[1, 5, 9, 30, 200, 7, 12, 90]])


@pytest.fixture(scope="module")
def packed(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "out"
    compress_checkpoint(tiny, out, CompressionConfig(method="resmoe-coded", bits=3, layers="1"))
    return out


def _blocks(model: torch.nn.Module) -> list[ResMoEExperts]:
    return [module for module in model.modules() if isinstance(module, ResMoEExperts)]


@pytest.mark.parametrize(("mode", "bits", "least"), [("int8", 8, 40.0), ("int4", 4, 19.0)])
def test_experts_are_integers_of_the_restored_ones(packed: Path, mode: str, bits: int, least: float) -> None:
    """Each weight is within the rounding of its group, and the products follow."""
    restored, integers = rl.load(packed, "restored"), rl.load(packed, mode)
    [before], [after] = _blocks(restored), _blocks(integers)
    assert after.layout.format == "grouped"
    assert (after.layout.encoding.bits, after.center_encoding) == (bits, None)
    for k in range(8):
        original = before.restore(k)
        lost = (after.restore(k) - original).square().mean() / original.square().mean()
        assert -10 * torch.log10(lost) > least
    assert not torch.equal(restored(TOKENS).logits, integers(TOKENS).logits)
    close = torch.nn.functional.cosine_similarity(restored(TOKENS).logits, integers(TOKENS).logits, dim=-1)
    assert float(close.min()) > 0.99


def test_it_is_not_saved_over_what_it_was_read_from(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="copy the checkpoint's folder instead"):
        rl.load(packed, "int4").save_pretrained(tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_coded_checkpoint_opens_in_plain_transformers_and_saves(packed: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(packed)
    model.save_pretrained(tmp_path / "again")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    assert torch.equal(model(TOKENS).logits, again(TOKENS).logits)
    assert _blocks(model)[0].layout.format == "coded"


def test_a_damaged_stream_is_named(packed: Path, tmp_path: Path) -> None:
    """Bytes of one expert are changed in memory, past the hashes of the files."""
    model = rl.load(packed)
    [block] = _blocks(model)
    block.clear_cache()
    block.residual.data.data[50] ^= 1
    with pytest.raises(rl.ResmoeError, match="expert 0 is damaged"):
        block.restore(0)
