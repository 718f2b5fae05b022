"""Codes in groups: packed to the bit, unpacked by every way alike, multiplied as they are stored."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resmoe_lab._core.errors import CheckpointError
from resmoe_lab.methods._quantizers import round_to_nearest
from resmoe_lab.runtime.experts import ResMoEExperts
from resmoe_lab.store import FORMATS, Encoding, Layout, _nibbles, int4
from resmoe_lab.store.bits import pack_codes, packed_width, unpack_codes
from resmoe_lab.store.encodings.affine import AffineEncoder
from resmoe_lab.store.formats.grouped import GroupedFormat
from resmoe_lab.store.quantized_matrices import QuantizedMatrix

N, P, NEURONS, GROUP = 3, 64, 96, 32
BLOCKS = (("w1", 0, P), ("w3", P, 2 * P), ("w2", 2 * P, 3 * P))


def _stored(bits: int = 4, group: int = GROUP, *, scale: float = 0.1) -> GroupedFormat:
    encoding = Encoding(kind="affine", bits=bits, group=group, scale="bf16")
    layout = Layout(format="grouped", encoding=encoding, blocks=BLOCKS, neurons=NEURONS, counts=(bits,) * N)
    generator, matrices = torch.Generator().manual_seed(bits), []
    for _ in range(N):
        weights = [scale * torch.randn(NEURONS, P, generator=generator) for _ in range(3)]
        parts = [round_to_nearest(matrix, bits, group) for matrix in (*weights[:2], weights[2].T.contiguous())]
        matrices.append(QuantizedMatrix(tuple(parts), bits))
    stored = FORMATS["grouped"].pack(matrices, layout)
    assert isinstance(stored, GroupedFormat)
    return stored


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 8), st.integers(1, 40), st.integers(0, 2**31))
def test_codes_are_a_stream_of_bits(bits: int, columns: int, seed: int) -> None:
    codes = torch.randint(0, 2**bits, (3, columns), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    packed = pack_codes(codes, bits)
    assert packed.shape == (3, packed_width(columns, bits))
    assert torch.equal(unpack_codes(packed, bits, columns), codes)
    for row, stored in zip(codes.tolist(), packed, strict=True):
        number = sum(code << (bits * place) for place, code in enumerate(row))
        assert bytes(stored.tolist()) == number.to_bytes(packed_width(columns, bits), "little")


@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("name", ["_look_up", "_compute"])
def test_compiled_unpacking_is_torchs_own(name: str, group: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit, on processors with the instruction and on others."""
    if name == "_look_up" and not _nibbles._CAN_LOOK_UP:
        pytest.skip("this processor has no AVX-512")
    monkeypatch.setattr(_nibbles, "_CAN_LOOK_UP", name == "_look_up")
    encoding = Encoding(kind="affine", bits=4, group=group, scale="fp16")
    parts = AffineEncoder.encode(encoding, torch.randn(7, 256, generator=torch.Generator().manual_seed(group)))
    fast = AffineEncoder.decode(encoding, parts, torch.bfloat16, columns=256)
    assert torch.equal(fast, AffineEncoder.decode(encoding, parts, torch.float32, columns=256).bfloat16())


@pytest.mark.parametrize("tokens", [1, 3, int4.FEW_TOKENS, 40])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_products_are_those_of_the_restored_matrix(tokens: int, dtype: torch.dtype) -> None:
    stored = _stored()
    hidden = torch.randn(1, tokens, P, generator=torch.Generator().manual_seed(1)).to(dtype)
    for expert in range(N):
        matrix = stored.restore_aligned(expert, torch.float32)
        products = stored.project_in(slice(expert, expert + 1), hidden, None)
        for product, (_, start, stop) in zip(products, BLOCKS[:2], strict=True):
            expected = hidden.float() @ matrix[:, start:stop].T
            tolerance = {torch.float32: 1e-5, torch.bfloat16: 0.02}[dtype]
            assert float((product - expected).norm()) <= tolerance * float(expected.norm())
    used = dtype == torch.bfloat16 and tokens <= int4.FEW_TOKENS
    assert len(stored._int4) == (2 * N if used else 0)


@pytest.mark.parametrize("tokens", [1, 5, 60])
@pytest.mark.parametrize("bits", [3, 4])
def test_factored_is_restored(bits: int, tokens: int) -> None:
    modes = [
        ResMoEExperts(None, _stored(bits), activation=torch.nn.functional.silu, dtype=torch.bfloat16, mode=mode)
        for mode in ("factored", "restored")
    ]
    generator = torch.Generator().manual_seed(tokens)
    hidden = torch.randn(tokens, P, generator=generator).bfloat16()
    index = torch.stack([torch.randperm(N, generator=generator)[:2] for _ in range(tokens)])
    with torch.inference_mode():
        factored, restored = (mode(hidden, index, torch.full((tokens, 2), 0.5)).float() for mode in modes)
    assert float((factored - restored).norm()) <= 0.03 * float(restored.norm())


@pytest.mark.parametrize(("bits", "group", "processes"), [(3, 32, 2), (4, 16, 5), (2, 64, 7), (8, 32, 3)])
def test_shards_of_neurons_are_those_neurons(bits: int, group: int, processes: int) -> None:
    """Wherever the cuts go through groups: what is restored is the same to the last bit."""
    stored = _stored(bits, group)
    shards = [stored.shard_neurons(rank, processes) for rank in range(processes)]
    for expert in range(N):
        parts = torch.cat([shard.restore_aligned(expert, torch.float32) for shard in shards])
        assert torch.equal(parts, stored.restore_aligned(expert, torch.float32))
    for shard in shards:
        specs = GroupedFormat.tensors(shard.layout)
        assert {name: tuple(t.shape) for name, t in shard.state_dict().items()} == {
            n: s.shape for n, s in specs.items()
        }


def test_a_layout_of_other_values_is_refused() -> None:
    layout = _stored().layout.model_copy(update={"encoding": Encoding.parse("bf16")})
    with pytest.raises(CheckpointError, match="format 'grouped' with values 'bf16', expected 'affine'"):
        FORMATS["grouped"].empty(layout)


@pytest.mark.parametrize(
    "damage", [{"bits": 9}, {"bits": 1}, {"group": 0}, {"group": None}, {"scale": "int8"}, {"scale": None}]
)
def test_a_damaged_encoding_is_refused_by_name(damage: dict) -> None:
    content = _stored().layout.model_dump(mode="json")
    content["encoding"] |= damage
    with pytest.raises(CheckpointError, match=r"the specification of layer 3 is damaged: encoding: .*affine"):
        Layout.read(content, where="layer 3")


def test_the_first_code_is_in_the_lower_half() -> None:
    assert np.array_equal(pack_codes(torch.tensor([[1, 15]], dtype=torch.uint8), 4).numpy(), [[0xF1]])
