"""The compressed block computes what the restored experts compute, one by one."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu

from resmoe_lab._core.errors import UsageError
from resmoe_lab.experts import Block
from resmoe_lab.runtime.experts import ResMoEExperts
from resmoe_lab.store.encodings import FP32, Encoded, Encoding
from resmoe_lab.store.formats import FORMATS, Format
from resmoe_lab.store.layout import Layout
from resmoe_lab.store.matrices import LowRankMatrix, SeparateLowRankMatrix, SparseMatrix

INT8 = Encoding.parse("int8")
N, P, P_I = 5, 6, 9
GATED = (Block("w1", 0, P), Block("w3", P, 2 * P), Block("w2", 2 * P, 3 * P))
PLAIN = (Block("w1", 0, P), Block("w2", P, 2 * P))


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


FP64 = FP32  # what a test stores in float64 stands for itself, as float32 does


def layout(blocks: Sequence[Block], format: str, counts: Sequence[int], *, encoding: Encoding = FP64) -> Layout:
    spans = tuple((block.name, block.start, block.stop) for block in blocks)
    return Layout(format=format, encoding=encoding, blocks=spans, neurons=P_I, counts=tuple(counts))


def separate(blocks: Sequence[Block]) -> Format:
    """8 bit factors, whose scales are what a row is stored with; ranks differ, and one is zero."""
    ranks = [2, 0, 1, 3, 2]
    parts = [[LowRankMatrix(random(P_I, rank), random(rank, P)) for _ in blocks] for rank in ranks]
    stored = [SeparateLowRankMatrix(tuple(pairs)) for pairs in parts]
    return FORMATS["lowrank-separate"].pack(stored, layout(blocks, "lowrank-separate", ranks, encoding=INT8))


def joint(blocks: Sequence[Block]) -> Format:
    tensors = {"left.0.data": random(2 * N, P_I)}
    tensors |= {f"right.{number}.data": random(2 * N, P) for number in range(len(blocks))}
    return FORMATS["lowrank-joint"](layout(blocks, "lowrank-joint", [2] * N), tensors)


def rows(blocks: Sequence[Block]) -> Format:
    counts = [3, 0, 9, 1, 2]
    neurons = torch.cat([torch.randperm(P_I)[:count] for count in counts])
    tensors = {"values.data": random(sum(counts), blocks[-1].stop), "neurons": neurons}
    return FORMATS["rows"](layout(blocks, "rows", counts), tensors)


def sparse(blocks: Sequence[Block], format: str) -> Format:
    masks = torch.rand(N, P_I, blocks[-1].stop) < 0.4
    masks[1], masks[2] = False, True
    matrices = [SparseMatrix.where(mask, random(P_I, blocks[-1].stop)) for mask in masks]
    return FORMATS[format].pack(matrices, layout(blocks, format, [0] * N, encoding=INT8))


def bitmask(blocks: Sequence[Block]) -> Format:
    return sparse(blocks, "bitmask")


def csr(blocks: Sequence[Block]) -> Format:
    return sparse(blocks, "csr16")


def build(center: Tensor | None, stored: Format, **options: Any) -> ResMoEExperts:
    rows = None
    if center is not None:
        blocks = stored.layout.columns
        rows = Encoded(FP64, {"data": torch.cat([center[:, block.start : block.stop] for block in blocks])})
    return ResMoEExperts(rows, stored, activation=silu, dtype=torch.float64, **options)


def reference(module: ResMoEExperts, blocks: Sequence[Block], hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Token by token and expert by expert, from the restored matrices."""
    output = torch.zeros_like(hidden)
    for t, (experts, shares) in enumerate(zip(index, weights, strict=True)):
        for expert, share in zip(experts.tolist(), shares, strict=True):
            if expert >= N:
                continue
            matrix = module.restore(expert)
            first, *gate = [matrix[:, block.start : block.stop] @ hidden[t] for block in blocks[:-1]]
            neurons = silu(first) * gate[0] if gate else silu(first)
            output[t] += share * (matrix[:, blocks[-1].start :].T @ neurons)
    return output


