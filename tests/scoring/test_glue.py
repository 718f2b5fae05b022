"""GLUE: rows as they are published, fine-tuning of a pico Switch, and its scores."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import SwitchTransformersConfig, SwitchTransformersForConditionalGeneration

from resmoe_lab._core.errors import DataError, UsageError
from resmoe_lab.scoring.glue import GLUE, glue_outcome, glue_task
from resmoe_lab.training.finetuning import FineTuning, fine_tune
from resmoe_lab.training.tokenizer import train_tokenizer

from ..conftest import data_or_skip
from ..experts import pico

SETTINGS = FineTuning(learning_rate=1e-3, batch_size=16, epochs=5, window=32)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """CoLA rows that a pico model can learn: a sentence with a blue thing is wrong."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "glue" / "CoLA"
    folder.mkdir(parents=True)
    for name, count in (("train", 320), ("dev", 64)):
        labels = rng.integers(0, 2, count)
        lines = [f'x\t{label}\t\tthe {("blue", "red")[label]} "ball"' for label in labels]
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    return tmp_path


def _switch() -> SwitchTransformersForConditionalGeneration:
    torch.manual_seed(0)
    sizes = {"vocab_size": 320, "d_model": 32, "d_kv": 8, "d_ff": 32, "num_heads": 4, "num_experts": 4}
    sizes |= {"num_layers": 2, "num_sparse_encoder_layers": 1, "num_decoder_layers": 2, "num_sparse_decoder_layers": 1}
    special = {"pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": 2, "dropout_rate": 0.0}
    return SwitchTransformersForConditionalGeneration(SwitchTransformersConfig(**sizes, **special))


def test_a_model_learns_its_task(data: Path) -> None:
    task, model = glue_task("cola"), _switch()
    rows = task.rows(train=True, data_dir=data)
    pairs = [(task.prompt(row), task.answer(row)) for row in rows]
    tokenizer = train_tokenizer([text for pair in pairs for text in pair], vocab_size=320, max_length=64)
    before = glue_outcome(model.eval(), tokenizer, task, data_dir=data, window=32)
    losses = fine_tune(model, tokenizer, pairs, settings=SETTINGS)
    assert len(losses) == 320 // 16 * 5
    assert losses[-1] < 0.2 * losses[0]
    after = glue_outcome(model, tokenizer, task, data_dir=data, window=32)
    assert [score.metric for score in after.scores] == ["mcc", "acc"]
    assert after.scores[1].value > 0.95 > before.scores[1].value
    assert after.main.value > 0.9


def test_an_answer_is_what_the_model_s_own_loss_prefers(data: Path) -> None:
    task, model = glue_task("cola"), _switch().eval()
    tokenizer = train_tokenizer(["the blue red ball acceptable"] * 5, vocab_size=320, max_length=64)
    outcome = glue_outcome(model, tokenizer, task, data_dir=data, limit=10)
    for row, right in zip(task.rows(limit=10, data_dir=data), outcome.rows, strict=True):
        input_ids = torch.tensor([[*tokenizer(task.prompt(row))["input_ids"], 2]])
        losses = []
        for word in task.words:
            labels = torch.tensor([[*tokenizer(word, add_special_tokens=False)["input_ids"], 2]])
            with torch.no_grad():
                losses.append(float(model(input_ids=input_ids, labels=labels).loss) * labels.numel())
        assert (losses[1] < losses[0]) == (right == (row["label"] == 1))


def test_the_learning_rate_is_the_published_one() -> None:
    settings = FineTuning(learning_rate=1.0)
    assert (settings.betas, settings.epsilon, settings.warmup_steps, settings.weight_decay) == (
        (0.9, 0.98),
        1e-8,
        8,
        0.01,
    )
    rates = [settings.learning_rate_at(step, 100) for step in range(100)]
    assert rates[:8] == pytest.approx([(step + 1) / 8 for step in range(8)])
    assert max(rates) == 1.0
    assert rates[-1] == pytest.approx(1 / 92)


@pytest.mark.parametrize(
    ("name", "count"), [("sst2", 872), ("mrpc", 1725), ("cola", 1043), ("rte", 277), ("mnli", 1000)]
)
def test_published_rows_are_read_whole(name: str, count: int) -> None:
    data_or_skip(GLUE[name].test)
    rows = GLUE[name].rows()
    assert len(rows) == count
    assert {row["label"] for row in rows} == set(range(len(GLUE[name].words)))
    assert all(str(row[field]).strip() for row in rows for field in GLUE[name].fields)


def test_a_quotation_mark_is_a_character(data: Path) -> None:
    assert all('"ball"' in str(row["sentence"]) for row in glue_task("cola").rows(data_dir=data))


def test_bad_rows_and_names_are_refused(data: Path) -> None:
    (data / "glue" / "CoLA" / "dev.tsv").write_text("x\t1\n")
    with pytest.raises(DataError, match=r"dev\.tsv, line 1 is no row of cola"):
        glue_task("cola").rows(data_dir=data)
    (data / "glue" / "CoLA" / "dev.tsv").write_text("")
    with pytest.raises(DataError, match="is empty"):
        glue_task("cola").rows(data_dir=data)
    with pytest.raises(DataError, match="mnli has no training rows"):
        GLUE["mnli"].rows(train=True)
    with pytest.raises(UsageError, match="choose from sst2"):
        glue_task("qqp")


def test_a_decoder_or_too_few_pairs_cannot_be_tuned() -> None:
    tokenizer = train_tokenizer(["some words"] * 5, vocab_size=300, max_length=32)
    with pytest.raises(UsageError, match="has no encoder"):
        fine_tune(pico.mixtral(), tokenizer, [("a", "b")] * 99)
    with pytest.raises(UsageError, match="3 pairs, expected at least a batch of 32"):
        fine_tune(_switch(), tokenizer, [("a", "b")] * 3)
