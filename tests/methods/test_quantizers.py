"""Methods that round every weight, against independent implementations on the same numbers."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resmoe_lab._core.errors import ResmoeWarning, UsageError, WeightError
from resmoe_lab.centers import find_center
from resmoe_lab.compress import CompressionConfig
from resmoe_lab.experts import Block, ExpertStack
from resmoe_lab.methods import METHODS, compress_layer, storage_ledger
from resmoe_lab.methods._compensation import LEAST_TOKENS
from resmoe_lab.methods._quantizers import round_to_nearest
from resmoe_lab.methods.gptq import round_compensated
from resmoe_lab.methods.hqq import half_quadratic
from resmoe_lab.store import Storage
from resmoe_lab.store.bits import unpack_codes
from resmoe_lab.store.encodings.microscaled import VALUES, nearest_codes
from resmoe_lab.store.groups import affine_range, from_codes, split_groups, to_codes
from resmoe_lab.store.quantized_matrices import MicroscaledMatrix

from .calibrated import statistics
from .peers import weights

#: Made by the package hqq, whose version stands in its first line.
HQQ = json.loads(Path(__file__).with_name("golden_hqq.json").read_text("utf-8"))
BLOCKS = (Block("w1", 0, 40), Block("w3", 40, 80), Block("w2", 80, 120))


def _stack(scale: float = 1.0) -> ExpertStack:
    return ExpertStack(scale * torch.randn(3, 70, 120, generator=torch.Generator().manual_seed(2)), BLOCKS, layer=4)


def _bfloat16(value: float) -> float:
    return float(torch.tensor(value).bfloat16())


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("columns", [128, 100])
def test_rounding_to_nearest_is_that_of_a_plain_loop(bits: int, columns: int) -> None:
    matrix = weights(3, columns)
    found = round_to_nearest(matrix, bits, 64)
    for row, values in enumerate(matrix.numpy()):
        for group in range(2):
            part = values[64 * group : 64 * group + 64]
            low, high = min(0.0, float(part.min())), max(0.0, float(part.max()))
            scale = _bfloat16(np.float32(high - low) / np.float32(2**bits - 1))
            zero = _bfloat16(np.float32(-low) / np.float32(scale))
            codes = np.clip(np.round(part / np.float32(scale) + np.float32(zero)), 0, 2**bits - 1)
            assert (float(found.scale[row, group]), float(found.zero[row, group])) == (scale, zero)
            assert found.codes[row, 64 * group : 64 * group + 64].tolist() == codes.tolist()


@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_to_nearest_is_torchs_own(bits: int) -> None:
    """With the same scales and whole zeros, torch's fake quantization restores the same numbers."""
    matrix = weights(4, 64)
    scale, zero = affine_range(split_groups(matrix, 64), bits)
    zero = zero.round()
    expected = torch.fake_quantize_per_channel_affine(matrix, scale[:, 0], zero[:, 0].int(), 0, 0, 2**bits - 1)
    codes = to_codes(split_groups(matrix, 64), scale, zero, bits=bits)
    assert torch.equal(from_codes(codes[:, 0], scale, zero, group=64), expected)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_half_quadratic_is_the_packages(bits: int) -> None:
    """Scales, zeros and codes of the package hqq on the same weights, before ours are rounded for storage."""
    golden, groups = HQQ["bits"][str(bits)], split_groups(weights(), 64)
    steps, zero = half_quadratic(groups, bits, last=64)
    np.testing.assert_allclose(1 / steps.flatten(), golden["scale"], rtol=1e-5)
    np.testing.assert_allclose(zero.flatten(), golden["zero"], rtol=1e-5, atol=1e-5)
    codes = (groups * steps[..., None] + zero[..., None]).round().clamp(0, 2**bits - 1)
    assert bytes(codes.to(torch.uint8).flatten().tolist()).hex() == golden["codes"]


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_half_quadratic_loses_less_than_rounding_to_nearest(bits: int) -> None:
    stack, keep = _stack(0.02), bits / 16
    errors = {name: compress_layer(stack, method=name, keep=keep).approximation_error(stack) for name in ("rtn", "hqq")}
    assert errors["hqq"] < errors["rtn"]


