"""The uses on clouds of points that are learnt in a moment."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from resmoe_lab._core.errors import UsageError
from resmoe_lab.fusion import (
    ENSEMBLE,
    FUSED,
    VANILLA,
    WEIGHT,
    Ensemble,
    Images,
    MLPNet,
    Teacher,
    accuracy,
    compare,
    fuse,
    mixing_curve,
    prune_neurons,
    recalibrate_batch_norm,
    repair_pruned,
    skill_split,
    student_initializations,
    train,
    train_students,
    vanilla_average,
)

from .networks import mlp

WIDTHS = (12, 32, 16, 4)


@pytest.fixture(scope="module")
def clouds() -> tuple[Images, Images]:
    """Four clouds of points, one a class: to learn and to test."""
    generator = torch.Generator().manual_seed(0)
    centers = 1.5 * torch.randn(4, 12, generator=generator)
    labels = torch.arange(1200) % 4
    inputs = centers[labels] + torch.randn(1200, 12, generator=generator)
    return Images(inputs[:800], labels[:800]), Images(inputs[800:], labels[800:])


@pytest.fixture(scope="module")
def pair(clouds: tuple[Images, Images]) -> list[nn.Module]:
    """A knows class 3, which B has never seen."""
    parts = skill_split(clouds[0], (0.3, 0.7), digit=3)
    starts = [mlp(WIDTHS, bias=False, seed=seed) for seed in (0, 1)]
    return [train(start, part, epochs=10, learning_rate=0.1) for start, part in zip(starts, parts, strict=True)]


def test_a_skill_is_mixed_in(pair: list[nn.Module], clouds: tuple[Images, Images]) -> None:
    test = clouds[1]
    fusion = fuse(pair)
    table = mixing_curve(pair, test, fusion=fusion, weights=[0.0, 0.3, 1.0])
    overall = table[table["label"] == "all"].pivot(index="weight", columns="method", values="accuracy")
    assert set(overall.columns) == {"A", "B", ENSEMBLE, VANILLA, FUSED}
    assert overall["A"].nunique() == overall["B"].nunique() == 1
    assert overall.loc[0.3, FUSED] == pytest.approx(accuracy(fusion.mix([0.7, 0.3]), test))
    assert overall.loc[0.3, VANILLA] == pytest.approx(accuracy(vanilla_average(pair, weights=[0.7, 0.3]), test))
    assert overall.loc[0.3, ENSEMBLE] == pytest.approx(accuracy(Ensemble(pair, weights=[0.7, 0.3]), test))
    assert overall.loc[1.0, FUSED] == overall.loc[1.0, VANILLA] == overall.loc[0.0, "B"]
    assert overall.loc[0.0, FUSED] == overall.loc[0.0, "A"], "aligned, A is A"
    classes = table[table["label"] != "all"].groupby(["weight", "method"])["accuracy"].mean().unstack()
    assert classes.loc[0.3, FUSED] == pytest.approx(overall.loc[0.3, FUSED]), "all classes are equally many here"
    assert table.query("method == 'B' and label == '3'")["accuracy"].max() < 5
    assert overall.loc[0.3, FUSED] > overall.loc[0.3, "B"]


def test_every_step_of_the_slider_is_there(pair: list[nn.Module], clouds: tuple[Images, Images]) -> None:
    table = mixing_curve(pair, clouds[1], fusion=fuse(pair), names=["left", "right"])
    assert sorted(table["weight"].unique()) == WEIGHT.grid()
    assert {"left", "right"} < set(table["method"])
    with pytest.raises(UsageError, match="3 networks"):
        mixing_curve([*pair, pair[0]], clouds[1], fusion=fuse(pair))


def test_several_networks_side_by_side(pair: list[nn.Module], clouds: tuple[Images, Images]) -> None:
    wide = mlp((12, 40, 16, 4), bias=False)
    table = compare([*pair, pair[0]], clouds[1], weights=[0.5, 0.3, 0.2]).set_index("method")["accuracy"]
    assert list(table.index) == ["network 0", "network 1", "network 2", ENSEMBLE, VANILLA, FUSED]
    assert table["network 0"] == accuracy(pair[0], clouds[1])
    assert VANILLA not in set(compare([pair[0], wide], clouds[1])["method"]), "unequal widths have no plain average"


def test_norms_are_measured_anew_for_both_averages(clouds: tuple[Images, Images]) -> None:
    def make(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        start = nn.Sequential(nn.Linear(12, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4))
        return train(start, clouds[0], epochs=5, learning_rate=0.1)

    networks = [make(seed) for seed in (0, 1)]
    averages = {FUSED: fuse(networks).network, VANILLA: vanilla_average(networks)}
    asis = compare(networks, clouds[1]).set_index("method")["accuracy"]
    anew = compare(networks, clouds[1], batch_norm_inputs=clouds[0].inputs).set_index("method")["accuracy"]
    for name, network in averages.items():
        assert asis[name] == accuracy(network, clouds[1])
        assert anew[name] == accuracy(recalibrate_batch_norm(network, clouds[0].inputs), clouds[1])


def test_pruned_networks_are_repaired(pair: list[nn.Module], clouds: tuple[Images, Images]) -> None:
    table = repair_pruned(pair[0], clouds[1], shares=[0.0, 0.5], norms=["l1", "random"], seed=2)
    assert table[["norm", "share"]].to_numpy().tolist() == [["l1", 0.0], ["l1", 0.5], ["random", 0.0], ["random", 0.5]]
    unpruned = table[table["share"] == 0]
    assert (unpruned["pruned"] == unpruned["fused"]).all(), "nothing was lost, so nothing is repaired"
    pruned = prune_neurons(pair[0], 0.5, norm="random", seed=2)
    assert table["pruned"].iloc[-1] == accuracy(pruned, clouds[1])
    assert table["fused"].iloc[-1] == accuracy(fuse([pair[0], pruned]).network, clouds[1])


def test_starts_for_a_student(pair: list[nn.Module], clouds: tuple[Images, Images]) -> None:
    student = train(mlp((12, 8, 6, 4), bias=False), clouds[0], epochs=2, learning_rate=0.1)
    starts = student_initializations(pair[0], student, seed=5)
    assert list(starts) == ["random", "student", FUSED]
    assert starts["random"].fc1.weight.shape == starts[FUSED].fc1.weight.shape == student.fc1.weight.shape
    torch.manual_seed(5)
    assert torch.equal(starts["random"].fc1.weight, MLPNet((12, 8, 6, 4)).fc1.weight)
    teacher = Teacher(pair[0], temperature=2.0, weight=0.5)
    table = train_students(starts, *clouds, teacher=teacher, epochs=3, learning_rate=0.1)
    assert table["start"].tolist() == list(starts)
    assert table["before"].iloc[1] == accuracy(student, clouds[1])
    assert table["after"].iloc[0] > table["before"].iloc[0]
