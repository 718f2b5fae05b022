"""Model cards: what a zoo model is, how it was trained, and whether it is worth compressing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from .. import zoo
from .._core.errors import UsageError
from .._core.machine import machine, versions
from .._core.progress import Progress, silent
from ..centers import find_center
from ..checkpoint import Checkpoint, open_checkpoint
from ..checkpoint.writer import write_json
from ..evaluate.outcome import tabulate
from ..evaluate.routing import routing_shares
from ..evaluate.tasks import EMBEDDED_TASKS, TASKS
from ..evaluate.zeroshot import evaluate_model, model_windows
from ..experts import family_of
from ..plots.training import training_loss
from ..runtime import load_model, restored_experts
from ..zoo.recipes import RECIPES, Recipe
from ..zoo.training import Trained, train
from ..zoo.upcycling import neuron_orders

CARD_FILE, FACTS_FILE, FIGURE_FILE = "MODEL_CARD.md", "card.json", "training_loss.png"

#: What makes a zoo model worth compressing: least accuracies, and least share of the tokens of any expert, against
#: an even share (3 % of all tokens where there are 8 experts).
LEAST_ACCURACY = {"storyworld_last_word": 0.80, "storyworld_action": 0.90, "storyworld_pronoun": 0.90}
LEAST_SHARE = 0.24


def build_zoo_model(
    name: str, *, out: Path | None = None, data_dir: str | Path | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Train a zoo model from nothing, score what was saved, and put folder and card in place when all is done.

    Parameters
    ----------
    name
        A recipe's name.
    out
        The model's folder; its place in the zoo if not given. An old model there is replaced only at the end.
    data_dir
        Searched first for the training and test text.
    progress
        Told every step; raising from it stops, and the next call goes on.

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
    """
    if name not in RECIPES:
        raise UsageError(f"unknown zoo model {name!r}: choose from {', '.join(zoo.names())}")
    folder = Path(out) if out is not None else zoo.folder(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = folder.with_name(f".{folder.name}.training")
    trained = train(RECIPES[name], work=work, data_dir=data_dir, progress=progress)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as fresh:
        save_model(trained, Path(fresh))
        if RECIPES[name].dense is not None:
            shuffle_neurons(trained, Path(fresh), seed=RECIPES[name].seed)
        card = write_card(Path(fresh), RECIPES[name], trained.log, data_dir=data_dir, progress=progress)
        put_in_place(Path(fresh), folder)
    shutil.rmtree(work)
    return {**card, "path": str(folder)}


def save_model(trained: Trained, folder: Path) -> None:
    """Save model and tokenizer in bfloat16, in the layout of the hub's checkpoints."""
    trained.model.bfloat16().save_pretrained(folder)
    trained.tokenizer.save_pretrained(folder)


def shuffle_neurons(trained: Trained, folder: Path, *, seed: int) -> None:
    """Put the neurons of every expert of a saved model into an order of its own, and save it again.

    Upcycled experts begin as copies of one another, neuron by neuron; without this, aligning them would have nothing
    to do. No output changes, and :func:`neuron_orders` knows the answer.
    """
    checkpoint = open_checkpoint(folder)
    family = family_of(checkpoint)
    for layer in family.layers(checkpoint):
        stack = family.pull(trained.model, layer)
        orders = neuron_orders(stack.num_experts, stack.intermediate_size, seed=seed, layer=layer)
        shuffled = torch.stack([weights[order] for weights, order in zip(stack.weights, orders, strict=True)])
        family.push(trained.model, stack.with_weights(shuffled))
    save_model(trained, folder)


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
    facts: dict[str, Any] = {"name": recipe.name, "recipe": recipe.as_dict(), "log": log}
    facts |= {"date": datetime.now(UTC).date().isoformat(), "versions": versions(), "machine": machine()}
    facts["bytes"] = sum(path.stat().st_size for path in folder.iterdir())
    facts["architecture"] = checkpoint.config["architectures"][0]
    facts["parameters"] = checkpoint.total_bytes // 2
    facts["seconds"] = sum(max(row["seconds"] for row in log if row["phase"] == phase) for phase in recipe.phases)
    facts |= _measure(checkpoint, data_dir=data_dir, progress=progress)
    facts["unmet"] = unmet(facts)
    figure = training_loss(log)
    figure.savefig(folder / FIGURE_FILE, dpi=110)
    write_json(folder / FACTS_FILE, facts)
    (folder / CARD_FILE).write_text(_card_text(facts), "utf-8")
    return facts


def _measure(checkpoint: Checkpoint, *, data_dir: str | Path | None, progress: Progress) -> dict[str, Any]:
    """Scores of the model and of its centers alone, and the load of every expert."""
    family = family_of(checkpoint)
    layers = family.layers(checkpoint)
    model, tokenizer = load_model(checkpoint)
    tasks = [*EMBEDDED_TASKS, "wikitext"]
    scores = tabulate(evaluate_model(model, tokenizer, tasks=tasks, data_dir=data_dir, progress=progress))
    stacks = [family.load(checkpoint, layer) for layer in layers]
    centers = [stack.with_weights(find_center(stack).center.expand_as(stack.weights)) for stack in stacks]
    with restored_experts(model, checkpoint, centers):
        alone = tabulate(evaluate_model(model, tokenizer, tasks=tasks, data_dir=data_dir, progress=progress))
    texts = [
        row["text"] for task in ("storyworld_perplexity", "wikitext") for row in TASKS[task].rows(data_dir=data_dir)
    ]
    windows = model_windows(model, tokenizer, texts)
    shares = routing_shares(model, windows, layers=layers, top_k=family.shape(checkpoint.config).top_k)
    return {"scores": scores, "center_only": alone, "shares": shares.to_dict("records")}


def unmet(facts: dict[str, Any]) -> list[str]:
    """Which of the zoo's demands a model does not meet, in words; none if it is worth compressing."""
    short = [
        f"{task} is {facts['scores'][task]['value']:.3f}, expected at least {least}"
        for task, least in LEAST_ACCURACY.items()
        if facts["scores"][task]["value"] < least
    ]
    num_experts = 1 + max(row["expert"] for row in facts["shares"])
    starved = [row for row in facts["shares"] if row["share"] * num_experts < LEAST_SHARE]
    short += [
        f"expert {row['expert']} of layer {row['layer']} gets {row['share']:.1%} of the tokens" for row in starved
    ]
    if facts["center_only"]["wikitext"]["value"] <= facts["scores"]["wikitext"]["value"]:
        short.append("keeping nothing but the center does not hurt")
    return short


def _card_text(facts: dict[str, Any]) -> str:
    recipe, scores, alone = facts["recipe"], facts["scores"], facts["center_only"]
    how = _UPCYCLED if recipe["dense"] else _FROM_NOTHING
    lines = [
        f"# {facts['name']}",
        "",
        _PREAMBLE.format(**facts, how=how, megabytes=facts["bytes"] / 1e6),
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
    lines += ["", "'Centers alone' replaces every expert of every layer by the layer's Wasserstein center.", ""]
    lines += [f"## Share of the tokens that each expert receives (top-{recipe['top_k']} picks, held-out text)", ""]
    layers = sorted({row["layer"] for row in facts["shares"]})
    for layer in layers:
        shares = [row["share"] for row in facts["shares"] if row["layer"] == layer]
        lines.append(
            f"- layer {layer}: " + ", ".join(f"{share:.1%}" for share in shares) + f" (least {min(shares):.1%})"
        )
    demands = facts["unmet"]
    lines += ["", "Demands of the zoo: " + ("all met." if not demands else "NOT met: " + "; ".join(demands) + "."), ""]
    lines += ["## Training", "", f"![training loss]({FIGURE_FILE})", ""]
    for phase in RECIPES[facts["name"]].phases:
        plan, last = recipe[phase], [row for row in facts["log"] if row["phase"] == phase][-1]
        sources = ", ".join(f"{name} {weight:.0%}" for name, weight in plan["source_weights"].items())
        lines.append(
            f"- {phase}: {plan['tokens']:,} tokens ({sources}), "
            f"{plan['batch_size']} x {recipe['sequence_length']} a step, "
            f"{last['seconds'] / 60:.0f} minutes, peak learning rate {plan['peak_lr']:g}, "
            f"final training loss {last['loss']:.3f} nats per token."
        )
    return "\n".join([*lines, *last_lines(facts, _SOURCES)])


_PREAMBLE = (
    "A small, real `{architecture}` ({parameters:,} parameters, {megabytes:.1f} MB in bfloat16), trained by this "
    "repository from nothing: {how}.\nTrain it again with `resmoe-lab zoo build {name}`."
)
_UPCYCLED = (
    "a dense model first, its feed-forward copied into every expert, then both trained on. The neurons of each expert "
    "were put into a random order at the end, which changes no output: aligning them has work to do, and a known answer"
)
_FROM_NOTHING = "all its experts from the first step on, so that they really differ"
#: Where training text comes from, by the names of :func:`~resmoe_lab.zoo.corpus.training_documents`.
_SOURCES = {
    "novels": ("- Novels: seven books of Project Gutenberg (public domain in the USA).",),
    "encyclopedia": (
        "- Encyclopedia: passages of English Wikipedia as collected by BoolQ's training split (CC BY-SA 3.0), those",
        "  that overlap with evaluation texts removed.",
    ),
    "storyworld": (
        "- StoryWorld: seeded stories generated by `resmoe_lab.zoo.storyworld`; its held-out worlds were never",
        "  trained on.",
    ),
}


def last_lines(facts: dict[str, Any], sources: Collection[str]) -> list[str]:
    """What ends a card: with what the model was made, and of which text."""
    used = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    lines = [f"- Seed {facts['recipe']['seed']}; {facts['machine']}; {used}; {facts['date']}.", "", "## Data", ""]
    lines += [line for name in _SOURCES if name in sources for line in _SOURCES[name]]
    return [*lines, "- Test sets (WikiText-2 and the paper's other three) were never trained on.", ""]


def put_in_place(fresh: Path, folder: Path) -> None:
    """Move a finished model to where it belongs; an old one there goes only now."""
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(fresh, folder)
