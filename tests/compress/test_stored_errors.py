"""The error in a manifest is what another process computes from the files alone, whatever way they are stored."""

import json
import subprocess
import sys
from typing import Any

import pytest

from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.compress import CompressionConfig, compress_checkpoint

from ..experts import pico

#: Errors of folders by scipy's matching and float64 sums: neurons of the stored experts stand in the center's order.
_COMPUTE = """
import json, sys
import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
import resmoe_lab as rl
from resmoe_lab.experts import family_of, load_stack

source = rl.open_checkpoint(sys.argv[1])
errors = []
for folder in sys.argv[2:]:
    checkpoint = rl.open_checkpoint(folder)
    originals = load_stack(source, layer=1).weights.double().numpy()
    if checkpoint.packed:
        module = family_of(checkpoint).experts_module(rl.load(checkpoint), 1)
        restored = np.stack([module.restore(k).double().numpy() for k in range(len(originals))])
    else:
        restored = load_stack(checkpoint, layer=1).weights.double().numpy()
    error = 0.0
    for rows, others in zip(originals, restored, strict=True):
        costs = cdist(rows, others, "sqeuclidean")
        error += costs[linear_sum_assignment(costs)].sum()
    errors.append(error / len(originals))
print(json.dumps(errors))
"""

_CASES: list[dict[str, Any]] = [
    {"method": "up", "keep": 1.0},
    {"method": "resmoe-up", "keep": 0.5, "storage": {"encoding": "bf16"}},
    {"method": "resmoe-up", "keep": 0.5, "storage": {"encoding": "int8"}},
    {"method": "resmoe-svd", "keep": 0.5, "storage": {"encoding": "fp32"}},
    {"method": "rtn", "keep": 0.25},
    {"method": "coded", "keep": 0.25},
    {"method": "resmoe-coded", "keep": 0.25},
    {"method": "resmoe-up", "keep": 0.5, "export": "dense"},
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[float, float]]:
    """Each case's error as its manifest has it, and as a new process computes it."""
    out = tmp_path_factory.mktemp("stored")
    source = open_checkpoint(pico.save(pico.mixtral(), out / "source"))
    folders = [out / str(number) for number in range(len(_CASES))]
    told = [
        compress_checkpoint(source, folder, CompressionConfig(layers=[1], **case))["approximation_error"]
        for folder, case in zip(folders, _CASES, strict=True)
    ]
    command = [sys.executable, "-c", _COMPUTE, str(source.folder), *map(str, folders)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(zip(told, json.loads(run.stdout.strip().splitlines()[-1]), strict=True))


@pytest.mark.parametrize("case", range(len(_CASES)), ids=lambda case: "-".join(map(str, _CASES[case].values())))
def test_a_new_process_finds_the_error_of_the_manifest(found: list[tuple[float, float]], case: int) -> None:
    told, computed = found[case]
    assert told > 0
    assert told == pytest.approx(computed, rel=1e-6)
