"""How OpenMP's threads wait, which is decided before torch is imported."""

from __future__ import annotations

import subprocess
import sys

from resmoe_lab.cli import share_cores


def test_what_the_user_says_counts() -> None:
    environment: dict[str, str] = {}
    share_cores(environment)
    assert environment == {"GOMP_SPINCOUNT": "1000"}
    for said in ({"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}):
        environment = dict(said)
        share_cores(environment)
        assert environment == said


def test_torch_is_not_there_before() -> None:
    code = "import sys, resmoe_lab.cli; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
