"""Scores from one call: cached, never another model's, resumed, and by hand on a pico model."""

import json
import math
from pathlib import Path

import pytest
import torch

from resmoe_lab._core.errors import Cancelled
from resmoe_lab._core.progress import Tick
from resmoe_lab.centers import find_center
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.experiments.comparison import score_checkpoint, score_methods
from resmoe_lab.experts import family_of
from resmoe_lab.methods import compress_layer
from resmoe_lab.runtime import load_pair, restored_experts
from resmoe_lab.scoring import score_cache, scorer
from resmoe_lab.scoring.score_cache import ScoreCache, model_key
from resmoe_lab.scoring.scorer import TaskScorer
from resmoe_lab.scoring.zeroshot import evaluate_model
from resmoe_lab.training.tokenizer import train_tokenizer

from ..experts import pico

CHOICES = [
    {"goal": f"put the {thing} in", "sol1": "a box.", "sol2": "the river.", "label": i % 2}
    for i, thing in enumerate(("ball", "cup", "red book", "hat", "old shoe"))
]
BLANKS = [
    {"sentence": f"Anna gave Ben the {thing} because _ was kind.", "option1": "Anna", "option2": "Ben", "answer": "1"}
    for thing in ("ball", "cup", "red book", "hat", "old shoe")
]
TEXTS = [{"text": f"Anna put the {thing} in the box and went home"} for thing in ("ball", "cup", "book", "hat", "shoe")]


