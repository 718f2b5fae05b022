"""What a sweep records beside its scores: how each variant reads a text, and the map of the checkpoint."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd

from .._core.errors import CheckpointError, ResmoeWarning, UsageError
from .._core.files import atomic_write
from .._core.params import KEEP, keep_of_bits
from .._core.parsing import read_json
from ..analysis.model_map import compressed_map, map_picture, merge_experts, model_map
from ..centers import CENTERS
from ..methods import METHODS
from ..scoring.tasks import RUNNING_TEXT, Task, find_task
from .runner import VariantRunner
from .sweep import PREDICTION_COLUMNS, ROUTING_TASK, SHIFT_COLUMNS
from .sweep_pictures import FormPicture, MapPicture, SweepPictures, TokenPicture
from .traced_text import TracedText
from .variants import CENTER_ONLY, FEW_BITS, ORIGINAL, PLAIN_BITS, Variant, is_plain_quantizer

#: How many tokens of the text are read.
TEXT_TOKENS = 256
#: A map of more parts shows the experts of a layer as one.
_MOST_CELLS = 4000


@dataclass(frozen=True)
class TaskText:
    """A text of a task.

    Parameters
    ----------
    task
        The task's name.
    text
        Its first rows, as far as :data:`TEXT_TOKENS` may need them.
    """

    task: str
    text: str

    @classmethod
    def of(cls, tasks: Sequence[str], *, data_dir: str | Path | None = None) -> TaskText:
        """Return the text of the first task of running text, or else of the first; of StoryWorld's without any."""
        found = [find_task(name) for name in tasks] or [find_task(ROUTING_TASK)]
        task = next((task for task in found if task.kind in RUNNING_TEXT), found[0])
        # No more of a book than is needed: a token rarely has more than a few letters.
        most, parts = 20 * TEXT_TOKENS, list[str]()
        for row in task.rows(data_dir=data_dir):
            parts.append(_row_text(task, row))
            if sum(map(len, parts)) >= most:
                break
        return cls(task.name, "\n".join(parts)[:most])


def _row_text(task: Task, row: Mapping[str, Any]) -> str:
    """A row as a text, with its right answer in place."""
    if task.kind == "choice":
        return f"{task.prompt.format(goal=row['goal'])} {row[('sol1', 'sol2')[int(row['label'])]]}"
    if task.kind == "partial":
        return str(row["sentence"]).replace("_", str(row[f"option{int(row['answer'])}"]))
    return str(row["text"])


def shown_variants(variants: Sequence[Variant], errors: pd.DataFrame, sizes: pd.DataFrame) -> list[Variant]:
    """Return the variants whose tokens a report shows, the one that it speaks of first.

    These are the closest of the methods that keep a part, at the kept fraction nearest to the default; the closest of
    those that go by bits within :data:`.FEW_BITS` stored bits a weight; and plainly rounded weights of
    :data:`.PLAIN_BITS` bits. Where there is none of these, it is the smallest.

    Parameters
    ----------
    variants
        All of the sweep.
    errors, sizes
        Its tables.
    """
    methods = [variant for variant in variants if variant.method not in (ORIGINAL, CENTER_ONLY)]
    mean = dict(errors.groupby(["method", "keep"])["relative_error"].mean())
    rows = {(row["method"], row["keep"]): row for row in sizes.to_dict("records")}
    error = {variant: float(mean[variant.method, variant.mean_keep]) for variant in methods}
    stored = {variant: rows[variant.method, variant.mean_keep] for variant in methods}
    bits = {variant: 16 * row["true_bytes"] / row["original_bytes"] for variant, row in stored.items()}
    by_bits = {variant: METHODS[variant.method].method.by_bits for variant in methods}
    fractions = [variant for variant in methods if not by_bits[variant]]
    nearest = min((variant.mean_keep for variant in fractions), key=lambda keep: abs(keep - KEEP.default), default=None)
    groups = [
        [variant for variant in fractions if variant.mean_keep == nearest],
        [variant for variant in methods if by_bits[variant] and bits[variant] <= FEW_BITS + 1e-9],
        [v for v in methods if is_plain_quantizer(v.method) and v.mean_keep == keep_of_bits(PLAIN_BITS)],
    ]
    closest = [min(group, key=lambda variant: error[variant]) for group in groups if group]
    return list(dict.fromkeys(closest or [min(methods, key=lambda variant: bits[variant])]))


