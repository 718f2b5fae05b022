"""Run a parameterised notebook in a kernel of this very interpreter."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from .._core.errors import OutputError
from .._core.progress import Progress, Tick, silent

_PACKAGE_PARENT = Path(__file__).resolve().parents[2]


class _InterpreterKernelManager(AsyncKernelManager):
    """Starts kernels with the running interpreter, independent of the installed kernel specs."""

    @property
    def kernel_spec(self) -> KernelSpec:
        # Hides the warning that a local kernel uses an unencrypted local socket.
        quiet = "--IPKernelApp.log_level=ERROR"
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", quiet]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


def run_notebook(
    path: Path, parameters: Mapping[str, Any], *, progress: Progress = silent, timeout: float = 600
) -> nbformat.NotebookNode:
    """Run the notebook at `path` with these parameters, and return it with the outputs of every cell.

    Parameters
    ----------
    path
        The notebook; one cell is tagged ``parameters``.
    parameters
        Plain values that replace those of the tagged cell.
    progress
        Called after each cell.
    timeout
        Seconds that one cell may take.

    Raises
    ------
    OutputError
        If a cell fails, in one line.
    """
    notebook = parameterize_notebook(load_notebook_node(str(path)), dict(parameters))
    total = sum(cell.cell_type == "code" for cell in notebook.cells)
    task, num_executed = f"notebook {path.stem}", 0

    def tick(**_: Any) -> None:
        nonlocal num_executed
        num_executed += 1
        progress(Tick(task, num_executed, total))

    client = NotebookClient(
        notebook, km=_InterpreterKernelManager(), timeout=timeout, on_cell_executed=tick, record_timing=False
    )
    search_path = os.pathsep.join(filter(None, [str(_PACKAGE_PARENT), os.environ.get("PYTHONPATH", "")]))
    progress(Tick(task, 0, total))
    try:
        # Kernels of a manager that it was given are kept by the client unless it is told otherwise.
        client.execute(env=os.environ | {"PYTHONPATH": search_path}, cleanup_kc=True)
    except CellExecutionError as error:
        raise OutputError(f"{path.name} failed with {error.ename}: {error.evalue}".splitlines()[0]) from error
    return notebook
