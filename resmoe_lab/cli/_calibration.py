"""Calibration text for the verbs that need it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class CalibrationText:
    """Which text is read, how much of it, where it lies, and where the model runs."""

    task: str
    tokens: int
    data_dir: Path | None
    device: str


def calibrated(checkpoint: Any, layers: list[int], text: CalibrationText, **options: Any) -> Any:
    """Run the model on calibration text, and return the statistics of each layer; options are those of `calibrate`."""
    from ..experts import family_of
    from ..runtime import load_pair
    from ..scoring.calibration import calibrate, calibration_requests

    model, tokenizer = load_pair(checkpoint, device=text.device)
    requests = calibration_requests(model, tokenizer, text=text.task, tokens=text.tokens, data_dir=text.data_dir)
    family = family_of(checkpoint)
    return calibrate(model, family, requests, layers=layers, source=text.task, **options)
