"""Fine-tuning of a pico encoder as a classifier, and its answers."""

import numpy as np
import pytest
import torch

from resmoe_lab._core.errors import UsageError
from resmoe_lab.training.classification import (
    Answers,
    SentenceClassifier,
    batch_of,
    encode_rows,
    fine_tune_classifier,
)
from resmoe_lab.training.finetuning import FineTuning
from resmoe_lab.training.tokenizer import train_tokenizer
from resmoe_lab.training.upcycled_encoder import routed_blocks, upcycle_encoder

from .test_upcycled_encoder import RECIPE, pico_bert, some_rows

SETTINGS = FineTuning(learning_rate=3e-3, batch_size=16, epochs=8)


def classifier() -> SentenceClassifier:
    encoder = pico_bert()
    upcycle_encoder(encoder, RECIPE)
    for block in routed_blocks(encoder):
        torch.nn.init.normal_(block.gate.weight)
    return SentenceClassifier(encoder, 2).eval()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_an_upcycled_encoder_learns_its_task(precision: torch.dtype) -> None:
    rows = [([5 + number % 2, *tokens], [0, *types]) for number, (tokens, types) in enumerate(some_rows(160))]
    labels = [number % 2 for number in range(160)]
    model = classifier()
    embeddings = model.encoder.embeddings.word_embeddings.weight.clone()
    options = {"settings": SETTINGS, "balance": 0.02, "precision": precision}
    before = Answers(model, rows, first=1, precision=precision)()
    losses = fine_tune_classifier(model, rows, labels, **options)
    assert len(losses) == 160 // 16 * 8
    answers = Answers(model, rows, first=1, precision=precision)()
    assert np.mean(answers == labels) > 0.9 > np.mean(before == labels)
    assert torch.equal(model.encoder.embeddings.word_embeddings.weight, embeddings)
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())


def test_the_balancing_loss_reaches_the_routers() -> None:
    rows, labels = some_rows(16), [0, 1] * 8
    settings = FineTuning(learning_rate=0.0, batch_size=16, epochs=1)
    torch.manual_seed(0)
    with_balance, without = (
        fine_tune_classifier(classifier(), rows, labels, settings=settings, balance=balance)[0]
        for balance in (1.0, 0.0)
    )
    assert with_balance > without + 0.9  # it is 1 where every expert gets as much, and more elsewhere


def test_answers_are_those_of_each_row_alone() -> None:
    model, rows = classifier(), some_rows(70)
    answers = Answers(model, rows, first=1)
    with torch.no_grad():
        alone = [int(model(**batch_of([row])).argmax()) for row in rows]
        assert answers().tolist() == alone
        assert len(set(alone)) == 2
        # Upper layers with other weights are asked again, on the same hidden states below.
        for weight in model.encoder.encoder.layer[1].intermediate.experts.parameters():
            weight.neg_()
        assert answers().tolist() == [int(model(**batch_of([row])).argmax()) for row in rows] != alone


def test_batches_are_padded_to_eight_tokens_and_single_rows_are_not() -> None:
    batch = batch_of([([1, 2, 3], [0, 0, 1]), ([4], [0])])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 0, 0, 0, 0, 0], [4, 0, 0, 0, 0, 0, 0, 0]]
    assert batch["attention_mask"].sum(dim=1).tolist() == [3, 1]
    assert batch["token_type_ids"][0].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    assert batch_of([([1, 2, 3], [0, 0, 0])])["input_ids"].shape == (1, 3)


def test_texts_and_pairs_are_cut_at_the_window() -> None:
    tokenizer = train_tokenizer(["some words of the story"] * 5, vocab_size=300, max_length=64)
    rows = encode_rows(tokenizer, [["some words"], ["some words", "of the story of the story"]], window=6)
    assert len(rows[1][0]) == len(rows[1][1]) == 6
    assert rows[0][0] == tokenizer("some words")["input_ids"]


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(UsageError, match="3 rows, expected at least a batch of 16"):
        fine_tune_classifier(classifier(), some_rows(3), [0, 1, 0], settings=SETTINGS)
