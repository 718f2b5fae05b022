"""Where tensors are computed, as users name it."""

from __future__ import annotations

from .errors import UsageError


def check_device(device: str) -> str:
    """Return the device after checking that this machine has it.

    Raises
    ------
    UsageError
        If there is no such device, or it holds no values.
    """
    if device == "cpu":
        return device
    import torch

    expected = "expected cpu, or an accelerator of this machine such as cuda or cuda:1"
    try:
        torch.zeros(1, device=device).item()  # only using it tells whether it is there
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        # Torch's own advice for developers takes many lines; the first one says what is wrong.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"device {device!r} cannot be used ({reason}): {expected}") from error
    return device
