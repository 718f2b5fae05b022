"""What every stored format promises, whoever adds it: found in the registry, on every encoding."""

from __future__ import annotations

import pytest
import torch

from resmoe_lab._core.errors import CheckpointError, UsageError
from resmoe_lab.methods._quantizers import round_to_nearest
from resmoe_lab.store import FORMATS, Encoding, Layout, encoding_names
from resmoe_lab.store.coder import quantize
from resmoe_lab.store.encodings import Encoded, encode_rows
from resmoe_lab.store.encodings.microscaled import MXFP4
from resmoe_lab.store.formats import Format, formats_of
from resmoe_lab.store.formats.coded import CODED
from resmoe_lab.store.matrices import (
    CompressedMatrix,
    DenseMatrix,
    LowRankMatrix,
    NeuronClusters,
    NeuronSubset,
    SeparateLowRankMatrix,
    SparseMatrix,
)
from resmoe_lab.store.quantized_matrices import MicroscaledMatrix, QuantizedMatrix, SymbolMatrix

N, P, NEURONS = 4, 5, 9
BLOCKS = (("w1", 0, P), ("w3", P, 2 * P), ("w2", 2 * P, 3 * P))


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _examples(kind: type[CompressedMatrix]) -> list[CompressedMatrix]:
    """Four matrices of a kind, each of another size where the kind has any."""
    made: list[CompressedMatrix] = []
    for k in range(N):
        matrix = _random(NEURONS, 3 * P, seed=k)
        if kind is SparseMatrix:
            made.append(SparseMatrix.where(matrix > 0.4 * k - 0.5, matrix))
        elif kind is LowRankMatrix:
            made.append(LowRankMatrix(_random(NEURONS, k, seed=k), _random(k, 3 * P, seed=k + 9)))
        elif kind is SeparateLowRankMatrix:
            parts = [LowRankMatrix(_random(NEURONS, k, seed=k + i), _random(k, P, seed=9 + k + i)) for i in range(3)]
            made.append(SeparateLowRankMatrix(tuple(parts)))
        elif kind is DenseMatrix:
            made.append(DenseMatrix(matrix))
        elif kind is NeuronSubset:
            made.append(NeuronSubset(matrix[: k + 1], torch.tensor([8, 2, 5, 0])[: k + 1], NEURONS))
        elif kind is NeuronClusters:
            made.append(NeuronClusters(matrix[: k + 1], torch.arange(NEURONS) % (k + 1)))
        elif kind is SymbolMatrix:
            made.append(SymbolMatrix(quantize(matrix.numpy(), [P, 2 * P, 3 * P], [0.3, 0.4, 0.2 + 0.1 * k])))
        elif kind is QuantizedMatrix:
            parts = [round_to_nearest(part, 3, 4) for part in matrix.split(P, dim=1)[:2]]
            parts.append(round_to_nearest(matrix[:, 2 * P :].T, 3, 4))
            made.append(QuantizedMatrix(tuple(parts), 3))
        elif kind is MicroscaledMatrix:
            weights = (*matrix.split(P, dim=1)[:2], matrix[:, 2 * P :].T)
            encoded = tuple(encode_rows(part, MXFP4.encoding()) for part in weights)
            made.append(MicroscaledMatrix(encoded, (torch.ones(()),) * 3))
        else:
            pytest.fail(f"no example of {kind.__name__}: add one")
    return made


PAIRS = [(name, kind) for name in FORMATS for kind in FORMATS[name].stores]
CASES = pytest.mark.parametrize(("name", "kind"), PAIRS, ids=[f"{name}-{kind.__name__}" for name, kind in PAIRS])
ENCODINGS = pytest.mark.parametrize("encoding", encoding_names())


def _encoding(name: str, encoding: str) -> Encoding:
    """The encoding; a format of codes has their own, of which the user's decides the type of the scales."""
    parsed = Encoding.parse(encoding)
    if not FORMATS[name].kinds:
        return parsed
    if name == "microscaled":
        return MXFP4.encoding()
    if name == "coded":
        return CODED
    return Encoding(kind=FORMATS[name].kinds[0], bits=3, group=4, scale=parsed.beside.kind)


def _layout(name: str, encoding: str) -> Layout:
    return Layout(format=name, encoding=_encoding(name, encoding), blocks=BLOCKS, neurons=NEURONS, counts=(0,) * N)


def _packed(name: str, kind: type[CompressedMatrix], encoding: str = "fp32") -> tuple[list[CompressedMatrix], Format]:
    matrices = _examples(kind)
    return matrices, FORMATS[name].pack(iter(matrices), _layout(name, encoding))


