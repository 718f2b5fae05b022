"""Building an upcycled model, and its card: scores and experts after the training, compared with the dense model."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path
from typing import Any

import torch

from .. import zoo
from .._core.progress import Progress, silent, tracked
from ..centers import find_center
from ..checkpoint import open_checkpoint
from ..experiments.runner import VariantRunner
from ..scoring.pairing import paired_difference
from ..scoring.scorer import TaskScorer
from ..scoring.tasks import find_task
from ..scoring.zeroshot import stream_windows, task_outcome
from ..zoo.upcycle_recipes import UPCYCLED, Upcycling
from ._cards import (
    CENTERS_ALONE,
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
from .dense import dense_model
from .expert_training import train_upcycled
from .upcycling import neuron_permutations

#: The tasks of a card, and rows of each.
TASKS, LIMIT = ("wikitext", "piqa", "winogrande", "lambada"), 200
#: Windows of text on which the load of the experts is measured.
_ROUTING_WINDOWS = 8
#: Least share of the experts' squared norm that their center must leave as residual, in every layer.
MIN_RESIDUAL = 0.03


def build_upcycled(
    name: str,
    *,
    dense: str | Path | None = None,
    out: Path | None = None,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    limit: int | None = LIMIT,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Upcycle a dense model, train its experts, score the saved model, and put folder and card in place.

    Parameters
    ----------
    name
        A recipe's name.
    dense
        A GGUF file, a checkpoint folder or a hub id instead of the recipe's own dense model; Llama-like.
    out
        The model's folder; its place in the user's cache if not given.
    data_dir
        Searched first for the training and test text.
    device
        Where the training runs.
    limit
        Rows of each task that the card is measured on.
    progress
        Called after every step; raising from it stops, and the next call resumes.

    Returns
    -------
    dict
        The card's facts.

    Raises
    ------
    OutputError
        If the folder holds something else than a model of the zoo.
    """
    recipe = UPCYCLED[name]
    folder = Path(out) if out is not None else zoo.folder(name)
    check_model_folder(folder)
    model, tokenizer, origin = dense_model(recipe.source, path=dense)
    model.to(device)  # a string is a device to torch
    work = training_folder(folder)
    trained = train_upcycled(model, tokenizer, recipe, work=work, data_dir=data_dir, progress=progress)
    with replacing_folder(folder) as fresh:
        save_model(trained, fresh)
        shuffle_neurons(trained, fresh, seed=recipe.seed)
        log = trained.log
        del trained  # the saved files are scored
        options: dict[str, Any] = {"origin": origin, "limit": limit, "data_dir": data_dir, "progress": progress}
        facts = write_upcycled_card(fresh, recipe, log, dense=(model, tokenizer), **options)
    return {**facts, "path": str(folder)}


