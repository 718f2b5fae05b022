"""The coder: what goes in comes out, in no more bits than the entropy, and nothing damaged is believed."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from resmoe_lab._core.errors import CheckpointError, UsageError
from resmoe_lab.store.coder import CodedMatrix, RateCurve, decode, decode_into, encode, quantize
from resmoe_lab.store.coder.tables import TOTAL, frequencies_of

from ...fuzzing import damaged, reads_or_refuses

#: Written by the first version of the coder, and read by every later one.
KEPT = Path(__file__).parents[2] / "data" / "coded-1.npz"


def _gaussian(rows: int, columns: int, *, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, (rows, columns)).astype(np.float32)


def _entropy(symbols: np.ndarray) -> float:
    share = np.bincount(symbols.reshape(-1)) / symbols.size
    share = share[share > 0]
    return float(-(share @ np.log2(share)))


MATRICES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 40), st.integers(2, 50)),
    elements=st.floats(-1e4, 1e4, width=32) | st.sampled_from([0.0, 1.0, -1.0]),
)


@settings(max_examples=60, deadline=None)
@given(values=MATRICES, step=st.floats(0.01, 100), split=st.integers(1, 49), price=st.sampled_from([0.0, 0.11, 0.5]))
def test_what_was_rounded_comes_back(values: np.ndarray, step: float, split: int, price: float) -> None:
    rows, columns = values.shape
    stops = [columns] if split >= columns else [split, columns]
    quantized = quantize(values, stops, [step, 2 * step][: len(stops)], bit_price=price)
    data = encode(quantized)
    assert np.array_equal(decode(data, values.shape), quantized.values)
    coded = CodedMatrix.read(data, shape=(rows, columns))
    assert np.array_equal(coded.symbols().symbols, quantized.symbols)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5])
def test_one_value_everywhere_takes_almost_nothing(value: float) -> None:
    values = np.full((300, 200), value, np.float32)
    quantized = quantize(values, [200], [0.5])
    data = encode(quantized)
    assert np.array_equal(decode(data, values.shape), values)
    assert len(data) < 300


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    values = _gaussian(8, 8)
    values[3, 4] = value
    with pytest.raises(UsageError, match="a weight is not finite"):
        quantize(values, [8], [0.5])


@pytest.mark.parametrize("step", [0.0, -1.0, np.nan, np.inf])
def test_a_step_that_is_none_is_refused(step: float) -> None:
    with pytest.raises(UsageError, match="expected numbers above zero"):
        quantize(_gaussian(8, 8), [8], [step])


@pytest.mark.parametrize("bits", [0.5, 1.0, 2.0, 3.0, 4.0])
def test_bytes_are_the_entropy_and_a_percent_at_most(bits: float) -> None:
    """Headers, tables and the states of the streams included."""
    values = _gaussian(1024, 1536)
    quantized = quantize(values, [512, 1024, 1536], [RateCurve(values).step_for(bits)] * 3)
    entropy = _entropy(quantized.symbols)
    assert entropy == pytest.approx(bits, rel=0.02)
    assert entropy <= 8 * len(encode(quantized)) / values.size <= 1.01 * entropy


def test_rows_of_unlike_sizes_have_tables_of_their_own() -> None:
    """A mixture is coded in fewer bits than its own entropy where rows tell which part they are of."""
    values = np.concatenate([_gaussian(400, 256, seed=1), _gaussian(400, 256, scale=12, seed=2)])
    quantized = quantize(values, [256], [2.0])
    assert len(quantized.counts) > 1
    data = encode(quantized)
    assert 8 * len(data) / values.size < 0.97 * _entropy(quantized.symbols)
    assert np.array_equal(decode(data, values.shape), quantized.values)
    part = quantized.take(slice(100, 500))
    assert np.array_equal(decode(encode(part), (400, 256)), quantized.values[100:500])


@pytest.mark.parametrize("bits", [0.3, 1.0, 2.5, 4.0])
def test_the_curve_foretells_rate_and_error(bits: float) -> None:
    values = _gaussian(512, 512, scale=0.02, seed=3)
    curve = RateCurve(values)
    step = curve.step_for(bits)
    rate, error = curve.at(step)
    quantized = quantize(values, [512], [step])
    assert rate == pytest.approx(bits, rel=0.01)
    assert _entropy(quantized.symbols) == pytest.approx(rate, rel=0.01)
    assert float(((quantized.values - values) ** 2).mean()) == pytest.approx(error, rel=0.01)


@pytest.mark.parametrize(("bits", "decibel"), [(2.0, 1.6), (3.0, 1.6), (0.5, 1.0)])
def test_gaussians_lose_what_theory_says_of_scalar_quantizers(bits: float, decibel: float) -> None:
    """The best one lies 1.53 dB (a quarter of a bit) from the bound at high rates, less at low ones."""
    values = _gaussian(1024, 1024, seed=4)
    quantized = quantize(values, [1024], [RateCurve(values).step_for(bits)])
    signal_to_noise = 10 * np.log10(1 / ((quantized.values - values) ** 2).mean())
    assert 6.02 * _entropy(quantized.symbols) - signal_to_noise < decibel


def test_a_price_of_bits_pays() -> None:
    """At the same rate, thresholds by price leave less error than the nearest level with wide steps."""
    values = np.random.default_rng(5).laplace(size=(512, 512)).astype(np.float32)
    curve = RateCurve(values)
    errors = {price: curve.at(curve.step_for(1.0, bit_price=price), bit_price=price)[1] for price in (0.0, 0.11)}
    assert errors[0.11] < 0.99 * errors[0.0]


@settings(max_examples=200, deadline=None)
@given(counts=st.lists(st.integers(0, 10**7), min_size=3, max_size=255))
def test_frequencies_fill_the_table(counts: list[int]) -> None:
    frequencies = frequencies_of(np.array(counts))
    assert frequencies.sum(dtype=int) == TOTAL
    assert frequencies.max() < TOTAL
    assert all(frequency > 0 for frequency, count in zip(frequencies, counts, strict=True) if count)


def test_two_threads_and_one_decode_the_same() -> None:
    values = _gaussian(2048, 768, seed=6)
    data = encode(quantize(values, [768], [0.7]))
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(decode(data, values.shape))
    finally:
        torch.set_num_threads(threads)
    assert len(CodedMatrix.read(data, shape=values.shape).streams) > 1
    assert np.array_equal(*results)


def test_a_center_is_added_in_the_same_pass_in_either_type() -> None:
    values, center = _gaussian(64, 96, seed=7), _gaussian(3 * 64, 32, seed=8).reshape(3, 64, 32)
    coded = CodedMatrix.read(encode(quantize(values, [32, 64, 96], [0.5, 0.6, 0.7])), shape=(64, 96))
    own, wide = np.zeros((64, 96), np.float32), np.concatenate(list(center), axis=1)
    decode_into(coded, own, None)
    together = np.zeros_like(own)
    decode_into(coded, together, center)
    assert np.array_equal(together, wide + own)
    half, half_center = np.zeros((64, 96), np.uint16), torch.from_numpy(center).bfloat16()
    decode_into(coded, half, half_center.view(torch.uint16).numpy())
    expected = (torch.cat(list(half_center.float()), dim=1) + torch.from_numpy(own)).bfloat16()
    assert torch.equal(torch.from_numpy(half).view(torch.bfloat16), expected)


def test_bytes_of_the_first_version_are_read_and_written_for_ever() -> None:
    kept = np.load(KEPT)
    assert np.array_equal(decode(kept["data"], kept["values"].shape), kept["values"])
    coded = CodedMatrix.read(kept["data"], shape=kept["values"].shape)
    assert np.array_equal(coded.symbols().symbols, kept["symbols"])


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good() -> np.ndarray:
    return encode(quantize(_gaussian(30, 40), [20, 40], [0.5, 0.5]))


def _refused(data: np.ndarray, match: str = "is damaged") -> None:
    with pytest.raises(CheckpointError, match=match):
        decode(data, (30, 40), where="expert 3")


def test_every_flipped_byte_is_noticed(good: np.ndarray) -> None:
    for place in range(len(good)):
        data = good.copy()
        data[place] ^= 0x11
        _refused(data, "expert 3 is damaged")


def test_every_cut_is_noticed(good: np.ndarray) -> None:
    for size in range(len(good)):
        _refused(good[:size], "expert 3 is damaged")
    _refused(np.append(good, np.uint8(0)), "1 bytes too many")


def test_another_shape_is_refused_before_anything_is_made(good: np.ndarray) -> None:
    with pytest.raises(CheckpointError, match=r"has shape \(30, 40\), expected \(1000000, 40\)"):
        decode(good, (1000000, 40))


def _resealed(good: np.ndarray, change: dict[int, int]) -> np.ndarray:
    """A header with other bytes and the right checksum, as somebody could write it."""
    data = good.copy()
    for place, value in change.items():
        data[place] = value
    classes, symbols, blocks = int(data[16]), int(data[17]), int.from_bytes(data[12:14].tobytes(), "little")
    size = 18 + 8 * blocks + 2 * symbols + 2 * classes * symbols + (2 * classes if classes > 1 else 0)
    if size + 4 <= len(data):
        data[size : size + 4] = np.frombuffer(zlib.crc32(data[:size].tobytes()).to_bytes(4, "little"), np.uint8)
    return data


@pytest.mark.parametrize(
    ("place", "value"),
    [(12, 0), (12, 255), (14, 0), (14, 255), (15, 255), (16, 0), (16, 255), (17, 0), (17, 2), (17, 255), (18, 255)],
)
def test_absurd_counts_are_refused(good: np.ndarray, place: int, value: int) -> None:
    _refused(_resealed(good, {place: value}))


def test_a_table_that_adds_up_to_something_else_is_refused(good: np.ndarray) -> None:
    symbols = int(good[17])
    table = 18 + 16 + 2 * symbols
    _refused(_resealed(good, {table: int(good[table]) ^ 1}), "frequencies that add up to")


def test_another_table_that_fits_is_noticed_at_the_end(good: np.ndarray) -> None:
    """Right checksums and a full table, but not the one that was used: the streams do not end as they should."""
    symbols = int(good[17])
    middle = 18 + 16 + 2 * symbols + 2 * (symbols // 2)
    one, other = good[middle : middle + 2].copy(), good[middle + 2 : middle + 4].copy()
    assert not np.array_equal(one, other)
    change = {middle: int(other[0]), middle + 1: int(other[1]), middle + 2: int(one[0]), middle + 3: int(one[1])}
    _refused(_resealed(good, change), "does not end where it should")


def test_no_compiler_is_loaded_before_something_is_coded() -> None:
    """It takes a second and many megabytes, which processes that code nothing need not have."""
    code = "import sys, resmoe_lab.store, resmoe_lab.methods, resmoe_lab.runtime; print('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def _all_resealed(data: np.ndarray) -> np.ndarray:
    """Any bytes with right checksums wherever the header says that there are some."""
    data = _resealed(data, {}) if len(data) >= 18 else data
    if len(data) < 18:
        return data
    classes, symbols, blocks = int(data[16]), int(data[17]), int.from_bytes(data[12:14].tobytes(), "little")
    table = 22 + 8 * blocks + 2 * symbols + 2 * classes * symbols + (2 * classes if classes > 1 else 0)
    streams = int.from_bytes(data[14:16].tobytes(), "little")
    at = table + 8 * streams
    for place in range(table, min(at, len(data) - 8), 8):
        length = int.from_bytes(data[place : place + 4].tobytes(), "little")
        if at + length <= len(data):
            checksum = zlib.crc32(data[at : at + length].tobytes()).to_bytes(4, "little")
            data[place + 4 : place + 8] = np.frombuffer(checksum, np.uint8)
        at += length
    return data


CODED = encode(quantize(_gaussian(24, 40), [16, 40], [0.4, 0.4]))


@settings(derandomize=True, max_examples=200)
@given(content=damaged(CODED.tobytes()), sealed=st.booleans())
def test_damage_is_told_whatever_the_checksums(content: bytes, sealed: bool) -> None:
    """With right checksums other values may come out, but nothing else happens."""
    decode(CODED, (24, 40))  # compiling takes its room only once
    data = np.frombuffer(content, np.uint8).copy()
    data = _all_resealed(data) if sealed else data
    read = reads_or_refuses(lambda: decode(data, (24, 40)), size=len(content))
    assert not read or sealed or content == CODED.tobytes()
