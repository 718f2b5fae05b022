"""Scores from one call: remembered, never another model's, resumed, and by hand on a pico model."""

import json
import math
from pathlib import Path

import pytest
import torch

from resmoe_lab._core.errors import Cancelled, CheckpointError, DataError, UsageError
from resmoe_lab._core.progress import Tick
from resmoe_lab.centers import find_center
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.experiments import comparison as scoring
from resmoe_lab.experiments.comparison import TaskScorer, score_checkpoint, score_methods
from resmoe_lab.experiments.divergence import (
    divergence,
    divergence_of_methods,
    generate_side_by_side,
    predicting_states,
)
from resmoe_lab.experts import family_of
from resmoe_lab.methods import compress_layer
from resmoe_lab.runtime import load_model, restored_experts
from resmoe_lab.scoring import score_cache as scorebook
from resmoe_lab.scoring.likelihood import Likelihood, Request, encode_request
from resmoe_lab.scoring.score_cache import PartialFile, ScoreBook, model_key
from resmoe_lab.scoring.tasks import Task
from resmoe_lab.scoring.zeroshot import evaluate_model, published_text, stream_windows, task_outcome
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
def book(tmp_path: Path) -> ScoreBook:
    return ScoreBook(tmp_path / "book")


def _by_hand(model: torch.nn.Module, tokenizer: object, before: str, after: str) -> tuple[float, bool]:
    """Summed log-probability of `after`, one plain pass, one token at a time."""
    first, whole = tokenizer(before)["input_ids"], tokenizer(before + after)["input_ids"]
    total, greedy = 0.0, True
    for place in range(len(first), len(whole)):
        with torch.no_grad():
            logits = model(torch.tensor([whole[:place]])).logits[0, -1].double()
        total += float(logits.log_softmax(-1)[whole[place]])
        greedy &= int(logits.argmax()) == whole[place]
    return total, greedy


def test_both_protocols_are_the_hand_computed_figures(pico_model: Path, files: dict, book: ScoreBook) -> None:
    checkpoint = open_checkpoint(pico_model)
    model, tokenizer = load_model(checkpoint)
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
        found = score_checkpoint(checkpoint, TaskScorer(tasks, protocol=protocol, book=book))
        figures = [found[task].outcomes[0] for task in tasks]
        for outcome, right in zip(figures, (choices, blanks, words), strict=False):
            assert outcome.rows.tolist() == [float(answer) for answer in right], protocol
            assert outcome.main.value == pytest.approx(sum(right) / 5)
        unit = tokens if protocol == "paper" else sum(len(row["text"].split()) for row in TEXTS)
        assert figures[3].main.value == pytest.approx(math.exp(loss / unit), rel=1e-4)


