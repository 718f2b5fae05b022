"""Compiled steps do what the others do, and training goes on where nothing can be compiled."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from resmoe_lab._core.errors import ResmoeWarning
from resmoe_lab.neural import SOLVERS, Problem
from resmoe_lab.neural.compilation import Compiled, has_compiler
from resmoe_lab.neural.solvers import _minmaxmin


def _train(problem: Problem, **settings: Any) -> Any:
    kind = SOLVERS["nwb"]
    solver: Any = kind(problem, kind.settings_type(steps=3, batch=16, width=4, depth=1, outer=1, inner=2, **settings))
    for _ in range(3):
        solver.step()
    return solver


def test_compiled_steps_are_the_same_steps(gaussians: Problem) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error" if has_compiler() else "ignore", ResmoeWarning)
        compiled = _train(gaussians, compiled=True)
    plain = _train(gaussians, compiled=False)
    assert compiled.done == 3
    torch.testing.assert_close(compiled.g.flat[:, :-1], plain.g.flat[:, :-1], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(compiled.sample(50), plain.sample(50), rtol=1e-3, atol=1e-4)


def test_what_cannot_be_compiled_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def refuse(function: Any, **options: Any) -> Any:
        def call(*arguments: Any) -> Any:
            calls.append(arguments)
            raise torch._dynamo.exc.TorchDynamoException("no compiler here\nand a trace")

        return call

    monkeypatch.setattr(torch, "compile", refuse)
    double = Compiled(lambda x: 2 * x)
    with pytest.warns(ResmoeWarning, match=r"without compiled steps .no compiler here."):
        assert double(3) == 6
    assert double(4) == 8
    assert len(calls) == 1, "it is not tried again"


def test_short_trainings_are_not_compiled(gaussians: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    kind: Any = SOLVERS["nwb"]
    monkeypatch.setattr(_minmaxmin, "has_compiler", lambda: True)
    for steps, compiled in ((100, False), (1000, True)):
        derivatives, _ = kind(gaussians, kind.settings_type(steps=steps))._derivatives
        assert isinstance(derivatives, Compiled) == compiled
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not has_compiler()
