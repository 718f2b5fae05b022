"""What an experiment is, and the one runner of all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..._core.errors import UsageError
from ..._core.files import atomic_write
from ..._core.progress import Progress, Tick, silent
from ..._core.registry import Registry
from ..problem import Problem
from ..solvers import SOLVERS, Solver
from ..training import train

#: Columns of every result, before those of the experiment itself.
COLUMNS = ["experiment", "case", "solver", "seed", "metric", "value", "steps", "seconds", "stopped"]
Metrics = Mapping[str, float]
#: Rows of pictures by their names: (n, height, width) grey or (n, height, width, 3) values in [0, 1].
Pictures = Mapping[str, np.ndarray]
#: Pictures a row.
SHOWN = 10
#: Of barycenters on a decoder's manifold, whose costs do not grow far out: with unbounded maps, with momentum, or with
#: few updates of the maps for one of the potentials, all pictures become one.
LATENT: dict[str, Any] = {"batch": 64, "width": 256, "inner": 10, "momentum": 0.0, "bound": 3.0}


@dataclass(frozen=True)
class Case:
    """One training of an experiment.

    Attributes
    ----------
    label
        Its name within the experiment.
    make
        Makes the solver with a seed.
    measure
        Compares the trained solver with what is known.
    facts
        Further columns of its rows, such as the dimension.
    pictures
        Shows what the trained solver makes, where its points are pictures.
    """

    label: str
    make: Callable[[int], Solver[Any]]
    measure: Callable[[Any], Metrics]
    facts: Mapping[str, Any] = field(default_factory=dict)
    pictures: Callable[[Any], Pictures] | None = None


@dataclass(frozen=True)
class Experiment:
    """A table or figure of a paper, as it is done here.

    Attributes
    ----------
    title, reference
        What it shows, and where in the papers.
    cases
        Gives its trainings; called with `quick` for a size of minutes.
    not_run
        Why it is only written down; "" where it can be run.
    """

    title: str
    reference: str
    cases: Callable[[bool], Iterable[Case]]
    not_run: str = ""


EXPERIMENTS: Registry[Experiment] = Registry("experiment", __package__)


def solver_case(
    label: str,
    problem: Problem,
    solver: str,
    *,
    measure: Callable[[Any], Metrics],
    settings: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    pictures: Callable[[Any], Pictures] | None = None,
    **options: Any,
) -> Case:
    """Return the case of a registered solver with some settings; `options` go to its constructor."""
    kind: Any = SOLVERS[solver]
    chosen = kind.settings_type(**(settings or {}))
    return Case(label, lambda seed: kind(problem, chosen, seed=seed, **options), measure, facts or {}, pictures)


def run_experiment(
    name: str,
    *,
    quick: bool = False,
    seeds: Sequence[int] = (0,),
    only: str = "",
    out: str | Path | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Run an experiment, or go on where a stopped run left off.

    Parameters
    ----------
    name
        A name in ``EXPERIMENTS``.
    quick
        Run in minutes what takes hours otherwise.
    seeds
        Every case runs once with each.
    only
        A pattern that the labels of the cases must contain a match of.
    out
        Folder for the results, one file a case, and for the checkpoint of the training at hand. What is there already
        is not computed again.
    progress
        Told every training; raising from it stops, with everything kept.

    Returns
    -------
    DataFrame
        One row for each case, seed and metric, always of the last step, never of the best one: columns ``experiment,
        case, solver, seed, metric, value, steps, seconds, stopped`` and the experiment's own.

    Raises
    ------
    UsageError
        If there is no such experiment or case, or it is only written down.
    """
    cases = _cases(name, only, quick=quick)
    folder = None if out is None else _folder(name, out, quick=quick)
    runs = [(case, seed) for case in cases for seed in seeds]
    tables = []
    for done, (case, seed) in enumerate(runs):
        progress(Tick(f"cases of {name}", done, len(runs), {"case": case.label}))
        tables.append(_run_case(name, case, seed=seed, folder=folder, progress=progress))
    progress(Tick(f"cases of {name}", len(runs), len(runs)))
    return pd.concat(tables, ignore_index=True)


def experiment_pictures(
    name: str, *, out: str | Path, quick: bool = False, seed: int = 0, only: str = ""
) -> Iterator[tuple[str, Pictures]]:
    """Show what the trained solvers of an experiment make, case by case.

    Parameters
    ----------
    name, quick, only
        As for :func:`run_experiment`.
    out
        Where that has left the trained networks; a training that has not ended is ended first.
    seed
        Of the trainings to show.

    Yields
    ------
    str, dict of str to array
        A case's label and its rows of pictures. Cases whose points are no pictures are passed over.
    """
    for case in _cases(name, only, quick=quick):
        if case.pictures is not None:
            state = _folder(name, out, quick=quick) / f"{_stem(case, seed)}.safetensors"
            yield case.label, case.pictures(train(case.make(seed), out=state).solver)


def _cases(name: str, only: str, *, quick: bool) -> list[Case]:
    experiment = EXPERIMENTS[name]
    if experiment.not_run:
        raise UsageError(f"experiment {name} is not run here: {experiment.not_run}")
    cases = [case for case in experiment.cases(quick) if re.search(only, case.label)]
    if not cases:
        raise UsageError(f"no case of {name} matches {only!r}")
    return cases


def _folder(name: str, out: str | Path, *, quick: bool) -> Path:
    return Path(out) / (f"{name}-quick" if quick else name)


def _stem(case: Case, seed: int) -> str:
    return re.sub(r"[^\w.-]+", "-", f"{case.label}-seed{seed}")


def _run_case(name: str, case: Case, *, seed: int, folder: Path | None, progress: Progress) -> pd.DataFrame:
    stem = _stem(case, seed)
    kept = None if folder is None else folder / f"{stem}.csv"
    if kept is not None and kept.is_file():
        return pd.read_csv(kept)
    state = None if folder is None else folder / f"{stem}.safetensors"
    training = train(case.make(seed), out=state, progress=progress)
    solver = training.solver
    facts = {"steps": solver.done, "seconds": round(training.seconds, 2), "stopped": training.stopped}
    shared = {"experiment": name, "case": case.label, "solver": solver.name, "seed": seed, **facts, **case.facts}
    found = case.measure(solver)
    table = pd.DataFrame([{**shared, "metric": metric, "value": value} for metric, value in found.items()])
    table = table[[*COLUMNS, *(column for column in table.columns if column not in COLUMNS)]]
    if kept is not None:
        with atomic_write(kept) as part:
            table.to_csv(part, index=False)
    return table


def settings_table(name: str, *, quick: bool = False) -> pd.DataFrame:
    """Return what every case of an experiment is set to, one row a case."""
    rows: Iterator[dict[str, Any]] = (
        {"case": case.label, "solver": solver.name, **asdict(solver.settings)}
        for case in EXPERIMENTS[name].cases(quick)
        for solver in [case.make(0)]
    )
    return pd.DataFrame(list(rows))
