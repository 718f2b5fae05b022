"""What a sweep records of a text: against the models run by hand, token by token."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from resmoe_lab._core.errors import Cancelled, CheckpointError, ResmoeWarning, UsageError
from resmoe_lab._core.progress import Tick
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.compress import CompressionConfig, compress_checkpoint
from resmoe_lab.experiments import record_pictures
from resmoe_lab.experiments.record_pictures import TEXT_TOKENS, TaskText, shown_variants
from resmoe_lab.experiments.run_sweep import run_sweep
from resmoe_lab.experiments.sweep import Sweep
from resmoe_lab.experiments.traced_text import TracedText
from resmoe_lab.experiments.variants import CENTER_ONLY, ORIGINAL, Variant
from resmoe_lab.runtime import load, load_tokenizer
from resmoe_lab.scoring.tasks import TASKS

from ..plots.synthetic import make_bits_sweep, make_sweep

CHOICES: dict[str, Any] = {"methods": ["up", "resmoe-up"], "keeps": [0.25], "layers": [1, 2], "limit": 4}
CHOICES |= {"tasks": ["storyworld_action", "storyworld_perplexity"]}


@pytest.fixture(scope="module")
def swept(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, Path]:
    out = tmp_path_factory.mktemp("sweep") / "out"
    return run_sweep(tiny, out, **CHOICES), out


def test_routing_and_predictions_are_those_of_the_models_run_by_hand(
    tiny: Checkpoint, swept: tuple[Sweep, Path], tmp_path: Path
) -> None:
    """The written checkpoint, whose routers' own logits are read."""
    sweep, _ = swept
    compress_checkpoint(tiny, tmp_path / "up", CompressionConfig(method="up", keep=0.25, layers="1,2", export="dense"))
    text = "\n".join(row["text"] for row in TASKS["storyworld_perplexity"].rows(limit=30))
    ids = torch.tensor([load_tokenizer("mixtral-tiny")(text)["input_ids"][:TEXT_TOKENS]])
    with torch.no_grad():
        outputs = [load(source)(ids, output_router_logits=True) for source in ("mixtral-tiny", tmp_path / "up")]
    p, q = (output.logits[0].double().log_softmax(-1) for output in outputs)
    kl = (p.exp() * (p - q)).sum(-1)
    row = sweep.predictions.set_index("method").loc["up"]
    assert row["tokens"] == TEXT_TOKENS
    # The dense export is in 16 bits, the sweep's own experts are not.
    assert row["kl"] == pytest.approx(float(kl.mean()), rel=0.02)
    assert row["worst"] == pytest.approx(float(kl.max()), rel=0.02)
    assert row["agreement"] == pytest.approx(float((p.argmax(-1) == q.argmax(-1)).double().mean()), abs=0.01)
    shift = sweep.routing_shift[sweep.routing_shift["method"] == "up"].set_index("layer")
    assert shift.index.tolist() == [0, 1, 2, 3]
    for layer, (before, after) in enumerate(zip(*(output.router_logits for output in outputs), strict=True)):
        sets = [[set(token.topk(2).indices.tolist()) for token in gates] for gates in (before, after)]
        rerouted = sum(old != new for old, new in zip(*sets, strict=True)) / TEXT_TOKENS
        a, b = before.double().log_softmax(-1), after.double().log_softmax(-1)
        assert shift.loc[layer, "rerouted"] == pytest.approx(rerouted, abs=0.02)
        assert shift.loc[layer, "gate_kl"] == pytest.approx(
            float((a.exp() * (a - b)).sum(-1).mean()), rel=0.05, abs=1e-9
        )
    assert shift.loc[[0, 1], "rerouted"].tolist() == [0, 0], "what lies below the compressed experts is unchanged"
    assert shift.loc[3, "rerouted"] > 0.05


def test_every_variant_but_the_original_is_recorded_and_the_closest_is_shown(swept: tuple[Sweep, Path]) -> None:
    sweep, out = swept
    keys = {(CENTER_ONLY, 0.0), ("up", 0.25), ("resmoe-up", 0.25)}
    assert set(zip(sweep.predictions["method"], sweep.predictions["keep"], strict=True)) == keys
    assert {path.name for path in out.glob("text-*.json")} == {f"text-{name}-{keep:g}.json" for name, keep in keys}
    assert sweep.pictures is not None
    assert [(form.method, form.keep) for form in sweep.pictures.forms] == [("resmoe-up", 0.25)]
    tokens = sweep.pictures.forms[0].tokens
    mean = sum(tokens.kl) / len(tokens.kl)
    assert mean == pytest.approx(sweep.predictions.set_index("method").loc["resmoe-up", "kl"])
    assert "".join(tokens.pieces[1:]).startswith("One sunny day")
    assert (sweep.pictures.task, sweep.pictures.method) == ("storyworld_perplexity", "resmoe-up")
    stored, forecast = sweep.pictures.map.forms
    size = sweep.sizes[(sweep.sizes["method"] == "resmoe-up") & (sweep.sizes["keep"] == 0.25)].iloc[0]
    assert stored.bytes == size["original_model_bytes"]
    assert forecast.bytes == pytest.approx(size["model_bytes"], rel=1e-4)
    assert set(sweep.pictures.map.errors) == {"1", "2"}


