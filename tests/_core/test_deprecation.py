"""Old names go on working, and say what the new ones are."""

import pytest

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
