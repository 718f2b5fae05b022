"""Shared by the two ways to build a zoo model: saving it, facts and text of its card, and its folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from .._core.errors import OutputError
from .._core.files import check_place
from .._core.machine import machine, versions
from ..checkpoint import Checkpoint, open_checkpoint
from ..checkpoint.writer import write_json
from ..experts import family_of
from ..plots.training import training_loss
from .loop import Trained
from .upcycling import neuron_permutations

CARD_FILE, FACTS_FILE, FIGURE_FILE = "MODEL_CARD.md", "card.json", "training_loss.png"


def training_folder(folder: Path) -> Path:
    """Return the folder of a model's unfinished training, beside the model's own folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder.with_name(f".{folder.name}.training")


def check_model_folder(folder: Path) -> None:
    """Refuse a folder that is no model of the zoo: what is there would be replaced in the end.

    Raises
    ------
    OutputError
        If it holds something else, or cannot be written.
    """
    check_place(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / FACTS_FILE).is_file():
        raise OutputError(f"{folder} holds something else (no {FACTS_FILE}), expected a new folder, or a model's own")


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Give a new folder that replaces `folder` if no error occurs; then the training's folder is removed."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as fresh:
        yield Path(fresh)
        if folder.exists():
            shutil.rmtree(folder)
        shutil.copytree(fresh, folder)
    shutil.rmtree(training_folder(folder))


def save_model(trained: Trained, folder: Path) -> None:
    """Save model and tokenizer in bfloat16, in the layout of the hub's checkpoints."""
    trained.model.bfloat16().save_pretrained(folder)
    trained.tokenizer.save_pretrained(folder)


def shuffle_neurons(trained: Trained, folder: Path, *, seed: int) -> None:
    """Permute the neurons of every expert of a model at random, and save it again.

    Upcycled experts begin as copies of one another, neuron by neuron; without this, aligning them would have nothing
    to do. No output changes, and :func:`neuron_permutations` returns the known answer.
    """
    checkpoint = open_checkpoint(folder)
    family = family_of(checkpoint)
    for layer in family.layers(checkpoint):
        stack = family.from_model(trained.model, layer)
        orders = neuron_permutations(stack.num_experts, stack.intermediate_size, seed=seed, layer=layer)
        shuffled = torch.stack([weights[order] for weights, order in zip(stack.weights, orders, strict=True)])
        family.to_model(trained.model, stack.with_weights(shuffled))
    save_model(trained, folder)


def model_facts(checkpoint: Checkpoint, recipe: Any, log: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the facts of a card that need no measurement."""
    return {
        "name": recipe.name,
        "recipe": recipe.as_dict(),
        "log": log,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": versions(),
        "machine": machine(),
        "architecture": checkpoint.config["architectures"][0],
        "parameters": checkpoint.total_bytes // 2,
    }


def layer_shares(facts: dict[str, Any]) -> dict[int, list[float]]:
    """Return each layer's shares of the tokens, one an expert, from the rows of a routing table."""
    shares: dict[int, list[float]] = {}
    for row in facts["shares"]:
        shares.setdefault(row["layer"], []).append(row["share"])
    return dict(sorted(shares.items()))


def percentages(shares: Iterable[float]) -> str:
    """Return shares as a line of percentages."""
    return ", ".join(f"{share:.1%}" for share in shares)


def source_shares(weights: Mapping[str, float]) -> str:
    """Return the sources of a training and their shares, in words."""
    return ", ".join(f"{name} {weight:.0%}" for name, weight in weights.items())


def save_card(folder: Path, facts: dict[str, Any], text: str) -> None:
    """Write a card, its facts, and its figure of the training loss."""
    training_loss(facts["log"]).savefig(folder / FIGURE_FILE, dpi=110)
    write_json(folder / FACTS_FILE, facts)
    (folder / CARD_FILE).write_text(text, "utf-8")


def requirement_lines(unmet_requirements: list[str], *, whose: str) -> list[str]:
    """Return the lines on whether a model meets its requirements, and the heading of its training."""
    verdict = "NOT met: " + "; ".join(unmet_requirements) if unmet_requirements else "all met"
    return ["", f"{whose}: {verdict}.", "", "## Training", "", f"![training loss]({FIGURE_FILE})", ""]


#: What a card's scores of the centers alone are.
CENTERS_ALONE = "'Centers alone' replaces every expert of every layer by the layer's Wasserstein center."

#: Descriptions of the training text, by the names of :func:`~resmoe_lab.training.corpus.training_documents`.
SOURCES = {
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


def footer_lines(facts: dict[str, Any], sources: Collection[str]) -> list[str]:
    """Return the last lines of a card: software, machine, and training text."""
    used = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    lines = [f"- Seed {facts['recipe']['seed']}; {facts['machine']}; {used}; {facts['date']}.", "", "## Data", ""]
    lines += [line for name in SOURCES if name in sources for line in SOURCES[name]]
    return [*lines, "- Test sets (WikiText-2 and the paper's other three) were never trained on.", ""]
