"""The runner keeps what it has measured, and the experiments measure what they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resmoe_lab._core.errors import DataError, UsageError
from resmoe_lab.neural import SOLVERS, Problem, scatter_barycenter
from resmoe_lab.neural.costs import quadratic, transformed_cost, twist
from resmoe_lab.neural.decoders import SIDE, train_decoder
from resmoe_lab.neural.experiments import (
    EXPERIMENTS,
    Case,
    Experiment,
    cifar_palettes,
    experiment_pictures,
    run_experiment,
    settings_table,
)
from resmoe_lab.neural.experiments import _base as runner
from resmoe_lab.neural.experiments._gaussian import centred_gaussians, gaussian_errors
from resmoe_lab.neural.experiments.digits import ot_interpolations
from resmoe_lab.neural.experiments.location_scatter import ellipsoids
from resmoe_lab.neural.experiments.mixture import modes_hit, ten_modes
from resmoe_lab.neural.experiments.palettes import palettes, pictures
from resmoe_lab.neural.experiments.posteriors import sample_posterior
from resmoe_lab.neural.experiments.shape_color import color_of_hue, decolorized, hue_of_color, main_color
from resmoe_lab.neural.experiments.twister import CENTERS, twisted_clouds


@pytest.fixture
def tiny_experiment(monkeypatch: pytest.MonkeyPatch, gaussians: Problem) -> list[int]:
    """An experiment of two cases; the list counts how often its solvers were made."""
    made: list[int] = []
    kind = SOLVERS["nwb"]

    def make(seed: int) -> object:
        made.append(seed)
        return kind(gaussians, kind.settings_type(steps=2, batch=8), seed=seed)

    def cases(quick: bool) -> list[Case]:
        return [Case(label, make, lambda solver: {"metric": 1.0, "other": 2.0}, {"dimension": 2}) for label in "ab"]

    monkeypatch.setitem(EXPERIMENTS._entries, "tiny", Experiment("A title", "nowhere", cases))
    assert runner.EXPERIMENTS is EXPERIMENTS
    return made


def test_a_case_that_was_measured_is_not_measured_again(tiny_experiment: list[int], tmp_path: Path) -> None:
    first = run_experiment("tiny", only="a", out=tmp_path)
    assert first["case"].tolist() == ["a", "a"]
    assert first.columns.tolist()[:6] == ["experiment", "case", "solver", "seed", "metric", "value"]
    assert first["steps"].tolist() == [2, 2]
    both = run_experiment("tiny", out=tmp_path, seeds=[0, 1])
    assert len(both) == 8
    assert both["dimension"].tolist() == [2] * 8
    assert sorted(tiny_experiment) == [0, 0, 1, 1]


def test_pictures_are_those_of_the_trained_networks(
    tiny_experiment: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = EXPERIMENTS["tiny"].cases(False)
    seen = [replace(case, pictures=lambda solver: {"row": np.full((1, 2, 2), solver.done)}) for case in cases[:1]]
    monkeypatch.setitem(EXPERIMENTS._entries, "tiny", Experiment("A title", "nowhere", lambda _: [*seen, *cases[1:]]))
    run_experiment("tiny", out=tmp_path)
    [(label, rows)] = experiment_pictures("tiny", out=tmp_path)
    assert label == "a"
    assert rows["row"].tolist() == [[[2, 2], [2, 2]]]


def test_what_cannot_be_run_says_so(tiny_experiment: list[int]) -> None:
    with pytest.raises(UsageError, match="no case of tiny matches 'z'"):
        run_experiment("tiny", only="z")
    with pytest.raises(UsageError, match="experiment tiny reads no folder, found data 'there': leave it out"):
        run_experiment("tiny", data="there")
    with pytest.raises(UsageError, match="unknown experiment"):
        run_experiment("celebb")
    assert settings_table("tiny")["steps"].tolist() == [2, 2]


@pytest.mark.parametrize("name", EXPERIMENTS.names())
def test_every_experiment_says_where_it_comes_from(name: str) -> None:
    assert "et al." in EXPERIMENTS[name].reference or "Fan" in EXPERIMENTS[name].reference


def test_errors_of_a_solver_that_knows_the_truth_are_the_floor() -> None:
    from resmoe_lab.neural import Gaussian, gaussian_barycenter, gaussian_maps

    problem = centred_gaussians(3, (0.5, 2.0), weights=(0.25, 0.75))
    exact = gaussian_barycenter(problem)

    class Known:
        has_maps = True

        def sample(self, count: int) -> torch.Tensor:
            return Gaussian(*exact).sample(count, torch.Generator().manual_seed(11))

        def push(self, points: torch.Tensor) -> torch.Tensor:
            maps = gaussian_maps(problem, exact)
            return torch.stack([own.double() @ matrix + b for own, (matrix, b) in zip(points, maps, strict=True)])

    errors = gaussian_errors(problem, count=500)(Known())
    assert errors["BW2-UVP"] == pytest.approx(errors["floor"])
    assert errors["L2-UVP of maps"] == pytest.approx(0, abs=1e-9)


def test_an_experiment_with_a_known_truth_says_how_near_it_comes() -> None:
    [case] = [case for case in EXPERIMENTS["location-scatter"].cases(True) if case.label == "cwb ellipsoids D=2"]
    problem = ellipsoids(2)
    barycenter = scatter_barycenter(problem)

    class Known:
        has_maps = False

        def sample(self, count: int) -> torch.Tensor:
            return barycenter.sample(count, torch.Generator().manual_seed(99))

    metrics = case.measure(Known())
    assert metrics["BW2-UVP"] < 0.1
    assert metrics["sliced W2"] == pytest.approx(metrics["sliced W2 floor"], rel=0.6)
    assert metrics["known plan over exact plan, %"] == pytest.approx(0, abs=1e-6)


def test_the_twisters_barycenter_is_a_standard_gaussian() -> None:
    """Moving every cloud to the origin in the twisted plane costs what its center's distance says, and no less."""
    problem = twisted_clouds()
    points = problem.sample(20_000, torch.Generator().manual_seed(0))
    for own, center in zip(points, CENTERS, strict=True):
        moved = twist(twist(own) - torch.tensor(center), turn=-0.4)
        assert moved.mean(dim=0).tolist() == pytest.approx([0, 0], abs=0.05)
        assert torch.cov(moved.T).numpy() == pytest.approx(np.eye(2), abs=0.05)
        cost = transformed_cost(twist)(own, moved)
        assert cost.mean() == pytest.approx(0.5 * (center[0] ** 2 + center[1] ** 2), rel=0.01)


