"""Calibration text for the verbs that need it."""

from __future__ import annotations

from typing import Any


def calibrated(checkpoint: Any, layers: list[int], *, device: str, fisher: bool, progress: Any, **text: Any) -> Any:
    """Run the model on calibration text."""
    from ..experts import family_of
    from ..runtime import load_model
    from ..scoring.calibration import calibrate, calibration_requests

    model, tokenizer = load_model(checkpoint, device=device)
    requests = calibration_requests(model, tokenizer, **text)
    options = {"layers": layers, "source": text["text"], "fisher": fisher, "progress": progress}
    return calibrate(model, family_of(checkpoint), requests, **options)