@CASES
@ENCODINGS
def test_what_goes_in_comes_out_to_the_encoding_s_rounding(name: str, kind: type, encoding: str) -> None:
    matrices, stored = _packed(name, kind, encoding)
    rounding = {"fp32": 1e-5, "fp16": 4e-3, "bf16": 0.03, "int8": 0.06, "int4": 0.25, "int3": 0.5, "int2": 1.0}
    tolerance = rounding.get(encoding, 0.5)
    if FORMATS[name].variable_size and kind is not SymbolMatrix:
        tolerance = 0.4  # rounded as coarsely as pruning or truncation has been, whatever the encoding
    if kind is NeuronClusters and encoding in ("int4", "int3", "int2"):
        tolerance *= 2  # W2 is stored as often as a cluster has neurons, and its rows share a scale with W1 and W3
    for k, matrix in enumerate(matrices):
        expected = matrix.restore()
        restored = stored.restore_aligned(k, torch.float32)
        assert restored.shape == (NEURONS, 3 * P)
        assert float((restored - expected).norm()) <= tolerance * float(expected.norm()) + 1e-6


@CASES
@ENCODINGS
def test_the_layout_alone_tells_every_tensor_and_byte(name: str, kind: type, encoding: str) -> None:
    _, stored = _packed(name, kind, encoding)
    tensors = stored.state_dict()
    specs = FORMATS[name].tensors(stored.layout)
    assert {key: (tuple(t.shape), t.dtype) for key, t in tensors.items()} == {key: tuple(s) for key, s in specs.items()}
    assert sum(entry.nbytes for entry in FORMATS[name].entries(stored.layout)) == sum(
        t.nbytes for t in tensors.values()
    )
    with torch.device("meta"):
        empty = FORMATS[name].empty(stored.layout)
    assert {key: (t.shape, t.dtype) for key, t in empty.state_dict().items()} == {
        key: (t.shape, t.dtype) for key, t in tensors.items()
    }


@CASES
@ENCODINGS
def test_the_tensors_and_the_layout_make_the_same_module_again(name: str, kind: type, encoding: str) -> None:
    _, stored = _packed(name, kind, encoding)
    layout = Layout.read(stored.layout.model_dump(mode="json"), where="a test")
    assert layout == stored.layout
    again = FORMATS[name](layout, stored.state_dict())
    for k in range(N):
        first, second = torch.zeros(2, again.num_neurons, 3 * P)
        stored.restore(first, None, k)
        again.restore(second, None, k)
        assert torch.equal(first, second)


@pytest.mark.parametrize("kind", [SparseMatrix, LowRankMatrix])
def test_coded_pruning_and_factors_lose_little_beside_what_was_dropped(kind: type) -> None:
    """Rounding adds less to the error than pruning or truncation has left, and the bytes are far fewer."""
    matrix = _random(96, 192, seed=3)
    blocks = (("w1", 0, 64), ("w3", 64, 128), ("w2", 128, 192))
    if kind is SparseMatrix:
        kept: CompressedMatrix = SparseMatrix.where(matrix.abs() > matrix.abs().quantile(0.75), matrix)
    else:
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        kept = LowRankMatrix(left[:, :16] * values[:16], right[:16])
    layouts = [
        Layout(format=name, encoding=Encoding.parse("bf16"), blocks=blocks, neurons=96, counts=(0,))
        for name in ("coded", "bitmask" if kind is SparseMatrix else "lowrank-joint")
    ]
    coded, plain = (FORMATS[layout.format].pack([kept], layout) for layout in layouts)
    dropped = float((matrix - kept.restore()).square().sum())
    rounded = float((coded.restore_aligned(0, torch.float32) - kept.restore()).square().sum())
    assert 0 < rounded < 0.5 * dropped
    sizes = [sum(tensor.nbytes for tensor in stored.state_dict().values()) for stored in (coded, plain)]
    assert sizes[0] < 0.6 * sizes[1]
    assert FORMATS["coded"].adapted(layouts[0].model_copy(update={"counts": (kept.count,)}), kind).counts[0] >= sizes[0]


@CASES
def test_restoring_adds_to_the_center(name: str, kind: type) -> None:
    _, stored = _packed(name, kind)
    center = _random(3, stored.num_neurons, P, seed=77)
    for k in range(N):
        alone, together = torch.zeros(2, stored.num_neurons, 3 * P)
        stored.restore(alone, None, k)
        stored.restore(together, center, k)
        torch.testing.assert_close(together, alone + torch.cat(list(center), dim=1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "kind"), [pair for pair in PAIRS if FORMATS[pair[0]].multiplies])