@pytest.mark.parametrize("mode", ["factored", "restored"])
@pytest.mark.parametrize("blocks", [GATED, PLAIN], ids=["gated", "plain"])
@pytest.mark.parametrize("make", [separate, joint, rows, bitmask, csr])
@pytest.mark.parametrize("center", [True, False], ids=["center", "no center"])
@pytest.mark.parametrize("tokens", [0, 1, 7])
@pytest.mark.parametrize("grad", [False, True])
def test_it_is_the_restored_experts(mode, blocks, make, center, tokens, grad) -> None:
    torch.manual_seed(0)
    fitted, residual = random(P_I, blocks[-1].stop) if center else None, make(blocks)
    if mode == "factored" and not residual.multiplies:
        with pytest.raises(UsageError, match="restored mode"):
            build(fitted, residual, mode=mode)
        return
    module = build(fitted, residual, mode=mode, cache_experts=1)
    index = torch.stack([torch.randperm(N - 1)[:2] for _ in range(tokens)]) if tokens else torch.empty(0, 2).long()
    if tokens > 1:
        index[0] = N  # nobody
        index[1] = index[1, 0]  # one expert twice
    hidden, weights = random(tokens, P), random(tokens, 2)
    with torch.set_grad_enabled(grad):
        output = module(hidden, index, weights)
    torch.testing.assert_close(output, reference(module, blocks, hidden, index, weights), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("make", [separate, joint, rows])
def test_gradients_flow_as_through_the_restored_experts(make) -> None:
    torch.manual_seed(0)
    module = build(random(P_I, 3 * P), make(GATED))
    index, weights = torch.tensor([[0, 3], [3, 2], [4, 0]]), random(3, 2)
    hidden = random(3, P).requires_grad_()
    module.center.requires_grad_()
    wanted = [hidden, module.center]
    gradients = torch.autograd.grad(module(hidden, index, weights).square().sum(), wanted)
    expected = torch.autograd.grad(reference(module, GATED, hidden, index, weights).square().sum(), wanted)
    torch.testing.assert_close(gradients, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mode", ["factored", "restored"])
def test_merged_experts_of_a_token_are_computed_once_with_all_their_weight(mode) -> None:
    torch.manual_seed(0)
    counts = [4, 2]
    how = layout(GATED, "whole", counts).model_copy(update={"groups": (1, 0, 1, 1), "neurons": 4})
    module = build(None, FORMATS["whole"](how, {"values.data": random(sum(counts), 3 * P)}), mode=mode)
    index, weights, hidden = torch.tensor([[0, 3, 1], [2, 3, 0], [1, 4, 2]]), random(3, 3), random(3, P)
    merged = torch.tensor([[1, 1, 0], [1, 1, 1], [0, N, 1]])
    expected = reference(module, GATED, hidden, merged, weights)
    torch.testing.assert_close(module(hidden, index, weights), expected, rtol=1e-10, atol=1e-10)
    batch_sizes = []
    module.activation = lambda z: batch_sizes.append(z.shape[-2]) or silu(z)
    module(hidden, index, weights)
    assert batch_sizes == [2, 3]


def test_the_cache_holds_what_it_may() -> None:
    torch.manual_seed(0)
    module = build(random(P_I, 3 * P), joint(GATED), mode="restored", cache_experts=2)
    module(random(4, P), torch.tensor([[0, 1], [2, 3], [1, 4], [0, 2]]), random(4, 2))
    assert list(module._restored) == [3, 4]


@pytest.mark.parametrize("make", [separate, joint, rows, bitmask, csr])
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("tokens", [1, 7])
def test_under_autocast_it_is_the_same_to_sixteen_bits(make, grad, tokens) -> None:
    torch.manual_seed(0)
    module = build(random(P_I, 3 * P), make(GATED)).float()
    object.__setattr__(module, "dtype", torch.float32)
    hidden, index = random(tokens, P).float(), torch.randint(0, N, (tokens, 2))
    weights = random(tokens, 2).float()
    expected = module(hidden, index, weights)
    with torch.set_grad_enabled(grad), torch.autocast("cpu", torch.bfloat16):
        output = module(hidden, index, weights)
    torch.testing.assert_close(output.float(), expected, rtol=0.05, atol=0.05 * float(expected.abs().max()))


@pytest.mark.parametrize("make", [separate, joint])
@pytest.mark.parametrize("index", [[0, 3], [2, 2], [N, 1], [N, N]])
def test_a_single_token_is_computed_as_one_of_several(make, index) -> None:
    torch.manual_seed(0)
    module = build(random(P_I, 3 * P), make(GATED))
    hidden, weights = random(2, P), random(2, 2)
    several = module(hidden, torch.tensor([index, [1, 4]]), weights)
    with torch.no_grad():
        alone = module(hidden[:1], torch.tensor([index]), weights[:1])
    torch.testing.assert_close(alone, several[:1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("make", [separate, joint, rows])
def test_single_precision_is_exact_to_its_own_rounding(make) -> None:
    torch.manual_seed(0)
    module = build(random(P_I, 3 * P), make(GATED))
    hidden, index, weights = random(9, P), torch.randint(0, N, (9, 2)), random(9, 2)
    expected = module(hidden, index, weights)
    output = module.float()(hidden.float(), index, weights.float())
    torch.testing.assert_close(output.double(), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