def test_modes_are_counted() -> None:
    points = ten_modes().sample(5000, torch.Generator().manual_seed(0))[0]
    assert modes_hit(points)["modes hit"] == 10
    assert modes_hit(points)["share near a mode"] > 0.98
    assert modes_hit(points[points[:, 0] > 0])["modes hit"] < 7


def test_a_posterior_of_a_conjugate_like_case_is_right() -> None:
    """One covariate: the posterior on a fine grid is the truth."""
    random = np.random.default_rng(0)
    covariates = random.standard_normal((200, 1))
    counts = random.poisson(np.exp(0.5 + 0.3 * covariates[:, 0])).astype(float)
    posterior = sample_posterior(covariates, counts, power=2, seed=0, offset=0.5)
    grid = np.linspace(0, 0.7, 4001)
    linear = grid[:, None] * covariates[:, 0] + 0.5
    logs = 2 * (counts * linear - np.exp(linear)).sum(axis=1) - 0.5 * grid**2
    density = np.exp(logs - logs.max())
    mean = (grid * density).sum() / density.sum()
    deviation = np.sqrt(((grid - mean) ** 2 * density).sum() / density.sum())
    assert posterior.draws.mean() == pytest.approx(mean, abs=deviation / 50)
    assert posterior.draws.std() == pytest.approx(deviation, rel=0.01)
    assert posterior.effective > 0.99


def test_hues_come_back_and_colours_are_those_of_bright_pixels() -> None:
    hues = torch.linspace(0, 0.99, 50)
    assert torch.allclose(hue_of_color(color_of_hue(hues)), hues, atol=1e-5)
    assert color_of_hue(torch.tensor([0.0, 1 / 3, 2 / 3])).round(decimals=4).tolist() == [
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
    ]
    shape = torch.zeros(SIDE * SIDE)
    shape[:20] = 1.0
    painted = (shape[:, None] * torch.tensor([1.0, 0.5, 0.0])).flatten()
    assert torch.allclose(main_color(painted), torch.tensor([1.0, 0.5, 0.0]), atol=0.01)
    assert torch.equal(decolorized(painted), shape)


def test_ink_is_moved_between_the_pictures_that_are_most_alike() -> None:
    """A stroke and the same stroke elsewhere have one stroke between them, at its full width and in the middle."""
    strokes = torch.zeros(4, SIDE, SIDE)
    for place, column in enumerate((2, 10, 12, 4)):
        strokes[place, 3:11, column] = 1
    images = ot_interpolations(*strokes.flatten(1).view(2, 2, -1)).view(2, SIDE, SIDE)
    assert images.sum(dim=1).argmax(dim=1).tolist() == [3, 11]
    assert images.amax(dim=(1, 2)).tolist() == [1, 1]


def test_pictures_are_painted_alike_every_time() -> None:
    first, again = pictures(16), pictures(16)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert len(palettes()) == 3


def test_palettes_of_real_pictures_are_those_of_their_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cifar10_sample").mkdir()
    monkeypatch.setenv("RESMOE_DATA", str(tmp_path))
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    labels = [8, 4, 1, 0] * 3
    Image.fromarray(images.reshape(12, 1024, 3)).save(tmp_path / "cifar10_sample" / "cifar10_batch_0.png")
    (tmp_path / "cifar10_sample" / "cifar10_labels_0.txt").write_text("\n".join(map(str, labels)))
    found = cifar_palettes.pictures()
    assert list(found) == ["ships", "deer", "cars"]
    assert np.allclose(found["deer"], images[[1, 5, 9]] / 255)
    [case] = EXPERIMENTS["cifar-palettes"].cases(True)
    rows = case.pictures(case.make(0))
    assert rows["images"].shape == rows["recoloured"].shape == (9, 32, 32, 3)
    (tmp_path / "cifar10_sample" / "cifar10_labels_0.txt").write_text("8 4 1")
    with pytest.raises(DataError, match="36,864 values and 3 labels, expected 3,072 values a label"):
        cifar_palettes.pictures()


def test_a_decoder_learns_its_pictures_and_is_frozen() -> None:
    halves = torch.arange(16) < 8
    shapes = torch.stack([halves, ~halves]).float().repeat(100, 1)
    model = train_decoder(shapes, codes=4, steps=150)
    missed = (model(model.encode(shapes)) - shapes).square().mean()
    assert missed < 0.5 * shapes.var()
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(model(torch.zeros(1, 4)), train_decoder(shapes, codes=4, steps=150)(torch.zeros(1, 4)))


def test_the_quadratic_cost_is_half_the_squared_distance() -> None:
    assert float(quadratic(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0]))) == 12.5
