"""Several compressed forms of one model side by side: bytes, errors, scores, tokens and generated text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import pandas as pd

from .._core.errors import DataError, OutputError, UsageError
from .._core.files import atomic_write
from .._core.progress import Progress, Tick, silent
from ..checkpoint import Checkpoint, open_checkpoint
from ..experts import family_of
from ..runtime import load_pair
from ..scoring.pairing import Difference, paired_difference
from ..scoring.scorer import Limit, TaskResult, TaskScorer
from ..scoring.tasks import EMBEDDED_TASKS
from ..store.manifest import MANIFEST_FILE
from .comparison import score_checkpoint
from .divergence import NEW_TOKENS, PROMPTS, generate_tokens
from .originals import manifest_of, original_of, settings_of
from .sweep import PREDICTION_COLUMNS, SHIFT_COLUMNS
from .traced_text import TracedText
from .variants import ORIGINAL

#: Columns of the tables.
FORM_COLUMNS = ("form", "method", "center", "keep", "bits", "bytes", "original_bytes", "total_bytes", "relative_error")
SCORE_COLUMNS = (
    *("form", "task", "metric", "value", "stderr", "n"),
    *("difference", "difference_stderr", "low", "high", "p_value"),
)
_TABLES = ("forms", "scores", "tokens", "texts", "routing")
_FACTS = "comparison.json"
_NONE = Difference(math.nan, math.nan, math.nan, math.nan, math.nan)


@dataclass(frozen=True, eq=False)
class FormsComparison:
    """Compressed forms of one model beside each other.

    Parameters
    ----------
    reference
        What the others are compared with: the original where it is found, else the first form.
    forms
        One row a form: :data:`FORM_COLUMNS`; bytes of the experts as the manifest tells, and of all tensors.
    scores
        One row a task and form: :data:`SCORE_COLUMNS`; differences to the reference row by row, with their 95 %
        bootstrap interval.
    tokens
        One row a form: ``form, tokens, kl, agreement, worst``: mean and largest KL of the next token's distribution on
        the text, in nats, and the share of the tokens after which both have the same likeliest next one.
    routing
        ``form, layer, tokens, rerouted, moved, gate_kl``.
    texts
        ``prompt, form, text, same``: what each writes greedily, and how many of its first tokens are the reference's.
    pictures
        Form -> what the picture of its tokens is drawn from.
    """

    reference: str
    forms: pd.DataFrame
    scores: pd.DataFrame
    tokens: pd.DataFrame
    routing: pd.DataFrame
    texts: pd.DataFrame
    pictures: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: str | Path) -> Path:
        """Write all tables into a folder; return it.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in _TABLES:
                with atomic_write(folder / f"{name}.csv") as part:
                    getattr(self, name).to_csv(part, index=False)
            with atomic_write(folder / _FACTS) as part:
                part.write_text(json.dumps({"reference": self.reference, "pictures": dict(self.pictures)}), "utf-8")
        except OSError as error:
            raise OutputError(f"{folder} cannot be written ({error.strerror}): name another place") from error
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> FormsComparison:
        """Read what :meth:`save` wrote.

        Raises
        ------
        DataError
            If the folder holds no comparison.
        """
        folder = Path(folder)
        try:
            facts = json.loads((folder / _FACTS).read_text("utf-8"))
            tables = {name: pd.read_csv(folder / f"{name}.csv", keep_default_na=True) for name in _TABLES}
            for name, column in (("texts", "text"), ("forms", "center")):
                tables[name][column] = tables[name][column].fillna("")
            return cls(facts["reference"], pictures=facts["pictures"], **tables)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder} holds no comparison ({error}): make it with resmoe-lab compare") from error


