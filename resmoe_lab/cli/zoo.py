"""Verbs about the embedded models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from .._core.errors import UsageError
from ._app import app
from ._options import DataDir, Device, Json
from ._output import progress_bar, show, show_table

zoo_app = App(name="zoo", help="Embedded models: list them, or train one again from nothing.")
app.command(zoo_app)


@zoo_app.command(name="list")
def zoo_list(*, json: Json = False) -> None:
    """List the embedded models."""
    from .. import zoo

    models: list[dict[str, Any]] = [{"name": name, "built": zoo.is_built(name)} for name in zoo.names()]
    for model in models:
        recipe = zoo.RECIPES.get(model["name"]) or zoo.UPCYCLED[model["name"]]
        model |= {"path": str(zoo.folder(model["name"])), "seed": recipe.seed}
    show({"models": models}, json, lambda: show_table("Zoo", models))


@zoo_app.command(name="build")
def zoo_build(
    name: Annotated[str, Parameter(help="As `zoo list` has it.")],
    *,
    out: Annotated[Path | None, Parameter(help="Folder of the model; its place in the zoo if not given.")] = None,
    dense: Annotated[
        str | None,
        Parameter(help="For smol-moe: a GGUF file, a folder or a hub id of another Llama-like model to upcycle."),
    ] = None,
    data_dir: DataDir = None,
    device: Annotated[Device, Parameter(help="For smol-moe: where the training runs, cpu or cuda.")] = "cpu",
    json: Json = False,
) -> None:
    """Train a model of the zoo again, score it, and write its model card; goes on where a stopped run left off."""
    from .. import zoo

    with progress_bar() as progress:
        if name in zoo.UPCYCLED:
            from ..training.upcycled_card import build_upcycled

            options: dict[str, Any] = {"dense": dense, "device": device}
            card = build_upcycled(name, out=out, data_dir=data_dir, progress=progress, **options)
        else:
            from ..training.card import build_zoo_model

            if dense is not None or device != "cpu":
                raise UsageError(f"--dense and --device belong to {', '.join(zoo.UPCYCLED)}, found {name!r}")
            card = build_zoo_model(name, out=out, data_dir=data_dir, progress=progress)

    def human() -> None:
        print(f"{card['path']}: {card['bytes'] / 1e6:.1f} MB, see MODEL_CARD.md")  # noqa: T201
        for demand in card["unmet"]:
            print(f"demand of the zoo not met: {demand}")  # noqa: T201

    show({"models": [card]}, json, human)
