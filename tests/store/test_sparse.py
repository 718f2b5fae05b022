"""Packed sparse matrices: what goes in comes out, by the compiled loops and by torch's own operations alike."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resmoe_lab._core.errors import UsageError
from resmoe_lab.store.bits import pack_mask, unpack_mask
from resmoe_lab.store.encodings import encode_ragged, encode_rows, encoding_names
from resmoe_lab.store.scatter import mask_starts, pack_columns, put_by_columns, put_by_mask

CASES = st.tuples(
    st.integers(1, 7),
    st.integers(1, 71),
    st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.0]),
    st.sampled_from(sorted(encoding_names())),
    st.integers(0, 3),
    st.integers(0, 2**31),
)


@settings(max_examples=60, deadline=None)
@given(CASES)
def test_a_packed_matrix_is_put_on_the_center_where_it_stood(case: tuple) -> None:
    rows, columns, share, dtype, blocks, seed = case
    columns *= max(1, blocks)
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(rows, columns, generator=generator) < share
    center = torch.randn(blocks, rows, columns // blocks, generator=generator) if blocks else None
    base = torch.zeros(rows, columns) if center is None else torch.cat(list(center), dim=1)
    values = torch.randn(int(mask.sum()), generator=generator)
    encoded = encode_ragged(values, mask.sum(1), dtype)
    bits, (starts, places) = pack_mask(mask), pack_columns(mask)
    assert torch.equal(unpack_mask(bits, columns), mask)

    scale = 1.0 if encoded.scale is None else encoded.scale.float()[mask.nonzero()[:, 0]]
    expected = base.clone()
    expected[mask] += encoded.data.float() * scale
    for precise in (torch.float32, torch.float64):  # the compiled loop, and torch's own operations
        by_mask, by_columns = torch.full((2, rows, columns), torch.nan, dtype=precise)
        assert torch.equal(mask_starts(bits), starts)
        put_by_mask(by_mask, center, bits, starts, values=encoded.data, scale=encoded.scale)
        put_by_columns(by_columns, center, places, starts, values=encoded.data, scale=encoded.scale)
        torch.testing.assert_close(by_mask, expected.to(precise), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(by_columns, expected.to(precise), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("ragged", [False, True])
def test_eight_bits_are_wrong_by_half_a_step_at_most(ragged: bool) -> None:
    matrix = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    matrix[3] = 0
    matrix[4] *= 1e-6
    if ragged:
        encoded = encode_ragged(matrix.flatten(), torch.full((20,), 30), "int8")
        data = encoded.data.view(20, 30)
    else:
        encoded = encode_rows(matrix, "int8")
        data = encoded.data
    assert encoded.nbytes == 20 * 30 + 2 * 20
    scale = encoded.scale.float()[:, None]
    # The largest value may stick out by what its row's scale lost when it was rounded to 16 bits.
    assert bool(((data * scale - matrix).abs() <= 0.5 * scale + matrix.abs().amax(1, keepdim=True) / 250).all())
    assert (data[3] == 0).all()
    assert data[4].abs().max() >= 126


def test_an_unknown_value_type_is_named() -> None:
    with pytest.raises(UsageError, match=r"'fp8', expected one of fp32, bf16, fp16, int8"):
        encode_rows(torch.ones(2, 2), "fp8")


_THREADS = """
import torch
from resmoe_lab.store.bits import pack_mask
from resmoe_lab.store.scatter import mask_starts, put_by_mask
torch.set_num_threads(1)
bits, matrix = pack_mask(torch.eye(8) > 0), torch.empty(8, 8)
put_by_mask(matrix, None, bits, mask_starts(bits), values=torch.ones(8), scale=None)
assert torch.equal(matrix, torch.eye(8))
print(torch.get_num_threads())
"""


def test_compiled_loops_leave_torch_its_number_of_threads() -> None:
    """Numba and torch use one OpenMP; in a new process, since numba sets the number when it is first used."""
    environment = os.environ | {"NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", _THREADS], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
