import pytest

from resmoe_lab._core.errors import UsageError
from resmoe_lab.compress import select_layers

LAYERS = [1, 3, 5, 7, 9]


@pytest.mark.parametrize(
    ("spec", "layers"),
    [
        ("all", LAYERS),
        ("top:2", [7, 9]),
        ("3-7", [3, 5, 7]),
        ("9,1", [1, 9]),
        ("1, 3 - 5,5", [1, 3, 5]),
        (" all ", LAYERS),
    ],
)
def test_specifications(spec: str, layers: list[int]) -> None:
    assert select_layers(spec, LAYERS) == layers


@pytest.mark.parametrize(
    "spec", ["", "top:0", "top:6", "2", "1-2", "7-3", "a", "1,,3", "0-999999999999", "-1", "top:x"]
)
def test_what_is_not_there_or_not_understood(spec: str) -> None:
    with pytest.raises(UsageError, match="layers ") as caught:
        select_layers(spec, LAYERS)
    assert "\n" not in str(caught.value)
