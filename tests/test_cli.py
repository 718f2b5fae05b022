"""The command line as users and scripts see it: one JSON object, one line of error, and an exit code."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from resmoe_lab import cli
from resmoe_lab.centers import CENTERS
from resmoe_lab.experiments.sweep import Sweep
from resmoe_lab.methods import METHODS

from .experts import pico


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> dict:
        assert self.code == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["resmoe-lab", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return call


KEYS = {
    "inspect": "family moe_layers num_experts top_k hidden_size intermediate_size total_bytes expert_bytes",
    "barycenter": "objective lower_bound certified_gap solver iterations seconds peak_rss_bytes",
    "plan": "layers seconds peak_rss_bytes disk_bytes output_bytes",
    "compress": "layers approximation_error relative_error bytes original_bytes seconds peak_rss_bytes manifest",
}


def test_a_word_for_help_lists_every_method_and_center(run, pico_folder: Path, tmp_path: Path) -> None:
    for option, registry in (("--method", METHODS), ("--center", CENTERS)):
        assert f"`{option} help` lists all" in " ".join(run("plan", "--help").out.replace("│", "").split())
        refused = run("plan", pico_folder, option, "help")
        assert refused.code == 2
        assert f"choose from {', '.join(registry.names())}" in refused.err
    refused = run("sweep", pico_folder, "--methods", "help", "--out", tmp_path / "out")
    assert f"choose from {', '.join(METHODS.names())}" in refused.err


def test_inspect(run, pico_folder: Path) -> None:
    facts = run("inspect", pico_folder, "--json").json
    assert set(KEYS["inspect"].split()) <= set(facts)
    stored = load_file(pico_folder / "model.safetensors")
    assert facts["total_bytes"] == sum(t.numel() * t.element_size() for t in stored.values())
    experts = [t for name, t in stored.items() if ".experts." in name]
    assert facts["expert_bytes"] == sum(t.numel() * t.element_size() for t in experts)
    assert (facts["num_experts"], facts["top_k"], facts["moe_layers"]) == (4, 2, [0, 1])
    human = run("inspect", pico_folder)
    assert "mixtral" in human.out
    assert human.err == ""


def test_barycenter(run, pico_folder: Path) -> None:
    facts = run("barycenter", pico_folder, "--layer", 1, "--json").json
    assert set(KEYS["barycenter"].split()) <= set(facts)
    assert 0 < facts["lower_bound"] <= facts["objective"]
    gap = (facts["objective"] - facts["lower_bound"]) / facts["lower_bound"]
    assert facts["certified_gap"] == pytest.approx(gap, rel=1e-6)
    paper = run("barycenter", pico_folder, "--layer", 1, "--solver", "alternating", "--json").json
    assert paper["solver"] == "alternating"
    assert facts["objective"] <= paper["objective"] * (1 + 1e-9)
    average = run("barycenter", pico_folder, "--layer", 1, "--center", "average", "--json").json
    assert average["objective"] >= facts["objective"]


def test_compress_then_inspect_then_again(run, pico_folder: Path, tmp_path: Path) -> None:
    arguments = ("compress", pico_folder, "--out", tmp_path / "out", "--keep", 0.5, "--layers", "top:1", "--json")
    facts = run(*arguments).json
    assert set(KEYS["compress"].split()) <= set(facts)
    assert facts["layers"] == [1]
    assert facts["bytes"] < facts["original_bytes"]
    assert json.loads(Path(facts["manifest"]).read_text())["finished"]
    found = run("inspect", tmp_path / "out", "--json").json
    assert found["packed"]
    assert found["moe_layers"] == [0, 1]
    assert found["expert_bytes"] == facts["bytes"] + 3 * 4 * 12 * 8 * 4  # a packed layer, and one left in 32 bits
    assert run(*arguments).json == facts


def test_plan_tells_and_writes_nothing(run, pico_folder: Path, tmp_path: Path) -> None:
    arguments = ("plan", pico_folder, "--layers", "1", "--out", tmp_path / "out", "--export", "dense")
    facts = run(*arguments, "--json").json
    assert set(KEYS["plan"].split()) <= set(facts)
    assert [layer["layer"] for layer in facts["layers"]] == [1]
    assert facts["output_bytes"] == run("inspect", pico_folder, "--json").json["total_bytes"]
    assert not (tmp_path / "out").exists()
    assert "seconds" in run(*arguments).out
    assert run(*arguments, "--scheduler", "yarn").code == 2
    assert run(*arguments, "--center", "average", "--mode", "direct").code == 2


def test_convert_refuses_what_needs_no_conversion(run, pico_folder: Path, tmp_path: Path) -> None:
    refused = run("convert", pico_folder, "--out", tmp_path / "out")
    assert refused.code == 1
    assert "expected 'deepseek'" in refused.err


def test_zoo_list(run) -> None:
    models = run("zoo", "list", "--json").json["models"]
    assert {model["name"]: model["built"] for model in models}["mixtral-tiny"]


def test_evaluate_and_sweep_and_report(run, pico_folder: Path, tmp_path: Path) -> None:
    scored = run(
        "evaluate", "mixtral-tiny", "--tasks", "storyworld_action,storyworld_pronoun", "--limit", 8, "--json"
    ).json
    assert set(scored["tasks"]) == {"storyworld_action", "storyworld_pronoun"}
    assert set(scored["tasks"]["storyworld_action"]) == {"metric", "value", "stderr", "n"}
    options = ("--methods", "up", "--keep", "0.25", "--tasks", "storyworld_action", "--limit", 4, "--layers", "3")
    rows = run("sweep", "mixtral-tiny", "--out", tmp_path / "sweep", *options, "--json").json["rows"]
    assert {row["method"] for row in rows} == {"original", "center-only", "up"}
    arguments = ("report", tmp_path / "sweep", "--out", tmp_path / "report.html", "--bench", pico_folder)
    facts = run(*arguments, "--json").json
    assert facts["path"] == str(tmp_path / "report.html")
    assert list(Sweep.load(tmp_path / "sweep").speed["way"]) == ["original"]
    assert "time to load" in (tmp_path / "report.html").read_text("utf-8")
    assert facts["bytes"] == (tmp_path / "report.html").stat().st_size


def test_what_there_is_to_warn_of_is_one_line(run, tmp_path: Path) -> None:
    options = ("--methods", "up", "--keep", 0.25, "--layers", 3, "--limit", 2, "--tasks", "storyworld_perplexity")
    arguments = ("mixtral-tiny", "--out", tmp_path / "sweep", *options, "--calibrate", "storyworld_perplexity")
    result = run("sweep", *arguments, "--tokens", 600, "--json")
    assert result.json["rows"]
    said = [line for line in result.err.replace("\r", "\n").splitlines() if "both calibrates and is scored" in line]
    assert len(said) == 1
    assert said[0].startswith("resmoe-lab: task 'storyworld_perplexity' both")
    assert "warnings.warn" not in result.err


def _truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])


def _corrupt(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:8] + b"garbage!" + path.read_bytes()[16:])


def _poison(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.block_sparse_moe.experts.0.w1.weight"][0, 0] = float("inf")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))


def _dense(folder: Path) -> None:
    tensors = {n: t for n, t in load_file(folder / "model.safetensors").items() if "block_sparse_moe" not in n}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _unknown(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))


DAMAGES = [_truncate, _corrupt, _poison, _pickle, _dense, _unknown]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("verb", ["barycenter", "compress", "sweep"])
def test_a_bad_checkpoint_is_one_line_exit_1_and_nothing_written(run, verb: str, damage, tmp_path: Path) -> None:
    folder = pico.save(pico.mixtral(), tmp_path / "pico")
    damage(folder)
    out = tmp_path / "out"
    sweep = ("--out", out, "--limit", 2, "--methods", "up", "--keep", 0.5)
    options = {"barycenter": ("--layer", 0), "compress": ("--out", out), "sweep": sweep}[verb]
    result = run(verb, folder, *options, "--json")
    _one_line(result, 1)
    assert not list(tmp_path.glob("out/*.safetensors"))
    assert not list(tmp_path.glob("out/*.part"))


def _one_line(result: Result, code: int) -> None:
    assert result.code == code
    assert result.out == ""
    said = [line for line in result.err.replace("\r", "\n").splitlines() if line.startswith("resmoe-lab: ")]
    assert len(said) == 1
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("inspect", "no/such/place"), 1),
        (("inspect",), 2),
        (("nonsense",), 2),
        (("barycenter", "PICO", "--layer", "9"), 2),
        (("barycenter", "PICO", "--layer", "x"), 2),
        (("barycenter", "PICO", "--layer", "0", "--center", "wassertein"), 2),
        (("barycenter", "PICO", "--layer", "0", "--center", "average", "--solver", "pot"), 2),
        (("compress", "PICO", "--keep", "0", "--out", "OUT"), 2),
        (("compress", "PICO", "--keep", "1.5", "--out", "OUT"), 2),
        (("compress", "PICO", "--keep", "nan", "--out", "OUT"), 2),
        (("compress", "PICO", "--layers", "5", "--out", "OUT"), 2),
        (("compress", "PICO", "--method", "resmo-up", "--out", "OUT"), 2),
        (("compress", "PICO", "--out", "FULL"), 1),
        (("sweep", "PICO", "--keep", "a", "--out", "OUT"), 2),
        (("sweep", "PICO", "--methods", "zip", "--out", "OUT"), 2),
        (("evaluate", "mixtral-tiny", "--tasks", "nonsense"), 2),
        (("evaluate", "mixtral-tiny", "--protocol", "mine"), 2),
        (("evaluate", "mixtral-tiny", "--limit", "0"), 2),
        (("report", "FULL", "--out", "OUT.html"), 1),
        (("zoo", "build", "no-such-model"), 2),
    ],
)
def test_wrong_usage_is_one_line(run, arguments: tuple[str, ...], code: int, pico_folder: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "precious").write_text("mine")
    names = {"PICO": pico_folder, "OUT": tmp_path / "out", "FULL": full, "OUT.html": tmp_path / "out.html"}
    _one_line(run(*(names.get(word, word) for word in arguments)), code)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.html").exists()
    assert [path.name for path in full.iterdir()] == ["precious"]


def test_an_interrupt_exits_130_and_the_next_run_goes_on(tmp_path: Path) -> None:
    # Where the tests run in the background of a shell, every child ignores interrupts unless it is told.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from resmoe_lab.cli import main; main()"
    command = [sys.executable, "-c", code, "sweep", "mixtral-tiny", "--out", str(tmp_path / "out")]
    # Long enough after the first score that the interrupt comes in the middle, on a fast machine too.
    command += ["--methods", "up", "--keep", "0.25", "--layers", "3", "--tasks", "storyworld_perplexity"]
    command += ["--limit", "100", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/scores-*.json")):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline, "no score was finished in two minutes"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert "run the same command again" in err
    again = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert {row["method"] for row in json.loads(again.stdout)["rows"]} == {"original", "center-only", "up"}


def test_the_app_is_served_to_this_machine_only(run, pico_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(cli.serve, "check_port", lambda host, port: None)
    monkeypatch.setattr(cli.serve, "run_server", lambda command, env: called.append(command) or 0)
    assert run("app", pico_folder, "--no-browser").code == 0
    assert "--Voila.ip=127.0.0.1" in called[0]
    assert run("app", pico_folder, "--host", "0.0.0.0").code == 0
    assert "--Voila.ip=0.0.0.0" in called[1], "elsewhere only if told"
    missing = run("app", "/no/such/checkpoint")
    assert (missing.code, len(called)) == (1, 2)
    assert len(missing.err.strip().splitlines()) == 1


def test_a_report_of_a_stopped_sweep_says_how_to_go_on(run, tmp_path: Path) -> None:
    (tmp_path / "scores-up-0.25.json").write_text("[]")
    result = run("report", tmp_path, "--out", tmp_path / "report.html")
    assert result.code == 1
    assert "1 scores of one that was stopped" in result.err
    assert not (tmp_path / "report.html").exists()