def test_what_is_known_is_not_computed_again(
    pico_model: Path, files: dict, book: ScoreBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, tasks = open_checkpoint(pico_model), [files["choices"], files["texts"]]
    options = {"methods": ["up", "resmoe-svd"], "tasks": tasks, "book": book}
    first = score_methods(checkpoint, **options)
    assert not first.cached.any()
    monkeypatch.setattr(scoring, "task_outcome", None)
    again = score_methods(checkpoint, **options)
    assert again.cached.all()
    assert again.drop(columns="cached").equals(first.drop(columns="cached"))
    main = again[again.main]
    assert list(main.method) == ["original", "original", "up", "up", "resmoe-svd", "resmoe-svd"]
    assert main[main.method == "original"].difference.isna().all()
    assert (main[main.method != "original"].low <= main[main.method != "original"].difference).all()


def test_another_weight_row_limit_or_method_is_another_score(pico_model: Path, files: dict, book: ScoreBook) -> None:
    checkpoint = open_checkpoint(pico_model)
    before = model_key(checkpoint)
    scorer = TaskScorer([files["texts"]], book=book)
    score_checkpoint(checkpoint, scorer)
    assert score_checkpoint(checkpoint, scorer)[files["texts"]].cached
    assert not TaskScorer([files["texts"]], book=book, limit=2).known({"model": before, "variant": "original"})
    Path(files["texts"]).write_text(json.dumps({"text": "Other words"}) + "\n")
    assert not TaskScorer([files["texts"]], book=book).known({"model": before, "variant": "original"})
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


def test_a_mapping_gives_each_task_its_own_limit(pico_model: Path, files: dict, book: ScoreBook) -> None:
    tasks = [files["choices"], files["texts"]]
    found = score_checkpoint(open_checkpoint(pico_model), TaskScorer(tasks, limit={files["texts"]: 2}, book=book))
    assert [found[task].outcomes[0].main.n for task in tasks] == [5, 2]


def test_scores_of_a_method_are_those_of_its_restored_experts(pico_model: Path, files: dict, book: ScoreBook) -> None:
    """Through lower states, row layout and cache, against one plain model with other experts."""
    checkpoint = open_checkpoint(pico_model)
    found = score_methods(checkpoint, methods=["resmoe-up"], layers=[2], tasks=[files["texts"]], book=book, keep=0.5)
    model, tokenizer = load_model(checkpoint)
    stack = family_of(checkpoint).load(checkpoint, 2)
    compressed = compress_layer(stack, method="resmoe-up", keep=0.5, center=find_center(stack))
    with restored_experts(model, checkpoint, [stack.with_weights(compressed.restore())]):
        [expected, *_] = evaluate_model(model, tokenizer, tasks=[files["texts"]])
    value = found[(found.method == "resmoe-up") & found.main].value.item()
    assert value == pytest.approx(expected.value, rel=1e-5)


def test_an_interrupted_evaluation_goes_on(
    pico_model: Path, files: dict, book: ScoreBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorebook, "_EVERY", 0.0)
    monkeypatch.setattr("resmoe_lab.scoring.likelihood.BATCH_TOKENS", 1)
    checkpoint, task = open_checkpoint(pico_model), files["texts"]

    def stop(tick: Tick) -> None:
        if tick.done == 3:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        score_checkpoint(checkpoint, TaskScorer([task], book=book, progress=stop))
    ticks: list[Tick] = []
    parts = score_checkpoint(checkpoint, TaskScorer([task], book=book, progress=ticks.append))
    assert ticks[0].done == 3
    assert "seconds_left" in ticks[-1].facts
    whole = score_checkpoint(checkpoint, TaskScorer([task], book=ScoreBook(book._folder / "other")))
    assert parts[task].outcomes[0].rows.tolist() == whole[task].outcomes[0].rows.tolist()
    assert not list(book._folder.glob("*.partial"))


def test_a_damaged_book_is_no_book(tmp_path: Path) -> None:
    book = ScoreBook(tmp_path)
    book.path({"a": 1}).write_text("{")
    assert book.find({"a": 1}) is None
    assert PartialFile(tmp_path / "none.partial").load() == {}
    (tmp_path / "x.partial").write_text('{"0": {"log_probability": -1.0, "greedy": true}}')
    assert PartialFile(tmp_path / "x.partial").load() == {0: Likelihood(-1.0, True)}


@pytest.mark.parametrize(
    ("tasks", "options", "error", "message"),
    [
        (["nonsense_task"], {}, UsageError, "unknown task 'nonsense_task'.*use lm-eval"),
        (["sst2"], {}, UsageError, "task 'sst2' is the harness's"),
        (["no_such_task_xyz.yaml"], {"protocol": "lm-eval"}, DataError, "not found"),
        (["storyworld_action"], {"limit": 0}, UsageError, "limit is 0"),
        (["storyworld_action"], {"protocol": "mine"}, UsageError, "protocol is 'mine'"),
    ],
)
def test_what_cannot_be_scored_is_told_before_anything_runs(
    tasks: list, options: dict, error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        TaskScorer(tasks, **options)


def test_equal_bytes_are_nearly_equal(tiny: Checkpoint, book: ScoreBook) -> None:
    found = score_methods(
        tiny, methods=["up", "resmoe-up"], equal="bytes", tasks=["storyworld_action"], limit=4, layers=[3], book=book
    )
    sizes = found.set_index("method").true_bytes
    assert sizes["up"] == pytest.approx(sizes["resmoe-up"], rel=0.02)
    assert found[found.method == "up"].keep.item() > 0.25


# -- the published windows -----------------------------------------------------------------------------------


def test_wikitext_s_windows_are_those_of_the_published_loop(tiny: Checkpoint) -> None:
    model, tokenizer = load_model(tiny)
    text = " \n = Title = \n \n Some words of an article . \n More words . \n" * 20
    rows = ["" if line == " " else f"{line}\n" for line in text.split("\n")[:-1]]
    tokens = tokenizer("\n\n".join(rows), return_tensors="pt")["input_ids"]
    losses = []
    with torch.no_grad():
        for begin in range(0, tokens.shape[1], 256):
            piece = tokens[:, begin : begin + 256]
            losses.append(float(model(piece, labels=piece).loss))
    windows = stream_windows(model, tokenizer, text)
    assert [len(window.continuation) for window in windows] == [255] * (len(losses) - 1) + [
        tokens.shape[1] - 256 * (len(losses) - 1) - 1
    ]
    task = Task("mine", "stream", str(Path(__file__).absolute()), False, lambda path: [{"text": text}])
    scores = {score.metric: score.value for score in task_outcome(model, tokenizer, task).scores}
    assert scores["perplexity"] == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-4)
    assert set(scores) == {"perplexity", "token_perplexity", "word_perplexity", "byte_perplexity"}


def test_a_blank_line_is_an_empty_row() -> None:
    assert published_text(" \n = A = \n \n b \n") == "\n\n = A = \n\n\n\n\n b \n"


# -- tokenizers --------------------------------------------------------------------------------------------


class _Plain:
    """A tokenizer of letters without a first or padding token."""

    bos_token_id = eos_token_id = pad_token_id = None

    def __call__(self, text: str, **options: object) -> dict:
        return {"input_ids": [ord(letter) for letter in text]}


def test_a_tokenizer_without_a_first_token_drops_nothing() -> None:
    assert encode_request(_Plain(), "ab", " cd") == Request((97, 98), (32, 99, 100))


def test_no_context_and_no_first_token_is_refused() -> None:
    with pytest.raises(CheckpointError, match="neither a first nor a last token"):
        encode_request(_Plain(), "", "abc")
    ended = _Plain()
    ended.eos_token_id = 0  # type: ignore[assignment]  # a token that ends texts begins them too
    assert encode_request(ended, "", "abc") == Request((0,), (97, 98, 99))


# -- divergence and generation ---------------------------------------------------------------------------------


def test_divergence_is_the_sum_over_the_vocabulary() -> None:
    model, other = pico.mixtral(), pico.mixtral(seed=1)
    other.lm_head.weight = model.lm_head.weight
    requests = [Request((1, 2), (3, 4, 5)), Request((6,), (7, 8))]
    states = [predicting_states(one, requests) for one in (model, other)]
    found = divergence(model, *states)
    total, same = 0.0, 0
    for request in requests:
        tokens = torch.tensor([request.context + request.continuation])
        with torch.no_grad():
            p, q = (one(tokens).logits[0, len(request.context) - 1 : -1].double().softmax(-1) for one in (model, other))
        total += float((p * (p / q).log()).sum())
        same += int((p.argmax(-1) == q.argmax(-1)).sum())
    assert found.kl == pytest.approx(total / 5, rel=1e-4)
    assert (found.agreement, found.tokens) == (same / 5, 5)
    assert divergence(model, states[0], states[0]).kl == pytest.approx(0, abs=1e-6)


def test_methods_diverge_and_write_side_by_side(tiny: Checkpoint) -> None:
    found = divergence_of_methods(tiny, methods=["up", "resmoe-up"], tokens=600).set_index("method")
    assert found.kl["up"] > 10 * found.kl["resmoe-up"] > 0
    assert found.agreement["up"] < found.agreement["resmoe-up"] < 1
    written = generate_side_by_side(tiny, methods=["resmoe-up"], prompts=["One morning"], new_tokens=8)
    assert list(written.method) == ["original", "resmoe-up"]
    assert written.same[0] == 8
    assert all(written.text.str.len() > 0)
