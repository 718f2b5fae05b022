"""The pictures that a sweep records, so that a report can show them without the model."""

from __future__ import annotations

from collections.abc import Sized
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, ValidationError, model_validator

from .._core.errors import DataError
from .._core.parsing import read_json

#: A token's experts before and after compression; None where a layer does not see the token.
_Routed = tuple[list[int], list[int]] | None


class _Picture(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TokenPicture(_Picture):
    """What the picture of a text's tokens is drawn from: see :meth:`.TokenShift.picture`.

    The fields are those of the picture.
    """

    label: str
    pieces: list[str]
    predicting: list[NonNegativeInt]
    kl: list[float]
    top: tuple[list[list[tuple[str, float]]], list[list[tuple[str, float]]]]
    next: tuple[list[float | None], list[float | None]]
    distance: list[list[float]]
    layers: list[NonNegativeInt]
    count: NonNegativeInt
    experts: list[list[_Routed]]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        rows, tokens = len(self.kl), len(self.pieces)
        by_row: list[Sized] = [self.predicting, *self.top, *self.next, *self.distance]
        if any(len(part) != rows for part in by_row) or any(token >= tokens for token in self.predicting):
            raise ValueError(f"{rows} predictions on {tokens} tokens do not fit together")
        if len(self.experts) != len(self.layers) or any(len(layer) != tokens for layer in self.experts):
            raise ValueError(f"routing of {len(self.layers)} layers and {tokens} tokens does not fit together")
        return self


class FormPicture(_Picture):
    """A text's tokens in one compressed form, which is told by its method, center and kept fraction."""

    method: str
    center: str
    keep: NonNegativeFloat
    tokens: TokenPicture


class MapCell(_Picture):
    """One part of a row of the map, or one expert."""

    part: str
    expert: int
    shape: str
    stored: str
    weights: NonNegativeInt
    bytes: NonNegativeInt


class MapRow(_Picture):
    """A row of the map: a layer, or what stands before and after them."""

    name: str
    layer: int | None
    bytes: NonNegativeInt
    cells: list[MapCell]


class MapForm(_Picture):
    """One form of the checkpoint in the map."""

    name: str
    bytes: NonNegativeInt
    rows: list[MapRow]


class MapPicture(_Picture):
    """What the map of a checkpoint is drawn from: see :func:`~resmoe_lab.analysis.model_map.map_picture`."""

    name: str
    forms: list[MapForm]
    errors: dict[str, NonNegativeFloat]


class SweepPictures(_Picture):
    """What a sweep records for the pictures of a report.

    Parameters
    ----------
    task
        Whose text it is.
    map
        The checkpoint as stored, and as one form would store it.
    method, keep
        Which form that is.
    forms
        The text's tokens in some of the compressed forms, the one that the report speaks of first.
    missing
        Why forms are missing; empty if none is.
    """

    task: str
    map: MapPicture
    method: str
    keep: NonNegativeFloat
    forms: list[FormPicture]
    missing: str = ""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what a sweep has recorded.

        Raises
        ------
        DataError
            If the file is damaged.
        """
        try:
            content: Any = read_json(path)
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise DataError(f"{path} is no record of pictures ({place}: {first['msg']})") from error