class TextRecorder:
    """Compares every variant of a sweep with the original on one text, and keeps each result in the sweep's folder.

    Parameters
    ----------
    runner
        Whose model has its own experts when the recorder is first used.
    text
        What is read.
    shown
        The variants of which pictures are wanted.
    out
        The sweep's folder.
    """

    def __init__(self, runner: VariantRunner, text: TaskText, *, shown: Sequence[Variant], out: Path) -> None:
        self._runner, self._text, self._shown, self._out = runner, text, list(shown), out
        self._records: dict[Variant, dict[str, Any]] = {}
        #: Why nothing, or less, is recorded.
        self.missing = ""

    @cached_property
    def _original(self) -> TracedText | None:
        """The original's reading; None where the model does not tell its routing."""
        model, tokenizer = self._runner.loaded
        try:
            return TracedText(
                model, tokenizer, self._text.text, checkpoint=self._runner.checkpoint, longest=TEXT_TOKENS
            )
        except (CheckpointError, UsageError) as error:
            self.missing = str(error)
            warnings.warn(f"no tokens and no routing in this sweep: {error}", ResmoeWarning, stacklevel=2)
            return None

    def wanted(self, variant: Variant) -> Callable[[Any], None] | None:
        """Return what is to be called with a variant's running model; None if nothing is."""
        if variant.method == ORIGINAL or variant in self._records or self._original is None:
            return None
        if (record := self._read(variant)) is not None:
            self._records[variant] = record
            return None
        return partial(self._record, variant)

    def _file(self, variant: Variant) -> Path:
        return self._out / f"text-{variant.method}-{variant.mean_keep:g}.json"

    def _read(self, variant: Variant) -> dict[str, Any] | None:
        """What an earlier run has recorded; None if it is missing or damaged: it is recorded again then."""
        try:
            record = read_json(self._file(variant))
            pd.DataFrame(record["routing"], columns=list(SHIFT_COLUMNS)).astype(float)
            _, *numbers = map(float, record["predictions"])
            picture = record["picture"]
            if picture is not None:
                TokenPicture.model_validate(picture)
            right = len(numbers) == len(PREDICTION_COLUMNS) - 1 and (picture is not None) == (variant in self._shown)
            return record if right else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _record(self, variant: Variant, model: Any) -> None:
        assert self._original is not None
        shift = self._original.shift(model)
        picture = self._original.picture(shift, variant.method) if variant in self._shown else None
        routing = [list(row) for row in shift.routing_shift().itertuples(index=False)]
        record = {"routing": routing, "predictions": list(shift.predictions()), "picture": picture}
        with atomic_write(self._file(variant)) as part:
            part.write_text(json.dumps(record), "utf-8")
        self._records[variant] = record

    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return routing shift and predictions of all variants: the tables of a sweep."""
        keys = ["method", "center", "keep"]
        routing, predictions = [], []
        for variant, record in self._records.items():
            key = variant.method, variant.center, variant.mean_keep
            routing += [(*key, *row) for row in record["routing"]]
            predictions.append((*key, *record["predictions"]))
        return (
            pd.DataFrame(routing, columns=[*keys, *SHIFT_COLUMNS]),
            pd.DataFrame(predictions, columns=[*keys, *PREDICTION_COLUMNS]),
        )

    def pictures(self, errors: pd.DataFrame) -> SweepPictures:
        """Return the pictures of a sweep, whose table of errors is given."""
        forms, broken = [], list[str]()
        for variant in self._shown if self._records else ():
            tokens = self._records[variant]["picture"]
            if not all(map(math.isfinite, tokens["kl"])):
                broken.append(f"{variant.method} at keep {variant.mean_keep:g}")
                continue
            key: dict[str, Any] = {"method": variant.method, "center": variant.center, "keep": variant.mean_keep}
            forms.append(FormPicture(**key, tokens=TokenPicture.model_validate(tokens)))
        missing = f"the predictions of {', '.join(broken)} are no numbers" if broken else self.missing
        first = self._shown[0]
        return SweepPictures(
            task=self._text.task,
            map=self._map(errors),
            method=first.method,
            keep=first.mean_keep,
            forms=forms,
            missing=missing,
        )

    def _map(self, errors: pd.DataFrame) -> MapPicture:
        runner, variant = self._runner, self._shown[0]
        table = model_map(runner.checkpoint)
        options: dict[str, Any] = {"method": variant.method, "keep": variant.mean_keep, "layers": runner.layers}
        options |= {"center": CENTERS[variant.center].stored, "storage": runner.storage}
        forms = {"as stored": table, variant.method: compressed_map(table, runner.checkpoint, **options)}
        if len(table) > _MOST_CELLS:
            forms = {name: merge_experts(form) for name, form in forms.items()}
        own = errors[(errors["method"] == variant.method) & (errors["keep"] == variant.mean_keep)]
        by_layer = dict(zip(own["layer"].astype(int), own["relative_error"].astype(float), strict=True))
        return MapPicture.model_validate(map_picture(runner.checkpoint.name, forms, by_layer))
