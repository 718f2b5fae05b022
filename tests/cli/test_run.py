"""Other programs run with packed checkpoints registered."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from resmoe_lab import cli
from resmoe_lab._core.errors import UsageError
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.compress import CompressionConfig, compress_checkpoint

_SCRIPT = """import sys
from transformers import AutoModelForCausalLM
print("arguments", sys.argv[1:])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
print(type(model.model.layers[0].mlp.experts).__module__)
"""


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "resmoe_lab", "run", "--", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_a_script_that_knows_nothing_of_us_opens_a_packed_folder(pico_checkpoint: Checkpoint, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    compress_checkpoint(pico_checkpoint, packed, CompressionConfig(method="up", keep=0.25))
    (tmp_path / "script.py").write_text(_SCRIPT)
    done = _run(str(tmp_path / "script.py"), str(packed), "--flag", "-x")
    assert done.returncode == 0, done.stderr
    assert f"arguments {[str(packed), '--flag', '-x']}" in done.stdout
    assert "resmoe_lab.runtime" in done.stdout


def test_modules_and_commands_of_packages_run_with_their_own_exit_codes() -> None:
    assert "usage: json" in _run("-m", "json.tool", "--help").stdout.replace("python -m json.tool", "json")
    done = _run("pytest", "--version")
    assert done.returncode == 0
    assert "pytest" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "no program is named"), (["-m"], "-m names no module"), (["no-such-command"], "no installed package"),
     (["gone.py"], "is no file")],
)  # fmt: skip
def test_what_cannot_run_is_one_line(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cli.app(["run", "--", *words], exit_on_error=False, result_action="return_value")
