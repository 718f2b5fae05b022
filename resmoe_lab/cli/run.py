"""The verb that runs another program with packed checkpoints registered."""

from __future__ import annotations

import runpy
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .._core.errors import UsageError
from ._app import app


@app.command
def run(
    *words: Annotated[
        str,
        Parameter(allow_leading_hyphen=True, help="PROGRAM ARGUMENTS, -m MODULE ARGUMENTS, or SCRIPT.py ARGUMENTS."),
    ],
) -> None:
    """Run another Python program in which packed checkpoints open: resmoe-lab run -- lm_eval --model hf ...

    The program runs in this very interpreter, in which packed checkpoints are registered with transformers as soon as
    it is imported. PROGRAM is a command that an installed package provides.
    """
    if not words:
        raise UsageError("no program is named: resmoe-lab run -- PROGRAM ARGUMENTS, or -m MODULE ARGUMENTS")
    program, *arguments = words
    if program == "-m":
        if not arguments:
            raise UsageError("-m names no module: resmoe-lab run -- -m MODULE ARGUMENTS")
        module, *arguments = arguments
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return
    sys.argv = [program, *arguments]
    if program.endswith(".py"):
        if not Path(program).is_file():
            raise UsageError(f"{program} is no file, expected a Python script: check the path")
        runpy.run_path(program, run_name="__main__")
        return
    found = entry_points(group="console_scripts", name=program)
    if not found:
        raise UsageError(
            f"no installed package provides the command {program!r}: install it beside resmoe-lab, or name a module "
            "(-m)"
        )
    raise SystemExit(next(iter(found)).load()())