def _plain_gptq(matrix: np.ndarray, moments: np.ndarray, bits: int, group: int) -> np.ndarray:
    """Algorithm 1 of the paper as it reads, in float64: one input at a time, everything after it updated at once."""
    work, size = matrix.astype(np.float64), len(moments)
    damped = moments + 0.01 * np.mean(np.diag(moments)) * np.eye(size)
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    codes = np.zeros(work.shape, np.uint8)
    for place in range(size):
        if place % group == 0:
            part = work[:, place : place + group]
            low, high = np.minimum(part.min(1), 0), np.maximum(part.max(1), 0)
            scale = np.array([_bfloat16(value) for value in (high - low) / (2**bits - 1)])
            zero = np.array([_bfloat16(value) for value in -low / scale])
        code = np.clip(np.round(work[:, place] / scale + zero), 0, 2**bits - 1)
        codes[:, place] = code
        lost = (work[:, place] - (code - zero) * scale) / factor[place, place]
        work[:, place:] -= np.outer(lost, factor[place, place:])
    return codes


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize(("columns", "group"), [(96, 32), (150, 64), (200, 128)])
def test_compensated_rounding_is_the_papers_algorithm(bits: int, columns: int, group: int) -> None:
    generator = torch.Generator().manual_seed(bits)
    inputs = torch.randn(400, columns, generator=generator) @ torch.randn(columns, columns, generator=generator)
    moments, matrix = inputs.T @ inputs / 400, torch.randn(12, columns, generator=generator)
    expected = _plain_gptq(matrix.double().numpy(), moments.double().numpy(), bits, group)
    found = round_compensated(matrix.double(), moments, bits=bits, group=group)
    assert np.array_equal(found.codes.numpy(), expected)
    # In float32 a weight that lies between two codes may fall to the other side, and take later ones with it.
    single = round_compensated(matrix, moments, bits=bits, group=group)
    assert (single.codes.numpy() != expected).mean() < 0.02
    lost, nearest = (
        float(((rounded.restore().double() - matrix.double()) @ inputs.double().T).square().sum())
        for rounded in (single, round_to_nearest(matrix, bits, group))
    )
    assert lost < 0.7 * nearest


def test_experts_that_few_tokens_reach_are_rounded_to_nearest_with_a_warning() -> None:
    stack = _stack()
    given = replace(statistics(3, 70, 40), expert_tokens=torch.tensor([500, LEAST_TOKENS - 1, 500]))
    with pytest.warns(ResmoeWarning, match=r"layer 4: fewer than 128 .* reach expert 1 \(50 tokens of made up\)"):
        layer = compress_layer(stack, method="gptq", keep=0.25, statistics=given)
    nearest = compress_layer(stack, method="rtn", keep=0.25)
    same = [torch.equal(layer.restore_expert(k), nearest.restore_expert(k)) for k in range(3)]
    assert same == [False, True, False]


def test_too_short_a_text_is_refused() -> None:
    given = replace(statistics(3, 70, 40), expert_tokens=torch.tensor([1, 7, 0]))
    with pytest.raises(UsageError, match=r"layer 4: 7 calibration tokens reach an expert at most .*--tokens"):
        compress_layer(_stack(), method="gptq", keep=0.25, statistics=given)
    given = replace(given, input_moments=None)
    with pytest.raises(UsageError, match=r"needs full second moments and has none: calibrate\(..., moments=True\)"):
        compress_layer(_stack(), method="gptq", keep=0.25, statistics=given)


@pytest.mark.parametrize("name", ["rtn", "hqq", "gptq"])
@pytest.mark.parametrize("bits", [5.5, 1, 9, 16])
def test_bits_that_are_not_stored_are_refused(name: str, bits: float) -> None:
    with pytest.raises(UsageError, match=f"bits is {bits:g}, expected a whole number from 2 to 8"):
        CompressionConfig(method=name, bits=bits)


@pytest.mark.parametrize("bits", [0, 17, float("nan")])
def test_impossible_bits_are_refused(bits: float) -> None:
    with pytest.raises(UsageError, match=r"bits is .*, expected a number in \(0, 16\]"):
        CompressionConfig(method="rtn", bits=bits)