def test_a_stopped_sweep_keeps_its_readings_and_a_damaged_one_is_made_again(
    tiny: Checkpoint, swept: tuple[Sweep, Path], tmp_path: Path
) -> None:
    def stop(tick: Tick) -> None:
        if tick.task == "scores" and tick.done == 4:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        run_sweep(tiny, tmp_path / "out", progress=stop, **CHOICES)
    files = sorted((tmp_path / "out").glob("text-*.json"))
    assert len(files) == 3
    stamps = [path.stat().st_mtime_ns for path in files]
    files[0].write_text('{"routing": [[1]], "predictions": [2], "picture": null}')
    again = run_sweep(tiny, tmp_path / "out", **CHOICES)
    assert [path.stat().st_mtime_ns for path in files[1:]] == stamps[1:]
    assert again.pictures == swept[0].pictures
    assert again.predictions["kl"].tolist() == pytest.approx(swept[0].predictions["kl"].tolist())


def test_a_model_that_does_not_tell_its_routing_is_swept_and_told(
    tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> TracedText:
        raise CheckpointError("family 'x' cannot be traced")

    monkeypatch.setattr(record_pictures, "TracedText", refuse)
    with pytest.warns(ResmoeWarning, match="no tokens and no routing in this sweep: family 'x' cannot be traced"):
        sweep = run_sweep(tiny, tmp_path / "out", **CHOICES | {"methods": ["up"]})
    loaded = Sweep.load(tmp_path / "out")
    assert sweep.routing_shift.empty
    assert loaded.pictures is not None
    assert (loaded.pictures.forms, loaded.pictures.missing) == ([], "family 'x' cannot be traced")


def test_a_text_is_that_of_the_first_task_of_running_text(tmp_path: Path) -> None:
    assert TaskText.of(["storyworld_action", "storyworld_perplexity"]).task == "storyworld_perplexity"
    assert TaskText.of([]).task == "storyworld_perplexity"
    row = TASKS["storyworld_action"].rows(limit=1)[0]
    right = row["sol2"] if row["label"] else row["sol1"]
    assert TaskText.of(["storyworld_action"]).text.startswith(f"{row['goal']} {right}\n")
    row = TASKS["storyworld_pronoun"].rows(limit=1)[0]
    before, after = row["sentence"].split("_")
    option = row["option2"] if str(row["answer"]) == "2" else row["option1"]
    assert TaskText.of(["storyworld_pronoun"]).text.startswith(before + option + after)
    book = tmp_path / "book.txt"
    book.write_text("word " * 100_000)
    assert len(TaskText.of([str(book)]).text) == 20 * TEXT_TOKENS


def test_shown_are_the_closest_the_closest_in_few_bits_and_plain_four_bits() -> None:
    sweep = make_bits_sweep()
    scored = sweep.scores.drop_duplicates(["method", "center", "keep"])
    variants = [Variant(row.method, row.center, row.keep) for row in scored.itertuples()]
    assert {ORIGINAL, CENTER_ONLY} <= {variant.method for variant in variants}

    def shown(some: list[Variant]) -> list[tuple[str, float]]:
        return [(variant.method, variant.mean_keep) for variant in shown_variants(some, sweep.errors, sweep.sizes)]

    assert shown(variants) == [("resmoe-up", 0.25), ("resmoe-coded", 2 / 16)]
    assert shown([*variants, Variant("rtn", "none", 0.25)])[2:] == [("rtn", 0.25)]
    assert shown([variants[0], Variant("rtn", "none", 3 / 16)]) == [("rtn", 3 / 16)]
    pruned = [Variant("up", "none", keep) for keep in (0.1, 0.5)]
    assert shown(pruned) == [("up", 0.1)]
    assert make_sweep().pictures is not None


def test_a_reading_takes_no_more_tokens_than_wanted(tiny: Checkpoint) -> None:
    model, tokenizer = load("mixtral-tiny"), load_tokenizer("mixtral-tiny")
    read = TracedText(model, tokenizer, "One sunny day in the forest", checkpoint=tiny, longest=4)
    shift = read.shift(model)
    assert len(shift.tokens) == 4
    assert shift.kl.tolist() == [0.0] * 4
    assert shift.predictions() == (4, 0.0, 1.0, 0.0)
    with pytest.raises(UsageError, match="expected at least 2"):
        TracedText(model, tokenizer, "", checkpoint=tiny)


def test_a_recorded_picture_that_does_not_fit_together_is_refused() -> None:
    pictures = make_sweep().pictures
    assert pictures is not None
    tokens = pictures.forms[0].tokens
    for wrong in ({"kl": tokens.kl[:-1]}, {"layers": [0]}, {"predicting": [99] * len(tokens.kl)}, {"x": 1}):
        with pytest.raises(ValueError, match=r"do not fit|does not fit|Extra inputs"):
            type(tokens).model_validate(tokens.model_dump() | wrong)
    assert replace(make_sweep(), pictures=None).pictures is None
