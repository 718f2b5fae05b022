"""How fast a checkpoint runs and what it takes, original, restored and factored, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch

from .._core.errors import ResmoeError, UsageError
from .._core.machine import anonymous_bytes, peak_memory, release_memory
from .._core.params import check_seed
from .._core.progress import Progress, silent, tracked
from ..checkpoint import Checkpoint, open_checkpoint
from ..store.formats import FORMATS
from ..store.manifest import read_manifest
from .experts import ResMoEExperts
from .loading import load
from .quantizer import ResMoEConfig

Way = Literal["original", "restored", "factored"]
WAYS: tuple[Way, ...] = ("original", "restored", "factored")


@dataclass(frozen=True)
class Bench:
    """What was measured of one way to run a checkpoint.

    Parameters
    ----------
    way
        ``"original"``: the checkpoint before it was compressed; ``"restored"``, ``"factored"``: the packed one.
    weight_bytes
        Bytes of all tensors of the loaded model, mapped or not.
    resident_bytes
        Anonymous memory that loading added; pages of mapped files cost nothing to give back and are not in it.
    peak_bytes
        The most anonymous memory beyond that of the empty process, while loading and running.
    load_seconds
        To open it, hashes included.
    first_token_seconds
        From a prompt to the first token: the median of the rounds, as all that follow.
    prompt_tokens_per_second, tokens_per_second
        While the prompt is read, and while tokens are generated one by one.
    """

    way: Way
    weight_bytes: int
    resident_bytes: int
    peak_bytes: int
    load_seconds: float
    first_token_seconds: float
    prompt_tokens_per_second: float
    tokens_per_second: float


def bench(
    checkpoint: Checkpoint,
    *,
    ways: Sequence[str] | None = None,
    original: str | None = None,
    prompt: int = 128,
    new: int = 16,
    rounds: int = 3,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Bench]:
    """Measure the ways in which a checkpoint can run, one process after another.

    Parameters
    ----------
    checkpoint
        Packed, or an original.
    ways
        Some of :data:`WAYS`; all that there are if not given.
    original
        Where the original is; what the manifest names if not given.
    prompt, new, rounds
        Tokens of the prompt, tokens that are generated, and how often.
    seed
        Draws the prompt from the vocabulary.
    progress
        Called before each way.

    Returns
    -------
    list of Bench
        One for each way: bytes of the weights, peak memory, seconds to load, tokens a second.

    Raises
    ------
    UsageError
        If a way or a number is not possible.

    Examples
    --------
    >>> import resmoe_lab as rl
    >>> [measured] = rl.bench(rl.open_checkpoint("mixtral-tiny"), prompt=8, new=2, rounds=1)
    >>> measured.way, measured.weight_bytes
    ('original', 25973376)
    """
    if min(prompt, rounds) < 1 or new < 2:
        raise UsageError(f"{prompt} prompt tokens, {new} new, {rounds} rounds: expected at least 1, 2 and 1")
    check_seed(seed)
    if original is not None and not checkpoint.packed:
        raise UsageError(f"original {original!r} of {checkpoint.name}, which is no packed checkpoint: leave it out")
    places = sources(checkpoint, original)
    selected = list(ways or places)
    for way in selected:
        if way not in places:
            raise UsageError(f"{checkpoint.name} cannot run {way!r}, expected some of {', '.join(places)}")
    settings = {"prompt": prompt, "new": new, "rounds": rounds, "seed": seed}
    return [_in_a_process(way, places[way], settings) for way in tracked(selected, "bench", progress)]


def sources(checkpoint: Checkpoint, original: str | None) -> dict[str, str]:
    """Return where the checkpoint of each way to run one is: the original's only where it is found.

    Parameters
    ----------
    checkpoint, original
        As for :func:`bench`.

    Raises
    ------
    CheckpointError
        If `original` is given and not found, or what the config says of the packed layers is damaged.
    """
    if not checkpoint.packed:
        return {"original": str(checkpoint.location)}
    places = dict.fromkeys(("restored", "factored"), str(checkpoint.folder))
    layouts = ResMoEConfig(**checkpoint.config["quantization_config"]).layouts().values()
    if not all(FORMATS[layout.format].multiplies for layout in layouts):
        del places["factored"]
    try:
        named = original or str(read_manifest(checkpoint.folder)["settings"].get("checkpoint"))
        folder = str(open_checkpoint(named).location)
    except ResmoeError:
        if original is not None:
            raise
        return places  # it was somewhere else when this was made, or the manifest was not copied along
    return {"original": folder, **places}


def _in_a_process(way: str, folder: str, settings: dict[str, int]) -> Bench:
    command = [sys.executable, "-m", __name__, json.dumps({"way": way, "folder": folder, **settings})]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UsageError(f"{way}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}")
    return Bench(**json.loads(done.stdout.splitlines()[-1]))


def measure(way: Way, folder: str, *, prompt: int, new: int, rounds: int, seed: int) -> Bench:
    """Measure one way in this process."""
    checkpoint = open_checkpoint(Path(folder))
    import transformers  # noqa: F401  (what an empty process has anyway)

    release_memory()
    before = anonymous_bytes()
    with peak_memory() as peak:
        begun = time.perf_counter()
        mode: Any = None if way == "original" else way
        model: Any = load(checkpoint, mode)
        loaded = time.perf_counter() - begun
        release_memory()
        resident = anonymous_bytes() - before
        times = [_generate(model, prompt, new, seed) for _ in range(rounds + 1)][1:]  # the first compiles and caches
    first, rest = (median(column) for column in zip(*times, strict=True))
    tensors = {tensor.data_ptr(): tensor.nbytes for tensor in [*model.parameters(), *model.buffers()]}
    return Bench(way, sum(tensors.values()), resident, peak.nbytes - before, loaded, first, prompt / first, new / rest)


def _generate(model: Any, prompt: int, new: int, seed: int) -> tuple[float, float]:
    """Seconds to the first token, and for `new` more after it."""
    _clear_caches(model)
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, model.config.vocab_size, (1, prompt), generator=generator)
    options: dict[str, Any] = {"do_sample": False, "attention_mask": torch.ones_like(tokens), "pad_token_id": 0}

    def seconds(count: int) -> float:
        begun = time.perf_counter()
        with torch.inference_mode():
            model.generate(tokens, max_new_tokens=count, min_new_tokens=count, **options)
        return time.perf_counter() - begun

    first = seconds(1)
    return first, max(seconds(1 + new) - first, 1e-9)


def _clear_caches(model: torch.nn.Module) -> None:
    """Drop restored experts: every round restores what it needs."""
    for module in model.modules():
        if isinstance(module, ResMoEExperts):
            module.clear_cache()


if __name__ == "__main__":
    try:
        sys.stdout.write(json.dumps(asdict(measure(**json.loads(sys.argv[1])))))
    except ResmoeError as error:
        sys.exit(str(error))
