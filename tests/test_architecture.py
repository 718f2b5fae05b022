"""The house keeps its layers, its style, and its outside in step with itself."""

import ast
import doctest
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import resmoe_lab

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "resmoe_lab"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))


def _run(*command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_layers() -> None:
    program = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_lint() -> None:
    _run("ruff", "check", ".")


def test_format() -> None:
    _run("ruff", "format", "--check", ".")


def test_types() -> None:
    _run("mypy")


@pytest.mark.parametrize("folder", ["methods", "centers", "experts"])
def test_files_of_a_registry_never_import_each_other(folder: str) -> None:
    public = {path.stem for path in (PACKAGE / folder).glob("*.py") if not path.stem.startswith("_")}
    for path in (PACKAGE / folder).glob("[!_]*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                assert node.module not in public, f"{path} imports {node.module}"


def test_the_package_never_prints() -> None:
    for path in MODULES:
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        printing = [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]
        assert not printing or path.parent.name == "cli", f"{path}: {printing}"


def test_nothing_is_unpickled_and_no_remote_code_runs() -> None:
    for path in MODULES:
        text = path.read_text()
        assert "import pickle" not in text, path
        assert text.count("torch.load(") == len(re.findall(r"torch\.load\([^()]*weights_only=True\)", text)), path
        assert "trust_remote_code=True" not in text, path
        assert '"trust_remote_code": True' not in text, path
        assert "allow_pickle=True" not in text, path


def test_public_names_have_docstrings_and_few_positional_arguments() -> None:
    for name in resmoe_lab.__all__:
        entry = getattr(resmoe_lab, name)
        assert inspect.getdoc(entry), name
        if inspect.isfunction(entry):
            kinds = [parameter.kind for parameter in inspect.signature(entry).parameters.values()]
            assert sum(kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for kind in kinds) <= 3, name


@pytest.mark.parametrize("name", sorted({*resmoe_lab.__all__} - {"ResmoeError"}))
def test_every_public_name_has_an_example_that_runs(name: str) -> None:
    entry = getattr(resmoe_lab, name)
    description = inspect.getdoc(entry) or ""
    assert callable(entry)
    assert "Examples\n--------" in description
    examples = doctest.DocTestParser().get_examples(description)
    assert examples
    assert not any(example.options.get(doctest.SKIP) for example in examples)
    assert any(name in example.source for example in examples)


def test_importing_the_package_is_cheap() -> None:
    heavy = ["torch", "transformers", "altair", "matplotlib", "pandas"]
    code = f"import sys, resmoe_lab, resmoe_lab.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_conda_gives_the_environment_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == project["name"]
    plain = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    [pip] = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert f"python{project['requires-python']}" in plain
    assert "pip" in plain
    assert "-e .[lab]" in pip
    assert "lab" in project["optional-dependencies"]


def test_every_dependency_is_pinned_within_its_range() -> None:
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    pins = {pin.name.lower().replace("_", "-"): pin for pin in map(Requirement, lines)}
    assert str(pins["torch"].specifier) == "==2.13.0"
    wanted = [*project["dependencies"], *(e for extra in project["optional-dependencies"].values() for e in extra)]
    for requirement in map(Requirement, wanted):
        if requirement.name != project["name"]:
            [pin] = pins[requirement.name.lower().replace("_", "-")].specifier
            assert requirement.specifier.contains(pin.version), requirement


def test_notebooks_are_short_and_stored_without_outputs() -> None:
    import nbformat

    notebooks = [path for path in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts]
    assert notebooks
    for path in notebooks:
        cells = nbformat.read(path, as_version=4).cells
        if path.parent.name == "notebooks":
            assert len(cells) <= 12, path
        for cell in cells:
            if cell.cell_type == "code":
                assert cell.outputs == [], path
                assert cell.execution_count is None, path
