"""Building of a report: a notebook is run on a sweep's folder and exported to HTML with the project's template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat

from .._core.errors import OutputError
from .._core.files import atomic_write, check_place, full_disk, make_folder, temporary_folder
from .._core.progress import Progress, Tick, silent
from ..experiments.compare_forms import FormsComparison
from ..experiments.sweep import Sweep

_HERE = Path(__file__).resolve().parent


def report_notebook(name: str) -> Path:
    """Find a report's notebook: in a checkout's ``notebooks/reports``, or in the installed package.

    Raises
    ------
    OutputError
        If it is in neither.
    """
    folders = [_HERE.parents[1] / "notebooks" / "reports", _HERE.parent / "notebooks" / "reports"]
    for folder in folders:
        if (folder / f"{name}.ipynb").is_file():
            return folder / f"{name}.ipynb"
    raise OutputError(f"report notebook {name}.ipynb not found in {folders[0]} or {folders[1]}: reinstall the package")


def check_report(out: Path) -> None:
    """Refuse a place that no report can be written at.

    Raises
    ------
    OutputError
        If it is a folder, or its folder cannot be written.
    """
    if out.is_dir():
        raise OutputError(f"{out} is a folder, expected the name of an HTML file: add a name such as report.html")
    check_place(out.parent)


def build_report(sweep: Sweep | str | Path, out: str | Path, *, progress: Progress = silent) -> Path:
    """Write a standalone HTML report: no network, no kernel, sliders alive.

    Parameters
    ----------
    sweep
        A sweep, or the folder of one.
    out
        The HTML file; it appears whole or not at all.
    progress
        Called after each step; raising from it leaves nothing behind.

    Returns
    -------
    pathlib.Path
        `out`.

    Raises
    ------
    DataError
        If the folder holds no finished sweep.
    OutputError
        If the report cannot be written there.

    Examples
    --------
    >>> import tempfile
    >>> import resmoe_lab as rl
    >>> checkpoint, folder = rl.open_checkpoint("mixtral-tiny"), tempfile.mkdtemp()
    >>> choices = {"methods": ["up"], "keeps": [0.25], "tasks": ["storyworld_action"], "limit": 4}
    >>> sweep = rl.run_sweep(checkpoint, folder, layers=[0], **choices)
    >>> rl.build_report(sweep, f"{folder}/report.html").name
    'report.html'
    """
    loaded = sweep if isinstance(sweep, Sweep) else Sweep.load(sweep)
    title = f"ResMoE report: {loaded.facts.get('model', 'model')}"
    return _build("model", loaded.save, out, title=title, progress=progress)


def build_comparison(comparison: FormsComparison, out: str | Path, *, progress: Progress = silent) -> Path:
    """Write a standalone HTML report of compressed forms beside each other: no network, no kernel.

    Parameters
    ----------
    comparison
        As :func:`~resmoe_lab.experiments.compare_forms.compare_forms` makes it.
    out, progress
        As for :func:`build_report`.

    Returns
    -------
    pathlib.Path
        `out`.

    Raises
    ------
    OutputError
        If the report cannot be written there.
    """
    names = ", ".join(str(name) for name in comparison.forms["form"])
    return _build("compare", comparison.save, out, title=f"ResMoE comparison: {names}", progress=progress)


def _build(name: str, save: Callable[[Path], Path], out: str | Path, *, title: str, progress: Progress) -> Path:
    """Save what a report is of into a folder, run the report's notebook on it, and write its page."""
    out = Path(out)
    check_report(out)
    from .execute import run_notebook

    with temporary_folder("resmoe-report-") as scratch:
        folder = save(scratch / "tables")
        try:
            notebook = run_notebook(report_notebook(name), {"folder": str(folder)}, progress=progress)
        except OSError as error:  # Jupyter writes files of its own
            raise full_disk(error.filename or out, error) from error
    progress(Tick("export", 0, 1))
    _write_whole(out, _export(notebook, title=title))
    progress(Tick("export", 1, 1))
    return out


def _export(notebook: nbformat.NotebookNode, *, title: str) -> str:
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(extra_template_basedirs=[str(_HERE)], template_name="template")
    exporter.embed_images = True
    page, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": title}})
    return page


def _write_whole(path: Path, text: str) -> None:
    make_folder(path.parent)
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")
