import pytest

from resmoe_lab._core.errors import UsageError
from resmoe_lab.methods import METHODS


def test_every_file_of_the_folder_is_found() -> None:
    assert {"up", "svd", "resmoe-up", "resmoe-svd"} <= set(METHODS.names())
    assert list(METHODS) == METHODS.names()


def test_similar_names_are_suggested() -> None:
    with pytest.raises(UsageError, match="did you mean resmoe-up"):
        METHODS["resmo-up"]


def test_an_unlike_name_gets_the_whole_list() -> None:
    with pytest.raises(UsageError, match="choose from"):
        METHODS["zzzzzz"]


def test_a_name_cannot_be_taken_twice() -> None:
    with pytest.raises(ValueError, match="two methods are called 'up'"):
        METHODS.register("up")(METHODS["up"])
