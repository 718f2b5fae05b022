"""Every family, on a pico model of it: what is read, what is written, and what permuting neurons changes (nothing)."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from resmoe_lab._core.errors import CheckpointError, UsageError, WeightError
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.experts import FAMILIES, ExpertStack, family_of, load_stack, moe_layers
from resmoe_lab.runtime import restored_experts

from . import pico


@pytest.fixture(params=sorted(pico.PICO))
def family_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return pico.save(pico.PICO[request.param](), tmp_path / "pico")


def test_every_family_has_a_pico_model() -> None:
    assert set(FAMILIES.names()) == set(pico.PICO)


def test_the_stack_computes_what_the_expert_computes(family_folder: Path) -> None:
    """SwiGLU from the design matrix's own rows (appendix B.3) against the running module."""
    checkpoint = open_checkpoint(family_folder)
    model = pico.PICO[family_of(checkpoint).name]()
    layer = moe_layers(checkpoint)[-1]
    stack = load_stack(checkpoint, layer=layer)
    tokens = torch.randn(6, family_of(checkpoint).shape(checkpoint.config).hidden_size)
    experts = family_of(checkpoint).experts_module(model, layer)
    for k in range(stack.num_experts):
        w1, w3, w2 = (stack.block(name)[k] for name in ("w1", "w3", "w2"))
        ours = (torch.nn.functional.silu(tokens @ w1.T) * (tokens @ w3.T)) @ w2
        theirs = experts(tokens, torch.full((6, 1), k), torch.ones(6, 1))
        torch.testing.assert_close(ours, theirs)


def test_disk_and_memory_give_the_same_stack(family_folder: Path) -> None:
    checkpoint = open_checkpoint(family_folder)
    family = family_of(checkpoint)
    model = pico.PICO[family.name]()
    for layer in family.layers(checkpoint):
        stored, running = family.load(checkpoint, layer), family.pull(model, layer)
        assert torch.equal(stored.weights, running.weights)
        assert stored.blocks == running.blocks


def test_split_gives_back_every_stored_tensor(family_folder: Path) -> None:
    checkpoint = open_checkpoint(family_folder)
    family = family_of(checkpoint)
    on_disk = load_file(family_folder / "model.safetensors")
    for layer in family.layers(checkpoint):
        split = family.split(family.load(checkpoint, layer), dtype=torch.float32)
        assert set(split) == {name for name in on_disk if f"layers.{layer}." in name and ".experts." in name}
        assert all(torch.equal(split[name], on_disk[name]) for name in split)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("name", sorted(pico.PICO))
def test_permuting_neurons_never_changes_the_logits(
    name: str, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = pico.PICO[name]()
    checkpoint = open_checkpoint(pico.save(model, tmp_path_factory.mktemp("pico")))
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 64, (2, 9), generator=generator)

    def shuffled(stack: ExpertStack) -> ExpertStack:
        order = torch.stack([torch.randperm(stack.intermediate_size, generator=generator) for _ in stack.weights])
        return stack.with_weights(torch.gather(stack.weights, 1, order[:, :, None].expand_as(stack.weights)))

    family = family_of(checkpoint)
    with torch.no_grad():
        before = model(tokens).logits
        with restored_experts(model, checkpoint, [shuffled(family.pull(model, n)) for n in moe_layers(checkpoint)]):
            during = model(tokens).logits
        after = model(tokens).logits
    torch.testing.assert_close(during, before, rtol=1e-4, atol=1e-5)
    assert torch.equal(after, before)


def _rewrite(folder: Path, change: object) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)  # type: ignore[operator]
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_name_layer_and_expert(pico_folder: Path, value: float) -> None:
    _rewrite(pico_folder, lambda t: t["model.layers.1.block_sparse_moe.experts.2.w3.weight"].fill_(value))
    checkpoint = open_checkpoint(pico_folder)
    load_stack(checkpoint, layer=0)
    with pytest.raises(WeightError, match="layer 1, expert 2 holds NaN or infinite"):
        load_stack(checkpoint, layer=1)


def test_a_layer_that_does_not_exist(pico_checkpoint: Checkpoint) -> None:
    with pytest.raises(UsageError, match=r"layer 7 has no experts, expected one of \[0, 1\]"):
        load_stack(pico_checkpoint, layer=7)


def test_no_moe_layer(pico_folder: Path) -> None:
    def dense(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if "block_sparse_moe" in name]:
            del tensors[name]

    _rewrite(pico_folder, dense)
    with pytest.raises(CheckpointError, match="has no MoE layer: expected tensors such as"):
        moe_layers(open_checkpoint(pico_folder))


def test_an_unknown_tensor_in_a_block_is_named(pico_folder: Path) -> None:
    name = "model.layers.0.block_sparse_moe.experts.0.w4.weight"
    _rewrite(pico_folder, lambda t: t.update({name: torch.zeros(1)}))
    with pytest.raises(CheckpointError, match=f"{name!r} stands in an MoE block but is unknown"):
        moe_layers(open_checkpoint(pico_folder))


def test_a_missing_expert_is_named(pico_folder: Path) -> None:
    _rewrite(pico_folder, lambda t: t.pop("model.layers.0.block_sparse_moe.experts.3.w2.weight"))
    with pytest.raises(CheckpointError, match=r"experts.3.w2.weight', though its config promises 4 experts"):
        load_stack(open_checkpoint(pico_folder), layer=0)


def test_a_wrong_shape_is_told(pico_folder: Path) -> None:
    _rewrite(
        pico_folder, lambda t: t.update({"model.layers.0.block_sparse_moe.experts.1.w1.weight": torch.zeros(5, 8)})
    )
    with pytest.raises(WeightError, match=r"has shape \(5, 8\), expected \(12, 8\)"):
        load_stack(open_checkpoint(pico_folder), layer=0)


def _config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_unknown_family_lists_the_known(pico_folder: Path) -> None:
    _config(pico_folder, model_type="llama")
    with pytest.raises(CheckpointError, match=r"model_type 'llama', expected one of: .*mixtral"):
        moe_layers(open_checkpoint(pico_folder))


@pytest.mark.parametrize("value", [None, "8", 0, -1])
def test_a_config_without_a_number_is_told(pico_folder: Path, value: object) -> None:
    _config(pico_folder, num_local_experts=value)
    with pytest.raises(CheckpointError, match=r"num_local_experts = .*, expected a positive whole number"):
        load_stack(open_checkpoint(pico_folder), layer=0)


def test_a_config_that_promises_a_billion_experts_costs_nothing(pico_folder: Path) -> None:
    _config(pico_folder, num_local_experts=10**9)
    with pytest.raises(CheckpointError, match="config promises 1000000000 experts"):
        load_stack(open_checkpoint(pico_folder), layer=0)
