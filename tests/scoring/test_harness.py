"""The harness as we call it, against its own command on the same files: equal to the last digit."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from resmoe_lab import zoo
from resmoe_lab._core.errors import Cancelled, DataError, UsageError
from resmoe_lab._core.progress import Tick
from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.runtime import load_pair
from resmoe_lab.scoring.harness import harness_config, harness_outcomes
from resmoe_lab.scoring.outcome import Outcome

from ..conftest import data_or_skip
from ..experiments.test_comparison import BLANKS, CHOICES, TEXTS
from ..experiments.test_comparison import pico_model as pico_model
from ..fuzzing import damaged_json, reads_or_refuses

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
#: Form of an embedded task -> rows.
ROWS = {"action": CHOICES, "pronoun": BLANKS, "last_word": TEXTS, "perplexity": TEXTS}


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded tasks' configurations under names of our own, with five rows each."""
    folder = tmp_path_factory.mktemp("tasks")
    for form, rows in ROWS.items():
        config = yaml.safe_load((zoo.data_folder() / f"tasks/storyworld/storyworld_{form}.yaml").read_text())
        data = folder / f"mine_{form}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        config |= {"task": f"mine_{form}", "dataset_kwargs": {"data_files": {"test": str(data)}}}
        (folder / f"mine_{form}.yaml").write_text(yaml.safe_dump(config), "utf-8")
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums that are shared out over threads differ in their last digits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _command(model: Path, configs: Path, tasks: list[str], out: Path, **arguments: object) -> dict:
    """What lm-eval's own command writes."""
    given = {"pretrained": model, "dtype": "float32", "max_length": 64, **arguments}
    command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--tasks", ",".join(tasks), "--device", "cpu"]
    command += ["--model_args", ",".join(f"{name}={value}" for name, value in given.items()), "--batch_size", "16"]
    done = subprocess.run(
        [*command, "--include_path", str(configs), "--output_path", str(out)],
        capture_output=True, text=True, check=False, env=os.environ | dict.fromkeys(_THREADS, "1"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    [path] = out.rglob("results_*.json")
    return json.loads(path.read_text())["results"]


def _same(outcome: Outcome, theirs: dict) -> None:
    assert outcome.scores
    for score in outcome.scores:
        assert score.value == theirs[f"{score.metric},none"], score.metric
    stderr = theirs[f"{outcome.main.metric}_stderr,none"]
    if isinstance(stderr, float):
        assert outcome.main.stderr == pytest.approx(stderr, rel=1e-12)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("forms", "arguments"), [(["action", "pronoun", "last_word"], {}), (["perplexity"], {"add_bos_token": False})]
)
def test_scores_are_those_of_the_harness_s_own_command(
    forms: list[str], arguments: dict, pico_model: Path, configs: Path, tmp_path: Path
) -> None:
    theirs = _command(pico_model, configs, [f"mine_{form}" for form in forms], tmp_path, **arguments)
    model, tokenizer = load_pair(open_checkpoint(pico_model))
    for form in forms:
        [outcome] = harness_outcomes(model, tokenizer, str(configs / f"mine_{form}.yaml"))
        _same(outcome, theirs[f"mine_{form}"])
        assert len(outcome.rows) == outcome.main.n == 5
        [own] = harness_outcomes(
            model, tokenizer, ("last_word:" if form == "last_word" else "") + str(configs / f"mine_{form}.jsonl")
        )
        assert own.main.value == outcome.main.value


def test_the_papers_tasks_are_the_harness_s_own_definitions(tmp_path: Path) -> None:
    for task, name in (("piqa", "piqa"), ("winogrande", "winogrande"), ("lambada", "lambada_openai")):
        data_or_skip("piqa/valid.jsonl")
        config = harness_config(task, tmp_path)
        assert isinstance(config, dict)
        assert config["dataset_path"] == "json"
        assert config["task"] in (task, name)
        assert Path(config["dataset_kwargs"]["data_files"]["test"]).stat().st_size > 100_000


def test_glue_reads_its_published_files(tmp_path: Path) -> None:
    data_or_skip("glue/SST-2/dev.tsv")
    config = harness_config("sst2", tmp_path)
    assert isinstance(config, dict)
    assert config["doc_to_choice"] == ["negative", "positive"]
    assert len((tmp_path / "sst2.jsonl").read_text().splitlines()) == 872


def test_a_name_that_only_the_harness_knows_is_passed_on(tmp_path: Path) -> None:
    assert harness_config("arc_easy", tmp_path) == "arc_easy"
    with pytest.raises(UsageError, match=r"neither ours nor the harness's: did you mean .*hellaswag"):
        harness_config("helaswag", tmp_path)


def test_a_configuration_s_files_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("dataset_path: json\ndataset_kwargs: {data_files: {test: rows.jsonl}}\n")
    with pytest.raises(DataError, match=r"names rows\.jsonl, which is not beside it"):
        harness_config(str(path), tmp_path)
    path.write_text("- a list\n")
    with pytest.raises(DataError, match="is no configuration of the harness"):
        harness_config(str(path), tmp_path)
    with pytest.raises(DataError, match=r"none\.yaml not found"):
        harness_config(str(tmp_path / "none.yaml"), tmp_path)


def test_a_stop_between_batches_stops_the_harness(pico_model: Path, configs: Path) -> None:
    model, tokenizer = load_pair(open_checkpoint(pico_model))

    def stop(tick: Tick) -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        harness_outcomes(model, tokenizer, str(configs / "mine_action.yaml"), progress=stop)
    assert not model._forward_hooks


@settings(derandomize=True, max_examples=60)
@given(data=st.data())
def test_other_values_in_a_configuration_are_told(
    data: st.DataObject, configs: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "mine.yaml"
    said = yaml.safe_load((configs / "mine_action.yaml").read_text())
    harness_config(str(configs / "mine_action.yaml"), path.parent)  # imports take their room only once
    path.write_text(yaml.safe_dump(data.draw(damaged_json(said))), "utf-8", "surrogatepass")
    reads_or_refuses(lambda: harness_config(str(path), path.parent), size=path.stat().st_size)