def write_upcycled_card(
    folder: Path,
    recipe: Upcycling,
    log: list[dict[str, Any]],
    *,
    dense: tuple[Any, Any],
    origin: str,
    limit: int | None,
    data_dir: str | Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure a saved model against the dense one it was made of, and write its card beside it.

    Parameters
    ----------
    folder
        Where the model was saved.
    recipe, log
        How it was trained.
    dense
        The dense model and its tokenizer.
    origin
        Where the dense model came from, in words.
    limit, data_dir, progress
        As for :func:`build_upcycled`.

    Returns
    -------
    dict
        The facts.
    """
    checkpoint = open_checkpoint(folder)
    facts = model_facts(checkpoint, recipe, log) | {"origin": origin, "bytes": checkpoint.total_bytes, "limit": limit}
    with VariantRunner(checkpoint, progress=progress) as runner:
        facts["layers"] = [_layer_facts(runner, recipe, layer) for layer in runner.layers]
        facts |= _scores(runner, dense, limit=limit, data_dir=data_dir, progress=progress)
    facts["unmet"] = unmet_requirements(facts)
    save_card(folder, facts, card_text(facts))
    return facts


def _layer_facts(runner: VariantRunner, recipe: Upcycling, layer: int) -> dict[str, Any]:
    """Measure how different a layer's experts are, and how many neurons the wasserstein center matches correctly."""
    stack, center = runner.stack(layer), runner.center(layer)
    orders = neuron_permutations(stack.num_experts, stack.intermediate_size, seed=recipe.seed, layer=layer)
    sources = torch.stack([order[rows] for order, rows in zip(orders, center.permutations, strict=True)])
    matched = (sources == sources.mode(dim=0).values).float().mean()
    bound = center.certificate
    return {
        "layer": layer,
        "residual": center.objective / stack.mean_squared_norm(),
        "neurons_found": float(matched),
        "certified_gap": bound.gap if bound is not None else None,
        "average_residual": find_center(stack, center="average").objective / stack.mean_squared_norm(),
    }


def _scores(
    runner: VariantRunner,
    dense: tuple[Any, Any],
    *,
    limit: int | None,
    data_dir: str | Path | None,
    progress: Progress,
) -> dict[str, Any]:
    """Score the dense model, the upcycled one and its centers alone, and measure the load of every expert."""
    # A window of text is as much work as a hundred rows of the others.
    limits = {name: max(2, limit // 20) if name == "wikitext" else limit for name in TASKS} if limit else {}
    options: dict[str, Any] = {"data_dir": data_dir, "progress": progress}
    before = {
        name: task_outcome(*dense, find_task(name), limit=limits.get(name), **options)
        for name in tracked(TASKS, "card", progress)
    }
    scorer = TaskScorer(TASKS, limit=limits, **options)
    after, alone = (runner.score(variant, scorer) for variant in (runner.original, runner.center_only))
    text = find_task("wikitext").rows(data_dir=data_dir)[0]["text"]
    shares = runner.routing_shares(stream_windows(*runner.loaded, text)[:_ROUTING_WINDOWS])
    rows = []
    for name, first in before.items():
        [other], [third] = after[name].outcomes, alone[name].outcomes
        difference = paired_difference(first, other)
        row = {"task": name, "metric": first.main.metric, "n": first.main.n, "dense": first.main.value}
        row |= {"dense_stderr": first.main.stderr, "value": other.main.value, "stderr": other.main.stderr}
        rows.append(row | {"difference": astuple(difference), "center_only": third.main.value})
    return {"scores": rows, "shares": shares.to_dict("records")}


def unmet_requirements(facts: dict[str, Any]) -> list[str]:
    """Return the requirements that an upcycled model does not meet, in words.

    It must be no worse than the dense model: in perplexity on WikiText-2, and within one standard error on PIQA and
    WinoGrande. Its experts must differ, and the wasserstein center must match their neurons.
    """
    short = []
    for row in facts["scores"]:
        message = f"{row['task']} is {row['value']:.4g}, {row['dense']:.4g} in the dense model"
        if row["task"] == "wikitext" and row["value"] > row["dense"]:
            short.append(message)
        if row["task"] in ("piqa", "winogrande") and row["value"] < row["dense"] - row["dense_stderr"]:
            short.append(f"{message}, with a standard error of {row['dense_stderr']:.2g}")
    for row in facts["layers"]:
        if row["residual"] < MIN_RESIDUAL:
            short.append(f"layer {row['layer']} leaves {row['residual']:.1%} as residual, expected {MIN_RESIDUAL:.0%}")
        if row["neurons_found"] < 1:
            short.append(f"layer {row['layer']} finds {row['neurons_found']:.2%} of the neurons")
    return short


def card_text(facts: dict[str, Any]) -> str:
    """Return the card of measured facts, in Markdown."""
    recipe, last = facts["recipe"], facts["log"][-1]
    lines = [f"# {facts['name']}", "", _PREAMBLE.format(**facts, megabytes=facts["bytes"] / 1e6), ""]
    limited = "all rows" if facts["limit"] is None else f"the first rows of each task (--limit {facts['limit']})"
    lines += [f"## Scores (protocol paper, {limited})", ""]
    lines += ["| task | metric | n | dense | this model | difference (95 % interval) | centers alone |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for row in facts["scores"]:
        value, _, low, high, _ = row["difference"]
        lines.append(
            f"| {row['task']} | {row['metric']} | {row['n']} | {row['dense']:.4g} ± {row['dense_stderr']:.2g} "
            f"| {row['value']:.4g} ± {row['stderr']:.2g} | {value:+.3g} ({low:+.3g} to {high:+.3g}) "
            f"| {'not measured' if row['center_only'] is None else format(row['center_only'], '.4g')} |"
        )
    lines += ["", CENTERS_ALONE, ""]
    lines += [
        "## Experts",
        "",
        "| layer | residual | neurons found | residual without aligning | shares of the tokens |",
    ]
    lines += ["|---|---|---|---|---|"]
    shares = layer_shares(facts)
    for row in facts["layers"]:
        lines.append(
            f"| {row['layer']} | {row['residual']:.2%} | {row['neurons_found']:.2%} | {row['average_residual']:.1%} "
            f"| {percentages(shares[row['layer']])} |"
        )
    lines += requirement_lines(facts["unmet"], whose="Demands")
    num_tokens = last["step"] * recipe["batch_size"] * recipe["sequence_length"]
    lines.append(
        f"- {num_tokens:,} tokens ({source_shares(recipe['source_weights'])}) in {last['step']} steps of "
        f"{recipe['batch_size']} x {recipe['sequence_length']}, {last['seconds'] / 60:.0f} minutes; AdamW, "
        f"peak learning rate {recipe['peak_lr']:g} ({recipe['router_lr']:g} of it for the routers), cosine to "
        f"{recipe['end_lr']:g}; balance {recipe['balance']:g}; final training loss {last['loss']:.3f} nats per token."
    )
    return "\n".join([*lines, *footer_lines(facts, recipe["source_weights"])])


_PREAMBLE = (
    "A real language model with experts: `{architecture}`, {parameters:,} parameters ({megabytes:.0f} MB in bfloat16), "
    "made of {origin} ({recipe[source][license]}) by sparse upcycling. The feed-forwards of its top "
    "{recipe[moe_layers]} layers were copied into {recipe[num_experts]} experts each, top-{recipe[top_k]}; "
    "{recipe[redrawn]:.0%} of each expert's neurons, those that gave least on its own text, were "
    "drawn again to one half (after Drop-Upcycling, arXiv 2502.19261), and experts and routers were trained on. At the "
    "end each expert got its neurons in a random order, which changes no output: aligning has work to do, and "
    "a known answer. The weights are too large for this repository.\nBuild it with `resmoe-lab zoo build {name}`."
)
