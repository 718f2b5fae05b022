"""The verb that compares compressed forms of one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from .._core.errors import UsageError
from ._app import app
from ._options import DataDir, Device, Json, Limit, several, split_names
from ._output import progress_bar, show, show_table


@app.command
def compare(
    *checkpoints: Annotated[str, Parameter(help="Folders of two or more compressed checkpoints of one model.")],
    out: Annotated[Path | None, Parameter(help="Also write an HTML report there.")] = None,
    original: Annotated[str | None, Parameter(help="The original, where the manifests do not tell.")] = None,
    text: Annotated[Path | None, Parameter(help="File with the text that is read token by token.")] = None,
    tasks: Annotated[list[str] | None, several("Names or files; StoryWorld's four if not given.")] = None,
    limit: Limit = 200,
    data_dir: DataDir = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Compare compressed checkpoints: bytes, errors, scores with paired intervals, tokens, routing and written text."""
    from ..experiments.compare_forms import compare_forms
    from ..report import build_comparison, check_report
    from ..scoring.tasks import EMBEDDED_TASKS
    from ..workbench.views.tokens import EXAMPLE

    if out is not None:
        check_report(out)
    options: dict[str, Any] = {"original": original, "limit": limit, "data_dir": data_dir, "device": device}
    options["tasks"] = split_names(tasks) or list(EMBEDDED_TASKS)
    options["text"] = EXAMPLE if text is None else _read(text)
    with progress_bar() as progress:
        comparison = compare_forms(list(checkpoints), progress=progress, **options)
        if out is not None:
            build_comparison(comparison, out, progress=progress)
    forms = comparison.forms.merge(comparison.tokens, on="form", how="left")
    facts: dict[str, Any] = {"reference": comparison.reference, "report": None if out is None else str(out)}
    facts |= {name: _plain(table) for name, table in (("forms", forms), ("scores", comparison.scores))}
    facts |= {"routing": _plain(comparison.routing), "texts": _plain(comparison.texts)}

    def human() -> None:
        columns = ["form", "method", "bits", "total_bytes", "relative_error", "kl", "agreement"]
        show_table(f"Compared with {comparison.reference}", _plain(forms[columns]))
        scores = comparison.scores[["task", "form", "metric", "value", "stderr", "difference", "low", "high"]]
        show_table("Scores", _plain(scores.sort_values("task", kind="stable")))

    show(facts, json, human)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--text {path} cannot be read as text ({error}): name a file in UTF-8") from error


def _plain(table: Any) -> list[dict[str, Any]]:
    """Rows as JSON knows them: what was not measured is null."""
    rows: list[dict[str, Any]] = table.astype(object).where(table.notna(), None).to_dict("records")
    return rows
