"""The compressed block computes what the restored experts compute, one by one."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu

from resmoe_lab._core.errors import UsageError
from resmoe_lab.experts import Block
from resmoe_lab.methods.bits import pack_mask
from resmoe_lab.runtime.experts import ResMoEExperts, apart
from resmoe_lab.runtime.lowrank import LowRankResidual
from resmoe_lab.runtime.residuals import Residual, RowsResidual, WholeExperts
from resmoe_lab.runtime.scattered import BitmaskResidual, CsrResidual
from resmoe_lab.store.encoding import Encoded, encode_ragged, encode_rows
from resmoe_lab.store.sparse import pack_columns

N, P, P_I = 5, 6, 9
GATED = (Block("w1", 0, P), Block("w3", P, 2 * P), Block("w2", 2 * P, 3 * P))
PLAIN = (Block("w1", 0, P), Block("w2", P, 2 * P))


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def stored(*shape: int) -> Encoded:
    return Encoded(random(*shape), None)


def whole(*shape: int) -> Encoded:
    """8 bit values, whose scales are what a row is stored with."""
    return encode_rows(random(*shape), "int8")


def separate(blocks: Sequence[Block]) -> Residual:
    ranks = [2, 0, 1, 3, 2]
    return LowRankResidual(
        blocks, [stored(sum(ranks), P_I) for _ in blocks], [whole(sum(ranks), P) for _ in blocks], ranks=ranks
    )


def joint(blocks: Sequence[Block]) -> Residual:
    return LowRankResidual(blocks, [stored(2 * N, P_I)], [stored(2 * N, P) for _ in blocks], ranks=[2] * N)


def rows(blocks: Sequence[Block]) -> Residual:
    counts = [3, 0, 9, 1, 2]
    neurons = torch.cat([torch.randperm(P_I)[:count] for count in counts])
    return RowsResidual(blocks, stored(sum(counts), blocks[-1].stop), neurons, counts=counts, num_neurons=P_I)


def sparse(blocks: Sequence[Block]) -> tuple[Encoded, Tensor, list[int]]:
    masks = torch.rand(N, P_I, blocks[-1].stop) < 0.4
    masks[1], masks[2] = False, True
    values = encode_ragged(random(int(masks.sum())), masks.sum(2).flatten(), "int8")
    return values, masks, masks.flatten(1).sum(1).tolist()


def bitmask(blocks: Sequence[Block]) -> Residual:
    values, masks, counts = sparse(blocks)
    return BitmaskResidual(blocks, values, torch.stack([pack_mask(mask) for mask in masks]), counts=counts)


def csr(blocks: Sequence[Block]) -> Residual:
    values, masks, counts = sparse(blocks)
    starts, columns = zip(*(pack_columns(mask) for mask in masks), strict=True)
    return CsrResidual(blocks, values, torch.stack(starts), torch.cat(columns), counts=counts)


def build(center: Tensor | None, residual: Residual, **options: Any) -> ResMoEExperts:
    stored = None if center is None else apart(center, [*residual.entering, residual.leaving])
    return ResMoEExperts(stored, residual, num_experts=N, activation=silu, dtype=torch.float64, **options)


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
        found = module(hidden, index, weights)
    torch.testing.assert_close(found, reference(module, blocks, hidden, index, weights), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("make", [separate, joint, rows])
def test_gradients_flow_as_through_the_restored_experts(make) -> None:
    torch.manual_seed(0)
    module = build(random(P_I, 3 * P), make(GATED))
    index, weights = torch.tensor([[0, 3], [3, 2], [4, 0]]), random(3, 2)
    hidden = random(3, P).requires_grad_()
    module.center.requires_grad_()
    wanted = [hidden, module.center]
    found = torch.autograd.grad(module(hidden, index, weights).square().sum(), wanted)
    expected = torch.autograd.grad(reference(module, GATED, hidden, index, weights).square().sum(), wanted)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mode", ["factored", "restored"])
def test_merged_experts_of_a_token_are_computed_once_with_all_their_weight(mode) -> None:
    torch.manual_seed(0)
    counts = [4, 2]
    residual = WholeExperts(GATED, stored(sum(counts), 3 * P), counts=counts)
    module = ResMoEExperts(
        None, residual, num_experts=2, groups=[1, 0, 1, 1], activation=silu, dtype=torch.float64, mode=mode
    )
    index, weights, hidden = torch.tensor([[0, 3, 1], [2, 3, 0], [1, 4, 2]]), random(3, 3), random(3, P)
    merged = torch.tensor([[1, 1, 0], [1, 1, 1], [0, N, 1]])
    expected = reference(module, GATED, hidden, merged, weights)
    torch.testing.assert_close(module(hidden, index, weights), expected, rtol=1e-10, atol=1e-10)
    seen = []
    module.activation = lambda z: seen.append(z.shape[-2]) or silu(z)
    module(hidden, index, weights)
    assert seen == [2, 3]


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
        found = module(hidden, index, weights)
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05 * float(expected.abs().max()))


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
    found = module.float()(hidden.float(), index, weights.float())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
