"""The embedded models are what their cards say, and worth compressing."""

import json
from pathlib import Path

import pytest
import torch

from resmoe_lab import zoo
from resmoe_lab.centers import find_center
from resmoe_lab.checkpoint import Checkpoint, open_checkpoint
from resmoe_lab.experts import family_of
from resmoe_lab.runtime import load_pair
from resmoe_lab.scoring.outcome import tabulate
from resmoe_lab.scoring.zeroshot import evaluate_model
from resmoe_lab.training._cards import CARD_FILE, FACTS_FILE
from resmoe_lab.training.card import MIN_ACCURACY, unmet_requirements
from resmoe_lab.training.upcycling import neuron_permutations
from resmoe_lab.zoo.recipes import RECIPES, Recipe
from resmoe_lab.zoo.upcycle_recipes import UPCYCLED

#: Name -> most bytes, experts, experts per token, and how much a task's perplexity with the centers alone must rise.
PROMISED = {
    "mixtral-tiny": (15_000_000, 8, 2, {"wikitext": 1.2}),
    "deepseek-tiny": (10_000_000, 64, 6, {"wikitext": 1.04}),
    "switch-tiny": (10_000_000, 8, 1, {"wikitext": 1.05, "storyworld_perplexity": 4.0}),
}


@pytest.fixture(scope="module", params=sorted(RECIPES))
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return RECIPES[request.param]


@pytest.fixture(scope="module")
def checkpoint(recipe: Recipe) -> Checkpoint:
    return open_checkpoint(recipe.name)


@pytest.fixture(scope="module")
def card(recipe: Recipe) -> dict:
    return json.loads((zoo.folder(recipe.name) / FACTS_FILE).read_text("utf-8"))


def test_it_is_small_and_what_its_recipe_says(checkpoint: Checkpoint, recipe: Recipe) -> None:
    most, num_experts, top_k, _ = PROMISED[recipe.name]
    assert sum(path.stat().st_size for path in checkpoint.folder.iterdir()) <= most
    assert {info.dtype for info in checkpoint.tensors.values()} == {"BF16"}
    shape = family_of(checkpoint).shape(checkpoint.config)
    assert (shape.num_experts, shape.top_k) == (num_experts, top_k)
    assert 2000 <= checkpoint.config["vocab_size"] <= 4096
    for name, value in recipe.config.items():
        assert checkpoint.config[name] == value, name


def test_mixtral_tiny_has_mixtrals_proportions(tiny: Checkpoint) -> None:
    shape = family_of(tiny).shape(tiny.config)
    assert 128 <= shape.hidden_size <= 192
    assert shape.intermediate_size == 3.5 * shape.hidden_size


def test_it_is_worth_compressing(card: dict, recipe: Recipe) -> None:
    assert unmet_requirements(card) == []
    for task, factor in PROMISED[recipe.name][3].items():
        center_only, with_residuals = (card[key][task]["value"] for key in ("center_only", "scores"))
        assert center_only > factor * with_residuals


def test_the_center_finds_the_order_that_the_neurons_of_copies_had(checkpoint: Checkpoint, recipe: Recipe) -> None:
    if recipe.dense is None:
        return  # its experts never were copies: there is no right order
    family = family_of(checkpoint)
    for layer in family.layers(checkpoint):
        stack = family.load(checkpoint, layer)
        orders = neuron_permutations(stack.num_experts, stack.intermediate_size, seed=recipe.seed, layer=layer)
        center = find_center(stack)
        dense = torch.stack([order[rows] for order, rows in zip(orders, center.permutations, strict=True)])
        assert torch.equal(dense, dense[:1].expand_as(dense))
        average = find_center(stack, center="average").objective
        assert center.objective < 0.5 * average


def test_the_card_says_openly_which_demands_are_met(card: dict, recipe: Recipe) -> None:
    assert card["unmet"] == unmet_requirements(card)
    text = (zoo.folder(recipe.name) / CARD_FILE).read_text("utf-8")
    assert ("all met" in text) == (not card["unmet"])
    assert all(demand in text for demand in card["unmet"])
    assert {"word_perplexity", "byte_perplexity"} <= set(card["scores"]["wikitext"])


def test_the_card_tells_the_model_that_is_there(checkpoint: Checkpoint, card: dict) -> None:
    """Every StoryWorld figure of the card, measured again."""
    scores = tabulate(evaluate_model(*load_pair(checkpoint)))
    for task, row in scores.items():
        assert row["value"] == pytest.approx(card["scores"][task]["value"], rel=0.02), task


def test_demands_that_are_not_met_are_named() -> None:
    facts = {
        "scores": {task: {"value": 0.5} for task in MIN_ACCURACY} | {"wikitext": {"value": 9.0}},
        "center_only": {"wikitext": {"value": 8.0}},
        "shares": [{"layer": 1, "expert": 3, "share": 0.01}, {"layer": 1, "expert": 7, "share": 0.03}],
    }
    problems = "; ".join(unmet_requirements(facts))
    for word in (*MIN_ACCURACY, "expert 3 of layer 1", "does not hurt"):
        assert word in problems
    assert "expert 7" not in problems


def test_nothing_lies_in_the_zoo_that_no_recipe_makes() -> None:
    folders = {path.name for path in Path(zoo.data_folder() / "zoo").iterdir() if path.is_dir() and path.name[0] != "."}
    assert folders - set(UPCYCLED) == set(RECIPES)


def test_upcycled_models_are_kept_out_of_the_repository() -> None:
    for name in UPCYCLED:
        assert zoo.data_folder() not in zoo.folder(name).parents
