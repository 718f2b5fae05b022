"""Building a zoo model, and its card: what it is, how it was trained, and whether it is worth compressing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import zoo
from .._core.errors import UsageError
from .._core.progress import Progress, silent
from ..checkpoint import Checkpoint, open_checkpoint
from ..experiments.runner import VariantRunner
from ..scoring.outcome import tabulate
from ..scoring.scorer import TaskScorer, all_scores
from ..scoring.tasks import EMBEDDED_TASKS, TASKS
from ..scoring.zeroshot import model_windows
from ..zoo.recipes import RECIPES, Recipe
from ._cards import (
    CENTERS_ALONE,
    SOURCES,
    check_model_folder,
    footer_lines,
    layer_shares,
    model_facts,
    percentages,
    replacing_folder,
    requirement_lines,
    save_card,
    save_model,
    shuffle_neurons,
    source_shares,
    training_folder,
)
from .loop import train

#: What makes a zoo model worth compressing: least accuracies, and least share of the tokens of any expert, against
#: an even share (3 % of all tokens where there are 8 experts).
MIN_ACCURACY = {"storyworld_last_word": 0.80, "storyworld_action": 0.90, "storyworld_pronoun": 0.90}
MIN_SHARE = 0.24


def build_zoo_model(
    name: str, *, out: Path | None = None, data_dir: str | Path | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Train a zoo model from scratch, score the saved model, and put folder and card in place at the end.

    Parameters
    ----------
    name
        A recipe's name.
    out
        The model's folder; its place in the zoo if not given. An old model there is replaced only at the end.
    data_dir
        Searched first for the training and test text.
    progress
        Called after every step; raising from it stops, and the next call resumes.

    Returns
    -------
    dict
        The card's facts.

    Raises
    ------
    UsageError
        If there is no such recipe.
    DataError
        If the training text is missing.
    OutputError
        If the folder holds something else than a model of the zoo.
    """
    if name not in RECIPES:
        raise UsageError(f"unknown zoo model {name!r}: choose from {', '.join(zoo.names())}")
    folder = Path(out) if out is not None else zoo.folder(name)
    check_model_folder(folder)
    trained = train(RECIPES[name], work=training_folder(folder), data_dir=data_dir, progress=progress)
    with replacing_folder(folder) as fresh:
        save_model(trained, fresh)
        if RECIPES[name].dense is not None:
            shuffle_neurons(trained, fresh, seed=RECIPES[name].seed)
        card = write_card(fresh, RECIPES[name], trained.log, data_dir=data_dir, progress=progress)
    return {**card, "path": str(folder)}


def write_card(
    folder: Path,
    recipe: Recipe,
    log: list[dict[str, Any]],
    *,
    data_dir: str | Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure a saved model and write its card beside it; return the facts."""
    checkpoint = open_checkpoint(folder)
    facts = model_facts(checkpoint, recipe, log)
    facts["bytes"] = sum(path.stat().st_size for path in folder.iterdir())
    facts["seconds"] = sum(max(row["seconds"] for row in log if row["phase"] == phase) for phase in recipe.phases)
    facts |= _measure(checkpoint, data_dir=data_dir, progress=progress)
    facts["unmet"] = unmet_requirements(facts)
    save_card(folder, facts, card_text(facts))
    return facts


def _measure(checkpoint: Checkpoint, *, data_dir: str | Path | None, progress: Progress) -> dict[str, Any]:
    """Score the model and its centers alone, and measure the load of every expert."""
    scorer = TaskScorer([*EMBEDDED_TASKS, "wikitext"], data_dir=data_dir, progress=progress)
    with VariantRunner(checkpoint, progress=progress) as runner:
        variants = (runner.original, runner.center_only)
        scores, alone = (tabulate(all_scores(runner.score(variant, scorer))) for variant in variants)
        texts = [
            row["text"] for task in ("storyworld_perplexity", "wikitext") for row in TASKS[task].rows(data_dir=data_dir)
        ]
        shares = runner.routing_shares(model_windows(*runner.loaded, texts))
    return {"scores": scores, "center_only": alone, "shares": shares.to_dict("records")}


def unmet_requirements(facts: dict[str, Any]) -> list[str]:
    """Return the zoo's requirements that a model does not meet, in words; none if it is worth compressing."""
    short = [
        f"{task} is {facts['scores'][task]['value']:.3f}, expected at least {least}"
        for task, least in MIN_ACCURACY.items()
        if facts["scores"][task]["value"] < least
    ]
    num_experts = 1 + max(row["expert"] for row in facts["shares"])
    starved = [row for row in facts["shares"] if row["share"] * num_experts < MIN_SHARE]
    short += [
        f"expert {row['expert']} of layer {row['layer']} gets {row['share']:.1%} of the tokens" for row in starved
    ]
    if facts["center_only"]["wikitext"]["value"] <= facts["scores"]["wikitext"]["value"]:
        short.append("keeping nothing but the center does not hurt")
    return short


def card_text(facts: dict[str, Any]) -> str:
    """Return the card of measured facts, in Markdown."""
    recipe, scores, alone = facts["recipe"], facts["scores"], facts["center_only"]
    training = _UPCYCLED if recipe["dense"] else _FROM_NOTHING
    lines = [
        f"# {facts['name']}",
        "",
        _PREAMBLE.format(**facts, how=training, megabytes=facts["bytes"] / 1e6),
        "",
        "## Scores",
        "",
    ]
    lines += ["| task | metric | this model | centers alone | guessing |", "|---|---|---|---|---|"]
    for task, row in scores.items():
        chance = TASKS[task].chance
        guess = f"{chance:.2f}" if chance is not None else ""
        metrics = [(row["metric"], row["value"], alone[task]["value"])]
        metrics += [
            (name, row[name], alone[task][name]) for name in ("word_perplexity", "byte_perplexity") if name in row
        ]
        lines += [f"| {task} | {name} | {value:.4g} | {other:.4g} | {guess} |" for name, value, other in metrics]
    lines += ["", CENTERS_ALONE, ""]
    lines += [f"## Share of the tokens that each expert receives (top-{recipe['top_k']} picks, held-out text)", ""]
    for layer, shares in layer_shares(facts).items():
        lines.append(f"- layer {layer}: {percentages(shares)} (least {min(shares):.1%})")
    lines += requirement_lines(facts["unmet"], whose="Demands of the zoo")
    for phase in RECIPES[facts["name"]].phases:
        plan, last = recipe[phase], [row for row in facts["log"] if row["phase"] == phase][-1]
        lines.append(
            f"- {phase}: {plan['tokens']:,} tokens ({source_shares(plan['source_weights'])}), "
            f"{plan['batch_size']} x {recipe['sequence_length']} a step, "
            f"{last['seconds'] / 60:.0f} minutes, peak learning rate {plan['peak_lr']:g}, "
            f"final training loss {last['loss']:.3f} nats per token."
        )
    return "\n".join([*lines, *footer_lines(facts, SOURCES)])


_PREAMBLE = (
    "A small, real `{architecture}` ({parameters:,} parameters, {megabytes:.1f} MB in bfloat16), trained by this "
    "repository from nothing: {how}.\nTrain it again with `resmoe-lab zoo build {name}`."
)
_UPCYCLED = (
    "a dense model first, its feed-forward copied into every expert, then both trained on. The neurons of each expert "
    "were put into a random order at the end, which changes no output: aligning them has work to do, and a known answer"
)
_FROM_NOTHING = "all its experts from the first step on, so that they really differ"
