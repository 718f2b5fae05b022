"""Calibration text for the verbs that need it."""

from __future__ import annotations

import sys
import warnings
from typing import Any


def calibrated(checkpoint: Any, layers: list[int], *, device: str, fisher: bool, progress: Any, **text: Any) -> Any:
    """Run the model on calibration text; what there is to warn of goes to standard error."""
    from ..evaluate.calibration import calibrate, calibration_requests
    from ..experts import family_of
    from ..runtime import load_model

    model, tokenizer = load_model(checkpoint, device=device)
    requests = calibration_requests(model, tokenizer, **text)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        options = {"layers": layers, "source": text["text"], "fisher": fisher, "progress": progress}
        known = calibrate(model, family_of(checkpoint), requests, **options)
    for warning in caught:
        print(f"resmoe-lab: {warning.message}", file=sys.stderr)  # noqa: T201
    return known