@pytest.fixture(scope="module")
def pico_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pico Qwen2-MoE with a tokenizer, in a folder."""
    folder = pico.save(pico.qwen2_moe(vocab_size=300), tmp_path_factory.mktemp("pico"))
    tokenizer = train_tokenizer([row["text"] for row in TEXTS], vocab_size=300, max_length=64)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    kinds = {"choices": CHOICES, "blanks": BLANKS, "texts": TEXTS}
    for name, rows in kinds.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return {name: str(tmp_path / f"{name}.jsonl") for name in kinds}


@pytest.fixture
def cache(tmp_path: Path) -> ScoreCache:
    return ScoreCache(tmp_path / "scores")


def _by_hand(model: torch.nn.Module, tokenizer: object, before: str, after: str) -> tuple[float, bool]:
    """Summed log-probability of `after`, one plain pass, one token at a time."""
    first, tokens = tokenizer(before)["input_ids"], tokenizer(before + after)["input_ids"]
    total, greedy = 0.0, True
    for place in range(len(first), len(tokens)):
        with torch.no_grad():
            logits = model(torch.tensor([tokens[:place]])).logits[0, -1].double()
        total += float(logits.log_softmax(-1)[tokens[place]])
        greedy &= int(logits.argmax()) == tokens[place]
    return total, greedy


def test_both_protocols_are_the_hand_computed_figures(pico_model: Path, files: dict, cache: ScoreCache) -> None:
    checkpoint = open_checkpoint(pico_model)
    model, tokenizer = load_pair(checkpoint)
    choices, blanks, words, loss, tokens = [], [], [], 0.0, 0
    for row in CHOICES:
        ends = [_by_hand(model, tokenizer, row["goal"], f" {row[end]}")[0] for end in ("sol1", "sol2")]
        choices.append((ends[1] > ends[0]) == bool(row["label"]))
    for row in BLANKS:
        before, after = row["sentence"].split("_")
        fills = [_by_hand(model, tokenizer, before + row[f"option{i}"], after)[0] for i in (1, 2)]
        blanks.append(fills[0] >= fills[1])
    for row in TEXTS:
        before, word = row["text"].rsplit(" ", 1)
        words.append(_by_hand(model, tokenizer, before, f" {word}")[1])
        first = tokenizer.decode(tokenizer(row["text"])["input_ids"][:1])
        assert first == tokenizer.bos_token
        loss -= _by_hand(model, tokenizer, "", row["text"])[0]
        tokens += len(tokenizer(row["text"])["input_ids"]) - 1
    tasks = [files["choices"], files["blanks"], f"last_word:{files['texts']}", files["texts"]]
    for protocol in ("paper", "lm-eval"):
        scores = score_checkpoint(checkpoint, TaskScorer(tasks, protocol=protocol, cache=cache))
        figures = [scores[task].outcomes[0] for task in tasks]
        for outcome, right in zip(figures, (choices, blanks, words), strict=False):
            assert outcome.rows.tolist() == [float(answer) for answer in right], protocol
            assert outcome.main.value == pytest.approx(sum(right) / 5)
        unit = tokens if protocol == "paper" else sum(len(row["text"].split()) for row in TEXTS)
        assert figures[3].main.value == pytest.approx(math.exp(loss / unit), rel=1e-4)


def test_what_is_cached_is_not_computed_again(
    pico_model: Path, files: dict, cache: ScoreCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, tasks = open_checkpoint(pico_model), [files["choices"], files["texts"]]
    options = {"methods": ["up", "resmoe-svd"], "tasks": tasks, "cache": cache}
    first = score_methods(checkpoint, **options)
    assert not first.cached.any()
    monkeypatch.setattr(scorer, "task_outcome", None)
    again = score_methods(checkpoint, **options)
    assert again.cached.all()
    assert again.drop(columns="cached").equals(first.drop(columns="cached"))
    main = again[again.main]
    assert list(main.method) == ["original", "original", "up", "up", "resmoe-svd", "resmoe-svd"]
    assert main[main.method == "original"].difference.isna().all()
    assert (main[main.method != "original"].low <= main[main.method != "original"].difference).all()


def test_another_weight_row_limit_or_method_is_another_score(pico_model: Path, files: dict, cache: ScoreCache) -> None:
    checkpoint = open_checkpoint(pico_model)
    before = model_key(checkpoint)
    texts = TaskScorer([files["texts"]], cache=cache)
    score_checkpoint(checkpoint, texts)
    assert score_checkpoint(checkpoint, texts)[files["texts"]].cached
    assert not TaskScorer([files["texts"]], cache=cache, limit=2).cached({"model": before, "variant": "original"})
    Path(files["texts"]).write_text(json.dumps({"text": "Other words"}) + "\n")
    assert not TaskScorer([files["texts"]], cache=cache).cached({"model": before, "variant": "original"})
    path = next(pico_model.glob("*.safetensors"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    try:
        path.write_bytes(content)
        assert model_key(open_checkpoint(pico_model)) != before
    finally:
        content[-1] ^= 1
        path.write_bytes(content)
    assert model_key(open_checkpoint(pico_model)) == before


def test_a_mapping_gives_each_task_its_own_limit(pico_model: Path, files: dict, cache: ScoreCache) -> None:
    tasks = [files["choices"], files["texts"]]
    scores = score_checkpoint(open_checkpoint(pico_model), TaskScorer(tasks, limit={files["texts"]: 2}, cache=cache))
    assert [scores[task].outcomes[0].main.n for task in tasks] == [5, 2]


def test_scores_of_a_method_are_those_of_its_restored_experts(pico_model: Path, files: dict, cache: ScoreCache) -> None:
    """Through cached activations, shared prefixes and score cache, against one plain model with other experts."""
    checkpoint = open_checkpoint(pico_model)
    table = score_methods(checkpoint, methods=["resmoe-up"], layers=[2], tasks=[files["texts"]], cache=cache, keep=0.5)
    model, tokenizer = load_pair(checkpoint)
    stack = family_of(checkpoint).load(checkpoint, 2)
    compressed = compress_layer(stack, method="resmoe-up", keep=0.5, center=find_center(stack))
    with restored_experts(model, checkpoint, [stack.with_weights(compressed.restore())]):
        [expected, *_] = evaluate_model(model, tokenizer, tasks=[files["texts"]])
    value = table[(table.method == "resmoe-up") & table.main].value.item()
    assert value == pytest.approx(expected.value, rel=1e-5)


def test_an_interrupted_evaluation_goes_on(
    pico_model: Path, files: dict, cache: ScoreCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_cache, "_SAVE_INTERVAL", 0.0)
    monkeypatch.setattr("resmoe_lab.scoring.likelihood.BATCH_TOKENS", 1)
    checkpoint, task = open_checkpoint(pico_model), files["texts"]

    def stop(tick: Tick) -> None:
        if tick.done == 3:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        score_checkpoint(checkpoint, TaskScorer([task], cache=cache, progress=stop))
    ticks: list[Tick] = []
    resumed = score_checkpoint(checkpoint, TaskScorer([task], cache=cache, progress=ticks.append))
    assert ticks[0].done == 3
    assert "seconds_left" in ticks[-1].facts
    uninterrupted = score_checkpoint(checkpoint, TaskScorer([task], cache=ScoreCache(cache._folder / "other")))
    assert resumed[task].outcomes[0].rows.tolist() == uninterrupted[task].outcomes[0].rows.tolist()
    assert not list(cache._folder.glob("*.partial"))


def test_equal_bytes_are_nearly_equal(tiny: Checkpoint, cache: ScoreCache) -> None:
    table = score_methods(
        tiny, methods=["up", "resmoe-up"], equal="bytes", tasks=["storyworld_action"], limit=4, layers=[3], cache=cache
    )
    sizes = table.set_index("method").true_bytes
    assert sizes["up"] == pytest.approx(sizes["resmoe-up"], rel=0.02)
    assert table[table.method == "up"].keep.item() > 0.25


@pytest.mark.filterwarnings("ignore:layer 2. no calibration token reaches")
def test_old_argument_names_go_on_working_with_a_warning(pico_model: Path, files: dict, cache: ScoreCache) -> None:
    options = {"methods": ["up"], "layers": [2], "tasks": [files["texts"]], "limit": 1}
    checkpoint = open_checkpoint(pico_model)
    with pytest.warns(DeprecationWarning, match="'calibrate' of score_methods.*use 'calibration'"):
        score_methods(checkpoint, calibrate=files["texts"], cache=cache, **options)
    with pytest.warns(DeprecationWarning, match="'book' of score_methods.*use 'cache'"):
        assert score_methods(checkpoint, calibration=files["texts"], book=cache, **options).cached.all()