def compare_forms(
    sources: Sequence[str],
    *,
    original: str | None = None,
    text: str,
    tasks: Sequence[str] = EMBEDDED_TASKS,
    limit: Limit = None,
    prompts: Sequence[str] = PROMPTS,
    new_tokens: int = NEW_TOKENS,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> FormsComparison:
    """Compare compressed checkpoints of one model with each other and with the original.

    At most two models are in memory at once: the reference and one form.

    Parameters
    ----------
    sources
        Folders of at least two compressed checkpoints of the same source.
    original
        The source, where it is not where the manifests say; without it the first form is the reference.
    text
        The text whose tokens are compared.
    tasks, limit, data_dir
        What is scored: see :class:`~resmoe_lab.scoring.scorer.TaskScorer`; no task, no scores.
    prompts, new_tokens
        Beginnings of texts that each goes on with, and for how many tokens.
    device
        Where the models run.
    progress
        Called at every step; raising from it cancels.

    Raises
    ------
    UsageError
        If there are fewer than two forms, two have the same name, or they are of different models.
    CheckpointError
        If one has no manifest or cannot be run.
    """
    forms = _opened(sources)
    reference = original_of(next(iter(forms.values())), original)
    models = ([(ORIGINAL, reference)] if reference is not None else []) + list(forms.items())
    scorer = TaskScorer(list(tasks), limit=limit, data_dir=data_dir, progress=progress) if tasks else None
    base = _Reference(*models[0], device=device, text=text)
    rows: dict[str, list[Any]] = {"scores": [], "tokens": [], "routing": [], "texts": []}
    pictures: dict[str, Any] = {}
    for done, (name, checkpoint) in enumerate(models):
        progress(Tick(f"compare {name}", done, len(models)))
        results = score_checkpoint(checkpoint, scorer, device=device) if scorer is not None else {}
        rows["scores"] += _score_rows(name, results, base.scores)
        base.scores = base.scores or results
        pair = base.pair if name == base.name else load_pair(checkpoint, device=device)
        for prompt in prompts:
            written = generate_tokens(*pair, prompt, new_tokens)
            same = base.same_tokens(prompt, written)
            rows["texts"].append((prompt, name, pair[1].decode(written, skip_special_tokens=True), same))
        if name != base.name:
            shift = base.read.shift(pair[0])
            rows["tokens"].append((name, *shift.predictions()))
            rows["routing"] += [(name, *row) for row in shift.routing_shift().itertuples(index=False)]
            pictures[name] = base.read.picture(shift, name)
        del pair
    return FormsComparison(
        reference=base.name,
        forms=pd.DataFrame([_facts(*model) for model in models], columns=list(FORM_COLUMNS)),
        scores=pd.DataFrame(rows["scores"], columns=list(SCORE_COLUMNS)),
        tokens=pd.DataFrame(rows["tokens"], columns=["form", *PREDICTION_COLUMNS]),
        routing=pd.DataFrame(rows["routing"], columns=["form", *SHIFT_COLUMNS]),
        texts=pd.DataFrame(rows["texts"], columns=["prompt", "form", "text", "same"]),
        pictures=pictures,
    )


def _opened(sources: Sequence[str]) -> dict[str, Checkpoint]:
    """The forms by the names of their folders."""
    if len(sources) < 2:
        raise UsageError(f"{len(sources)} checkpoints to compare, expected at least two compressed ones")
    forms: dict[str, Checkpoint] = {}
    for source in sources:
        checkpoint = open_checkpoint(source)
        name = checkpoint.folder.resolve().name
        if name in forms or name == ORIGINAL:
            raise UsageError(f"two checkpoints are called {name!r}: give their folders names of their own")
        forms[name] = checkpoint
    sources_of = {name: settings_of(checkpoint).get("checkpoint_hash") for name, checkpoint in forms.items()}
    if len(set(sources_of.values())) > 1:
        listed = ", ".join(f"{name} of {str(own)[:8]}" for name, own in sources_of.items())
        raise UsageError(f"the checkpoints were made of different models ({listed}): compare forms of one model")
    return forms


class _Reference:
    """The model that forms are compared with, and what it makes of the texts."""

    def __init__(self, name: str, checkpoint: Checkpoint, *, device: str, text: str) -> None:
        self.name = name
        self.pair = load_pair(checkpoint, device=device)
        self.scores: dict[str, TaskResult] = {}
        self.read = TracedText(*self.pair, text, checkpoint=checkpoint)
        self._written: dict[str, list[int]] = {}

    def same_tokens(self, prompt: str, written: list[int]) -> int:
        """How many of the tokens at the beginning are the reference's own, which is asked first."""
        reference = self._written.setdefault(prompt, written)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(reference, written, strict=False)))


def _facts(name: str, checkpoint: Checkpoint) -> tuple[Any, ...]:
    if name == ORIGINAL and not (checkpoint.folder / MANIFEST_FILE).is_file():
        return (name, ORIGINAL, "", 1.0, math.nan, math.nan, math.nan, checkpoint.total_bytes, 0.0)
    settings, manifest = settings_of(checkpoint), manifest_of(checkpoint)
    stored, shape = manifest.get("bytes", math.nan), family_of(checkpoint).layer_shape()
    weights = len(manifest.get("layers") or {}) * shape.num_experts * shape.intermediate_size * shape.width
    bits = 8 * stored / weights if weights else math.nan
    figures = (bits, stored, manifest.get("original_bytes", math.nan), checkpoint.total_bytes)
    described = (str(settings.get("method")), str(settings.get("center")), settings.get("keep"))
    return (name, *described, *figures, manifest.get("relative_error", math.nan))


def _score_rows(
    name: str, results: Mapping[str, TaskResult], reference: Mapping[str, TaskResult]
) -> list[tuple[Any, ...]]:
    rows = []
    for task, result in results.items():
        outcome, score = result.outcomes[0], result.outcomes[0].scores[0]
        difference = _NONE
        if task in reference and len(outcome.rows):
            difference = paired_difference(reference[task].outcomes[0], outcome)
        rows.append((name, score.task, score.metric, score.value, score.stderr, score.n, *astuple(difference)))
    return rows