def test_too_small_a_fraction_says_what_is_needed() -> None:
    with pytest.raises(
        UsageError, match=r"keep 0\.05 leaves 0\.8 bits a weight, expected at least 2 bits: keep 0\.125"
    ):
        compress_layer(_stack(), method="rtn", keep=0.05)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("group", [16, 32, 100])
def test_what_is_stored_takes_so_many_bits(bits: int, group: int) -> None:
    """Codes to the bit, row by row, and 32 bits of every group; one that does not divide the width is counted whole."""
    layer = compress_layer(_stack(), method="rtn", keep=bits / 16, storage=Storage(group=group))
    codes = 3 * (2 * 70 * -(-40 * bits // 8) + 40 * -(-70 * bits // 8))
    scales = 3 * (2 * 70 * -(-40 // group) + 40 * -(-70 // group)) * 4
    assert {entry.item: entry.nbytes for entry in storage_ledger(layer).entries} == {"values": codes, "scales": scales}


@pytest.mark.parametrize("group", [15, 257, 0, -64])
def test_impossible_groups_are_refused(group: int) -> None:
    with pytest.raises(UsageError, match=rf"groups of {group} weights, expected 16 to 256"):
        Storage(group=group)


def test_a_group_is_refused_where_it_means_nothing() -> None:
    with pytest.raises(UsageError, match="method 'up' rounds no weights in groups, found group 32: leave it out"):
        compress_layer(_stack(), method="up", storage=Storage(group=32))
    assert "group" not in Storage().model_dump()


@pytest.mark.parametrize("name", ["rtn", "hqq", "gptq"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_weights_that_are_not_finite_are_refused(name: str, value: float) -> None:
    stack = _stack()
    stack.weights[1, 3, 5] = value
    with pytest.raises(WeightError, match="layer 4, expert 1 holds NaN or infinite weights"):
        compress_layer(stack, method=name, statistics=statistics(3, 70, 40))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 8), st.integers(1, 70), st.sampled_from([0.0, 1.0, -3.0, 1e-30, 1e30]), st.booleans())
def test_odd_rows_come_back(bits: int, columns: int, value: float, constant: bool) -> None:
    matrix = torch.full((2, columns), value)
    if not constant:
        matrix = matrix * torch.rand(2, columns, generator=torch.Generator().manual_seed(columns))
    restored = round_to_nearest(matrix, bits, 32).restore()
    step = matrix.abs().amax() / (2**bits - 1)
    assert torch.isfinite(restored).all()
    assert float((restored - matrix).abs().max()) <= 0.51 * float(step) + 0.01 * abs(value)


def test_residuals_are_rounded_where_there_is_a_center() -> None:
    parent = torch.randn(1, 70, 120, generator=torch.Generator().manual_seed(0))
    stack = ExpertStack(parent + 0.1 * _stack().weights, BLOCKS, layer=0)
    center = find_center(stack)
    errors = {
        name: compress_layer(stack, method=name, keep=3 / 16, center=center).approximation_error(stack)
        for name in ("rtn", "resmoe-rtn", "resmoe-hqq")
    }
    assert max(errors["resmoe-rtn"], errors["resmoe-hqq"]) < 0.05 * errors["rtn"]


def test_enough_tokens_are_no_reason_to_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compress_layer(_stack(), method="gptq", keep=0.25, statistics=statistics(3, 70, 40))


def test_every_method_that_goes_by_bits_says_so() -> None:
    assert {"rtn", "resmoe-rtn", "hqq", "gptq"} <= {name for name in METHODS if METHODS[name].method.by_bits}


def _microscaled(name: str, matrix: torch.Tensor) -> tuple[torch.Tensor, MicroscaledMatrix]:
    """A matrix as W1 of an expert without W2's share, and what is made of it."""
    widths = (matrix.shape[1] - 1, 1)
    made = METHODS[name]().compress_matrix(matrix, 0.25, (widths, (None, None)))
    assert isinstance(made, MicroscaledMatrix)
    return made.parts[0].decode(torch.float32) * made.factors[0], made


def test_mxfp4_is_that_of_gguf() -> None:
    """The package gguf writes it: the same scales to the byte, and the same values."""
    quants = pytest.importorskip("gguf.quants")
    matrix = torch.cat([weights(4, 128), torch.zeros(4, 1)], dim=1)
    matrix[2, 32:64] = 0.0
    found, made = _microscaled("mxfp4", matrix)
    blocks = quants.MXFP4.quantize_blocks(matrix[:, :128].reshape(-1, 32).numpy())
    restored = quants.MXFP4.dequantize_blocks(blocks).reshape(4, 128)
    expected = torch.from_numpy(restored)
    assert made.parts[0].parts["scale"].flatten().tolist() == blocks[:, 0].tolist()
    # gguf rounds a half down, the definition to even: nothing else may differ, and then by half a step.
    step = (found - expected).abs()
    halves = (found - matrix[:, :128]).abs() == (expected - matrix[:, :128]).abs()
    assert bool((halves | (step == 0)).all())


def test_nvfp4_is_restored_as_gguf_reads_it() -> None:
    quants = pytest.importorskip("gguf.quants")
    matrix = torch.cat([weights(4, 128), torch.zeros(4, 1)], dim=1)
    found, made = _microscaled("nvfp4", matrix)
    data, scale = made.parts[0].parts["data"], made.parts[0].parts["scale"]
    codes = unpack_codes(data, 4, 128).view(-1, 4, 2, 8)
    halves = (codes[:, :, 0] | (codes[:, :, 1] << 4)).flatten(1)
    blocks = torch.cat([scale.view(-1, 4), halves], dim=1).numpy()
    expected = torch.from_numpy(quants.NVFP4.dequantize_blocks(blocks)).float().view(4, 128) * made.factors[0]
    torch.testing.assert_close(found, expected)


def test_nvfp4_scales_and_values_are_the_nearest_of_torchs_floats() -> None:
    matrix = torch.cat([weights(4, 128), torch.zeros(4, 1)], dim=1)
    found, made = _microscaled("nvfp4", matrix)
    groups = matrix[:, :128].view(4, 8, 16)
    whole = groups.abs().max() / (6 * 448)
    scale = (groups.abs().amax(-1) / 6 / whole).to(torch.float8_e4m3fn)
    assert torch.equal(made.parts[0].parts["scale"], scale.view(torch.uint8))
    assert float(made.factors[0]) == float(whole)
    values = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    values = torch.cat([values, -values]) * (scale.float() * whole)[..., None, None]
    nearest = (groups[..., None] - values).abs().amin(-1)
    torch.testing.assert_close((found.view(4, 8, 16) - groups).abs(), nearest, rtol=1e-5, atol=1e-7)


def test_a_half_goes_to_the_even_code() -> None:
    halves = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 7.0])
    even = [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 6.0]
    for sign in (1, -1):
        assert [abs(VALUES[code]) for code in nearest_codes(sign * halves).tolist()] == even


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4"])
def test_a_format_of_one_size_says_so(name: str) -> None:
    with pytest.raises(UsageError, match="bits is 3, expected 4: the format has no other"):
        CompressionConfig(method=name, bits=3)
    with pytest.raises(UsageError, match=r"keep 0\.2 leaves 3\.2 bits a weight, expected at least 4 bits: keep 0\.25"):
        compress_layer(_stack(), method=name, keep=0.2)
    with pytest.raises(UsageError, match=f"method '{name}' rounds no weights in groups, found group 32"):
        compress_layer(_stack(), method=name, storage=Storage(group=32))


def test_every_method_knows_the_bits_that_it_takes() -> None:
    takes = {
        name: [bits for bits in (0.5, 1, 2, 2.5, 4, 8, 9, 17) if entry.method.takes_bits(bits)]
        for name, entry in ((name, METHODS[name]) for name in METHODS)
    }
    assert takes["rtn"] == takes["hqq"] == takes["gptq"] == [2, 4, 8]
    assert takes["mxfp4"] == takes["nvfp4"] == [4]
    assert takes["coded"] == takes["resmoe-coded"] == [0.5, 1, 2, 2.5, 4, 8, 9]
    assert all(not takes[name] for name in METHODS if not METHODS[name].method.by_bits)


def test_a_kept_fraction_means_the_bits_that_are_stored() -> None:
    assert METHODS["rtn"].method.bits_of(0.2) == 3
    assert METHODS["rtn"].method.bits_of(1.0) == 8
    assert METHODS["nvfp4"].method.bits_of(0.5) == 4
    assert METHODS["coded"].method.bits_of(0.1) == pytest.approx(1.6)
