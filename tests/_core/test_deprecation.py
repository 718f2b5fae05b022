"""Old names go on working, and say what the new ones are."""

import importlib
import subprocess
import sys

import pytest

import resmoe_lab
from resmoe_lab._core.deprecation import deprecated_names, renamed_arguments


def test_an_old_name_of_a_module_is_the_new_one() -> None:
    get = deprecated_names("resmoe_lab._core.errors", {"Failure": "ResmoeError", "Sweep": "experiments.sweep:Sweep"})
    from resmoe_lab._core.errors import ResmoeError
    from resmoe_lab.experiments.sweep import Sweep

    with pytest.warns(
        DeprecationWarning, match=r"errors\.Failure is deprecated.*use resmoe_lab\._core\.errors\.ResmoeError"
    ):
        assert get("Failure") is ResmoeError
    with pytest.warns(DeprecationWarning, match=r"use resmoe_lab\.experiments\.sweep\.Sweep"):
        assert get("Sweep") is Sweep
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        get("nothing")


def test_an_old_argument_is_the_new_one_but_not_both() -> None:
    @renamed_arguments(old="new")
    def twice(*, new: int) -> int:
        return 2 * new

    with pytest.warns(DeprecationWarning, match=r"argument 'old' of twice\(\) is deprecated.*use 'new'"):
        assert twice(old=2) == 4
    assert twice(new=3) == 6
    with pytest.raises(TypeError, match="both 'old' and 'new'"):
        twice(old=1, new=2)


def test_modules_that_have_moved_are_imported_under_their_old_names() -> None:
    code = (
        "import warnings\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    from resmoe_lab.evaluate.outcome import Score\n"
        "    import resmoe_lab.evaluate.pareto\n"
        "from resmoe_lab.scoring import outcome\n"
        "assert Score is outcome.Score\n"
        "print(*[str(warning.message) for warning in caught], sep='\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "resmoe_lab.evaluate.outcome is deprecated" in done.stdout
    assert "use resmoe_lab.analysis.pareto" in done.stdout
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("resmoe_lab.evaluate.nonsense")


@pytest.mark.parametrize("name", ["weigh", "load_model"])
def test_old_names_of_the_package_are_there(name: str) -> None:
    assert callable(getattr(resmoe_lab, name))
    assert name not in resmoe_lab.__all__
