"""The whole way of an upcycled model, on a pico Llama: trained, saved, measured, and its card."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.experts import family_of
from resmoe_lab.runtime import load_pair
from resmoe_lab.training import upcycled_card
from resmoe_lab.training._cards import CARD_FILE, FACTS_FILE
from resmoe_lab.training.tokenizer import train_tokenizer
from resmoe_lab.training.upcycled_card import build_upcycled, unmet_requirements

from ..conftest import data_or_skip
from .test_loop import corpus as corpus
from .test_upcycling import RECIPE, pico_llama

pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")


def test_a_model_is_built_and_its_card_tells_what_was_measured(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for task in ("piqa/valid.jsonl", "winogrande/dev.jsonl", "lambada/lambada_test.jsonl", "wikitext-2/wiki.test.raw"):
        data_or_skip(task)
    monkeypatch.setitem(upcycled_card.UPCYCLED, "smol-moe", replace(RECIPE, epochs=1))
    pico_llama().save_pretrained(tmp_path / "dense")
    tokenizer = train_tokenizer(["some words of the story"] * 5, vocab_size=300, max_length=64)
    tokenizer.save_pretrained(tmp_path / "dense")
    facts = build_upcycled("smol-moe", dense=tmp_path / "dense", out=tmp_path / "made", data_dir=corpus, limit=4)
    checkpoint = open_checkpoint(tmp_path / "made")
    assert checkpoint.model_type == "qwen2_moe"
    assert family_of(checkpoint).layers(checkpoint) == [2, 3]
    load_pair(checkpoint)
    assert [row["neurons_found"] for row in facts["layers"]] == [1.0, 1.0]
    assert all(0.03 < row["residual"] < row["average_residual"] for row in facts["layers"])
    stored = json.loads((tmp_path / "made" / FACTS_FILE).read_text())
    assert stored["unmet"] == facts["unmet"] == unmet_requirements(facts)
    text = (tmp_path / "made" / CARD_FILE).read_text("utf-8")
    for row in facts["scores"]:
        assert f"| {row['task']} | {row['metric']} | {row['n']} |" in text
    assert not list(tmp_path.glob(".made*"))


def test_demands_that_are_not_met_are_named() -> None:
    score = {"dense": 0.6, "dense_stderr": 0.02}
    facts = {
        "scores": [
            {"task": "wikitext", "value": 21.0, "dense": 20.0, "dense_stderr": 1.0},
            {"task": "piqa", "value": 0.57, **score},
            {"task": "winogrande", "value": 0.59, **score},
        ],
        "layers": [{"layer": 5, "residual": 0.01, "neurons_found": 0.98}],
    }
    problems = "; ".join(unmet_requirements(facts))
    for words in ("wikitext is 21, 20 in", "piqa is 0.57", "layer 5 leaves 1.0%", "layer 5 finds 98.00%"):
        assert words in problems
    assert "winogrande" not in problems
