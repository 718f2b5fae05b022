"""Experiments and their runner."""

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

#: Columns of all results, before those of the experiment.
COLUMNS = ["experiment", "case", "solver", "seed", "metric", "value", "steps", "seconds", "stopped"]
Metrics = Mapping[str, float]
#: Rows of images by their names: (n, height, width) gray or (n, height, width, 3) colour values in [0, 1].
Pictures = Mapping[str, np.ndarray]
#: Number of images in a row.
PICTURES_PER_ROW = 10
#: Settings of barycenters on a decoder's manifold, whose costs do not grow at infinity: with unbounded maps, with
#: momentum, or with few updates of the maps for one of the potentials, all images collapse to one.
DECODER_SETTINGS: dict[str, Any] = {"batch": 64, "width": 256, "inner": 10, "momentum": 0.0, "bound": 3.0}


@dataclass(frozen=True)
class Case:
    """One training of an experiment.

    Attributes
    ----------
    label
        Its name within the experiment.
    make
        Returns the solver for a seed.
    measure
        Returns the metrics of the trained solver.
    facts
        Further columns of its rows, such as the dimension.
    pictures
        Returns images of the trained solver, if its points are images.
    """

    label: str
    make: Callable[[int], Solver[Any]]
    measure: Callable[[Any], Metrics]
    facts: Mapping[str, Any] = field(default_factory=dict)
    pictures: Callable[[Any], Pictures] | None = None


@dataclass(frozen=True)
class Experiment:
    """A table or figure of a paper.

    Attributes
    ----------
    title, reference
        Its subject, and its place in the papers.
    cases
        Returns its trainings; called with `quick` for a size of minutes, and with `data` where it reads a folder.
    reads_folder
        Whether it reads a folder of data that users may name.
    """

    title: str
    reference: str
    cases: Callable[..., Iterable[Case]]
    reads_folder: bool = False


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
    """Return the case of a registered solver; `options` are passed to its constructor."""
    kind: Any = SOLVERS[solver]
    solver_settings = kind.settings_type(**(settings or {}))
    return Case(
        label, lambda seed: kind(problem, solver_settings, seed=seed, **options), measure, facts or {}, pictures
    )


def run_experiment(
    name: str,
    *,
    quick: bool = False,
    seeds: Sequence[int] = (0,),
    only: str = "",
    out: str | Path | None = None,
    data: str | Path | None = None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Run an experiment, or resume a run that was stopped.

    Parameters
    ----------
    name
        A name in ``EXPERIMENTS``.
    quick
        Whether to run a small version, which takes minutes instead of hours.
    seeds
        Seeds of the trainings of every case.
    only
        Regular expression that selects cases by their labels.
    out
        Folder of the results, one file for each case and seed, and of checkpoints. Cases with results are skipped.
    data
        Folder of pictures, for experiments that read one; looked for among the data sets if not given.
    progress
        Called for every training; raising from it cancels, after a checkpoint.

    Returns
    -------
    DataFrame
        One row for each case, seed and metric, of the last step: columns ``experiment,
        case, solver, seed, metric, value, steps, seconds, stopped`` and those of the experiment.

    Raises
    ------
    UsageError
        If there is no such experiment or case, or it reads no folder.
    DataError
        If its data are missing, or cannot be read.

    Examples
    --------
    >>> run_experiment("twister", quick=True, only="classical")  # doctest: +SKIP
    """
    cases = _cases(name, only, quick=quick, data=data)
    folder = None if out is None else _folder(name, out, quick=quick)
    runs = [(case, seed) for case in cases for seed in seeds]
    tables = []
    for done, (case, seed) in enumerate(runs):
        progress(Tick(f"cases of {name}", done, len(runs), {"case": case.label}))
        tables.append(_run_case(name, case, seed=seed, folder=folder, progress=progress))
    progress(Tick(f"cases of {name}", len(runs), len(runs)))
    return pd.concat(tables, ignore_index=True)


def experiment_pictures(
    name: str,
    *,
    out: str | Path,
    quick: bool = False,
    seed: int = 0,
    only: str = "",
    data: str | Path | None = None,
) -> Iterator[tuple[str, Pictures]]:
    """Yield the images of an experiment's trained solvers, case by case.

    Parameters
    ----------
    name, quick, only, data
        See :func:`run_experiment`.
    out
        Folder of its results; unfinished trainings are finished first.
    seed
        Seed of the trainings.

    Yields
    ------
    str, dict of str to array
        The label of a case and its rows of images. Cases whose points are no images are skipped.
    """
    for case in _cases(name, only, quick=quick, data=data):
        if case.pictures is not None:
            state = _folder(name, out, quick=quick) / f"{_stem(case, seed)}.safetensors"
            yield case.label, case.pictures(train(case.make(seed), out=state).solver)


def _all_cases(name: str, *, quick: bool, data: str | Path | None) -> Iterable[Case]:
    experiment = EXPERIMENTS[name]
    if data is not None and not experiment.reads_folder:
        raise UsageError(f"experiment {name} reads no folder, found data {str(data)!r}: leave it out")
    return experiment.cases(quick) if data is None else experiment.cases(quick, Path(data))


def _cases(name: str, only: str, *, quick: bool, data: str | Path | None) -> list[Case]:
    cases = [case for case in _all_cases(name, quick=quick, data=data) if re.search(only, case.label)]
    if not cases:
        raise UsageError(f"no case of {name} matches {only!r}")
    return cases


def _folder(name: str, out: str | Path, *, quick: bool) -> Path:
    return Path(out) / (f"{name}-quick" if quick else name)


def _stem(case: Case, seed: int) -> str:
    return re.sub(r"[^\w.-]+", "-", f"{case.label}-seed{seed}")


def _run_case(name: str, case: Case, *, seed: int, folder: Path | None, progress: Progress) -> pd.DataFrame:
    name_stem = _stem(case, seed)
    result_file = None if folder is None else folder / f"{name_stem}.csv"
    if result_file is not None and result_file.is_file():
        return pd.read_csv(result_file)
    state = None if folder is None else folder / f"{name_stem}.safetensors"
    training = train(case.make(seed), out=state, progress=progress)
    solver = training.solver
    facts = {"steps": solver.done, "seconds": round(training.seconds, 2), "stopped": training.stopped}
    columns = {"experiment": name, "case": case.label, "solver": solver.name, "seed": seed, **facts, **case.facts}
    metrics = case.measure(solver)
    table = pd.DataFrame([{**columns, "metric": metric, "value": value} for metric, value in metrics.items()])
    table = table[[*COLUMNS, *(column for column in table.columns if column not in COLUMNS)]]
    if result_file is not None:
        with atomic_write(result_file) as part:
            table.to_csv(part, index=False)
    return table


def settings_table(name: str, *, quick: bool = False, data: str | Path | None = None) -> pd.DataFrame:
    """Return the settings of every case of an experiment, one row for each."""
    rows: Iterator[dict[str, Any]] = (
        {"case": case.label, "solver": solver.name, **asdict(solver.settings)}
        for case in _all_cases(name, quick=quick, data=data)
        for solver in [case.make(0)]
    )
    return pd.DataFrame(list(rows))