def test_multiplied_as_it_is_stored_it_is_the_restored_expert(name: str, kind: type) -> None:
    _, stored = _packed(name, kind)
    hidden = _random(1, 6, P, seed=5)
    for k in range(N):
        count = stored.counts[k] if stored.experts_only else stored.num_neurons
        matrix = torch.zeros(stored.num_neurons, 3 * P)
        stored.restore(matrix, None, k)
        products = stored.project_in(slice(k, k + 1), hidden, None)
        for product, (_, start, stop) in zip(products, BLOCKS[:-1], strict=True):
            torch.testing.assert_close(product, hidden @ matrix[:count, start:stop].T, rtol=1e-4, atol=1e-5)
        neurons = _random(1, 6, count, seed=6)
        expected = neurons @ matrix[:count, 2 * P :]
        torch.testing.assert_close(stored.project_out(slice(k, k + 1), neurons), expected, rtol=1e-4, atol=1e-5)


@CASES
@pytest.mark.parametrize("encoding", ["fp32", "int8", "int3"])
def test_shards_of_experts_are_those_experts(name: str, kind: type, encoding: str) -> None:
    _, stored = _packed(name, kind, encoding)
    shard = stored.shard_experts([2, 3])
    assert shard.layout.num_stored == 2
    for place, k in enumerate([2, 3]):
        one, other = torch.zeros(2, stored.num_neurons, 3 * P)
        stored.restore(one, None, k)
        shard.restore(other[: shard.num_neurons], None, place)
        assert torch.equal(one, other)


@CASES
def test_costs_are_counted_from_the_layout(name: str, kind: type) -> None:
    _, stored = _packed(name, kind)
    costs = FORMATS[name].multiplications(stored.layout)
    assert len(costs) == N
    assert all(cost >= 0 for cost in costs)
    assert max(costs) > 0


@CASES
def test_a_format_is_offered_where_it_may_stand(name: str, kind: type) -> None:
    with_center, without = ({f.name for f in formats_of(kind, has_center=has)} for has in (True, False))
    assert (name in with_center) == (not FORMATS[name].experts_only)
    assert (name in without) == (not FORMATS[name].residuals_only)


def test_a_layout_of_version_0_1_0_is_understood() -> None:
    old = {"form": "csr16", "values": "int8", "blocks": BLOCKS, "neurons": 9, "counts": [1, 2], "center": True}
    layout = Layout.read(old | {"groups": None}, where="a test")
    assert (layout.format, layout.encoding.name) == ("csr16", "int8")
    assert layout.center is not None
    assert layout.center.name == "bf16"
    assert Layout.read(old | {"center": False, "values": "fp16"}, where="a test").center is None


@pytest.mark.parametrize(
    "damage",
    [
        {"encoding": "fp8"},
        {"encoding": {"kind": "int", "bits": 17}},
        {"counts": []},
        {"counts": [-1]},
        {"groups": [5]},
        {"blocks": [["w1", 0, 8]]},
        {"neurons": 0},
        {"surprise": 1},
    ],
)
def test_a_damaged_layout_is_refused_by_name(damage: dict) -> None:
    good = _layout("whole", "bf16").model_dump(mode="json")
    with pytest.raises(CheckpointError, match="the specification of layer 3 is damaged"):
        Layout.read(good | damage, where="layer 3")


@ENCODINGS
def test_an_encoding_is_its_name(encoding: str) -> None:
    parsed = Encoding.parse(encoding)
    assert parsed.name == encoding
    assert Encoding.model_validate(parsed.model_dump(mode="json")) == parsed
    assert parsed.encoder.specs(parsed, 3, 8)["data"].nbytes == 3 * 8 * parsed.bits // 8


@ENCODINGS
def test_rows_are_encoded_by_themselves(encoding: str) -> None:
    """So that experts can be encoded one after another, and read alone."""
    parsed, matrix = Encoding.parse(encoding), _random(6, 8)
    encode = parsed.encoder.encode
    encoded = Encoded(parsed, encode(parsed, matrix))
    joined = Encoded.join(Encoded(parsed, encode(parsed, rows)) for rows in matrix.split(2))
    assert all(torch.equal(encoded.parts[name], joined.parts[name]) for name in encoded.parts)


def test_a_value_that_does_not_fit_is_refused() -> None:
    parsed = Encoding.parse("fp16")
    with pytest.raises(UsageError, match=r"a value of 7e\+04 does not fit into fp16 .*: use bf16 or fp32"):
        parsed.encoder.encode(parsed, torch.tensor([[1.0, -70000.0]]))
