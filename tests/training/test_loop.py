"""Training in small: the recipe's promises, and going on after a stop."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from resmoe_lab._core.errors import Cancelled, DataError
from resmoe_lab._core.progress import Tick
from resmoe_lab.training import loop as training
from resmoe_lab.training._optimization import learning_rate
from resmoe_lab.training.batches import IGNORED, document_positions, paired_batches
from resmoe_lab.training.corpus import read_book, training_documents
from resmoe_lab.training.tokenizer import EOS_ID, train_tokenizer
from resmoe_lab.zoo.recipes import DEEPSEEK_TINY, MIXTRAL_TINY, SWITCH_TINY, Phase, Recipe

from ..experts import pico

BOOK = (
    "\ufeffHeader\r\n*** START OF THIS PROJECT GUTENBERG EBOOK X ***\r\n\r\nThe first\r\nparagraph.\r\n\r\n"
    "The second.\r\n*** END OF THIS PROJECT GUTENBERG EBOOK X ***\r\nFooter\r\n"
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "gutenberg").mkdir()
    body = "\r\n\r\n".join(f"Sentence number {i} of the novel is here." for i in range(200))
    (tmp_path / "gutenberg" / "x.txt").write_text(BOOK.replace("The second.", body), "utf-8")
    (tmp_path / "wikipedia_passages").mkdir()
    lines = [f"Title {i} -- A passage about the number {i} and its neighbours." for i in range(200)]
    (tmp_path / "wikipedia_passages" / "boolq_train_passages.txt").write_text("\n".join(lines), "utf-8")
    return tmp_path


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setattr(training, "SAVE_STEPS", 4)
    monkeypatch.setattr(training, "REPORT_STEPS", 1)
    monkeypatch.setattr(training.shutil, "which", lambda name: None)  # nothing is worth compiling here
    sizes = {"vocab_size": 300, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "head_dim": 8}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "num_local_experts": 4, "max_position_embeddings": 32}
    return replace(
        MIXTRAL_TINY,
        config=MIXTRAL_TINY.config | sizes,
        dense=Phase(MIXTRAL_TINY.dense.source_weights, 6 * 64, 2, 1e-2, 1e-3, warmup_steps=2),
        sparse=Phase(MIXTRAL_TINY.sparse.source_weights, 3 * 128, 4, 1e-2, 1e-3, warmup_steps=2),
        num_stories=200,
        sequence_length=32,
    )


def test_a_book_is_what_stands_between_the_marks(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(BOOK.encode())
    assert read_book(path) == "The first paragraph.\nThe second."


def test_missing_text_names_the_four_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESMOE_DATA", raising=False)
    with pytest.raises(DataError, match=r"--data-dir.*\$RESMOE_DATA.*data/local.*hub"):
        training_documents(num_stories=1, seed=0, data_dir=tmp_path)


def test_the_tokenizer_gives_back_any_text() -> None:
    tokenizer = train_tokenizer(["some words of the story"] * 5, vocab_size=300, max_length=32)
    text = "Wörter, 日本語 and\n<b>more</b>"
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:]) == text


def test_upcycling_changes_nothing_yet(recipe: Recipe) -> None:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["some words of the story"] * 5, vocab_size=300, max_length=32)
    dense = training.new_model(recipe, tokenizer, dense=True).eval()
    sparse = training.upcycle(dense, training.new_model(recipe, tokenizer)).eval()
    tokens = torch.randint(0, 300, (2, 20))
    with torch.no_grad():
        torch.testing.assert_close(sparse(tokens).logits, dense(tokens).logits, rtol=1e-4, atol=1e-5)


def test_balance_is_the_published_sum_taken_in_every_sequence() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3 * 10, 4, generator=generator)
    counted = torch.ones(3, 10)
    counted[2, 6:] = 0
    loss = training.load_balance(logits, counted=counted, top_k=2)
    expected = 0.0
    for rows, length in zip(logits.view(3, 10, 4), (10, 10, 6), strict=True):
        rows = rows[:length]
        for expert in range(4):
            picked = sum(expert in row.sort(descending=True).indices[:2] for row in rows) / (2 * length)
            expected += 4 * picked * float(rows.softmax(dim=1)[:, expert].mean()) / 3
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_balance_is_one_where_all_get_the_same() -> None:
    rows = torch.eye(4).repeat(5, 1)
    assert float(training.load_balance(1e-6 * rows, counted=torch.ones(2, 10), top_k=1)) == pytest.approx(1, abs=1e-3)
    alone = torch.tensor([[50.0, 0, 0, 0]]).repeat(20, 1)
    assert float(training.load_balance(alone, counted=torch.ones(2, 10), top_k=1)) == pytest.approx(4)


def test_an_encoder_reads_a_beginning_and_its_decoder_tells_the_rest() -> None:
    documents = [[1, *range(10 * k, 10 * k + k), 2] for k in range(3, 9)]
    tokens = {"a": np.array([token for document in documents * 3 for token in document], dtype=np.uint16)}
    phase = replace(SWITCH_TINY.sparse, source_weights={"a": 1.0}, batch_size=8)
    batches = paired_batches(phase, tokens=tokens, length=8, seed=0)
    for batch in islice(batches, 10):
        assert set(batch) == {"input_ids", "attention_mask", "labels"}
        for read, seen, told in zip(*(batch[key].tolist() for key in batch), strict=True):
            *begun, end = [token for token, counts in zip(read, seen, strict=True) if counts]
            assert end == EOS_ID
            rest = [token for token in told if token != IGNORED]
            assert begun
            assert rest
            assert [*begun, *rest] in [document[:8] for document in documents]


@pytest.mark.parametrize("of", [DEEPSEEK_TINY, SWITCH_TINY], ids=lambda recipe: recipe.name)
def test_every_kind_of_model_trains(of: Recipe, recipe: Recipe, corpus: Path, tmp_path: Path) -> None:
    sizes = {"vocab_size": 300, "num_experts": 4} | dict.fromkeys(("num_layers", "num_decoder_layers"), 2)
    sizes |= {"n_routed_experts": 8, "num_hidden_layers": 2, "moe_intermediate_size": 8, "intermediate_size": 16}
    sizes |= {"hidden_size": 16, "d_model": 16, "d_ff": 24, "num_sparse_encoder_layers": 1}
    small = replace(
        of,
        config={name: sizes.get(name, value) for name, value in of.config.items()},
        dense=of.dense and replace(recipe.dense, batch_size=2),
        sparse=recipe.sparse,
        num_stories=200,
        sequence_length=32,
    )
    trained = training.train(small, work=tmp_path, data_dir=corpus)
    assert [row["phase"] for row in trained.log if row["step"] == 1] == list(of.phases)
    assert trained.log[-1]["loss"] < trained.log[0]["loss"]
    assert trained.model.config.model_type == of.model_type


def test_the_learning_rate_rises_then_falls_to_the_end() -> None:
    phase = Phase(source_weights={}, tokens=0, batch_size=1, peak_lr=1.0, end_lr=0.1, warmup_steps=10)
    rates = [learning_rate(phase, step=step, steps=100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert np.argmax(rates) in (9, 10)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


def test_a_stopped_training_goes_on_to_the_same_model(recipe: Recipe, corpus: Path, tmp_path: Path) -> None:
    uninterrupted = training.train(recipe, work=tmp_path / "whole", data_dir=corpus)
    stops = [("train dense", 5), ("train sparse", 2)]

    def stop(tick: Tick) -> None:
        if stops and (tick.task, tick.done) == stops[0]:
            stops.pop(0)
            raise Cancelled("stopped")

    for _ in range(2):
        with pytest.raises(Cancelled):
            training.train(recipe, work=tmp_path / "parts", data_dir=corpus, progress=stop)
    parts = training.train(recipe, work=tmp_path / "parts", data_dir=corpus, progress=stop)
    assert not stops
    theirs = uninterrupted.model.state_dict()
    for name, tensor in parts.model.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name
    assert [row["loss"] for row in parts.log] == [row["loss"] for row in uninterrupted.log]
    assert uninterrupted.log[-1]["loss"] < uninterrupted.log[0]["loss"]


def test_documents_of_a_row_do_not_see_each_other() -> None:
    model = pico.mixtral()
    first, second = [1, 9, 8, 7, 6], [1, 20, 21, 22]
    row = torch.tensor([[*first, *second]])
    positions = document_positions(row, bos=1)
    assert positions.tolist() == [[0, 1, 2, 3, 4, 0, 1, 2, 3]]
    with torch.no_grad():
        together = model(row, position_ids=positions, use_cache=False).logits[0]
        alone = [model(torch.tensor([document])).logits[0] for document in (first, second)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_a_row_begun_inside_a_document_counts_from_its_first_token() -> None:
    assert document_positions(torch.tensor([[5, 6, 1, 7]]), bos=1).tolist() == [[0, 1, 0, 1]]
