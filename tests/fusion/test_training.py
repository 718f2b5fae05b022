from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from resmoe_lab._core.errors import UsageError
from resmoe_lab.fusion import Images, Teacher, accuracy, class_accuracies, predict, recalibrate_batch_norm, train

from .networks import largest_difference, mlp


@pytest.fixture
def clouds() -> Images:
    """Four clouds of points, one a class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 4
    centers = 2 * torch.randn(4, 12, generator=generator)
    return Images(centers[labels] + torch.randn(400, 12, generator=generator), labels)


def test_training_learns_from_a_copy_and_is_the_same_again(clouds: Images) -> None:
    network = mlp()
    before = copy.deepcopy(network)
    trained = train(network, clouds, epochs=5, learning_rate=0.05)
    assert largest_difference(network, before) == 0
    assert accuracy(network, clouds) < 60 < 90 < accuracy(trained, clouds)
    assert largest_difference(train(network, clouds, epochs=5, learning_rate=0.05), trained) == 0
    assert largest_difference(train(network, clouds, epochs=5, learning_rate=0.05, seed=1), trained) > 0


def test_a_step_is_that_of_the_formula(clouds: Images) -> None:
    """One batch by hand: the labels' loss and the squared temperature times the softened divergence."""
    network, teacher = mlp(), mlp(seed=1)
    few = clouds.take(torch.arange(8))
    learner = Teacher(teacher, temperature=3.0, weight=0.4)
    trained = train(network, few, epochs=1, learning_rate=0.1, batch_size=8, teacher=learner)
    student = copy.deepcopy(network)
    scores, wished = student(few.inputs), (teacher(few.inputs) / 3).softmax(1).detach()
    truth = -scores.log_softmax(1)[torch.arange(8), few.labels].mean()
    imitation = 9 * (wished * (wished.log() - (scores / 3).log_softmax(1))).sum(1).mean()
    (0.6 * truth + 0.4 * imitation).backward()
    for mine, parameter in zip(trained.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter - 0.1 * parameter.grad)


def test_accuracies_by_class(clouds: Images) -> None:
    scores = torch.eye(4)[clouds.labels]
    scores[clouds.labels == 2] = torch.tensor([1.0, 0, 0, 0])
    assert class_accuracies(scores, clouds.labels) == [100, 100, 0, 100]


def test_predicting_leaves_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)).train()
    before = copy.deepcopy(network)
    predict(network, torch.randn(5, 3))
    assert network.training
    assert largest_difference(network, before) == 0


def test_norms_know_what_really_comes_in() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 2)).eval()
    before, inputs = copy.deepcopy(network), torch.randn(2000, 3)
    fresh = recalibrate_batch_norm(network, inputs)
    hidden = network[0](inputs)
    torch.testing.assert_close(fresh[1].running_mean, hidden.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fresh[1].running_var, hidden.var(0), rtol=5e-3, atol=1e-5)
    assert largest_difference(network, before) == 0
    assert not any(module.training for module in fresh.modules())
    assert fresh[1].momentum == network[1].momentum


def test_bad_teachers_are_named() -> None:
    for options in ({"temperature": 0.0}, {"weight": 1.5}):
        with pytest.raises(UsageError, match="expected one above 0"):
            Teacher(mlp(), **options)
