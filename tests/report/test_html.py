from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resmoe_lab.report.html import Cell, bullets, definitions, number_ranges, table

_EVIL = "<img src=x onerror=alert(1)>"


def test_no_text_becomes_markup() -> None:
    pages = [
        table([_EVIL, "b"], {_EVIL: [[_EVIL, Cell(_EVIL, best=True)]]}),
        definitions({_EVIL: _EVIL, "nested": {_EVIL: [_EVIL]}}),
        bullets([_EVIL]),
    ]
    for page in pages:
        assert "<img" not in page
        assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_a_body_belongs_to_its_kept_fraction() -> None:
    page = table(["method", "error"], {"0.25": [["up", Cell("0.1", best=True)]], "": [["always", "1"]]})
    assert "<tbody data-keep='0.25'><tr><th scope='row'>up</th><td class='best'>0.1</td></tr></tbody>" in page
    assert "<tbody><tr><th scope='row'>always</th><td>1</td></tr></tbody>" in page


@given(st.sets(st.integers(0, 40), min_size=1))
def test_ranges_say_exactly_the_numbers(numbers: set[int]) -> None:
    said = set()
    for part in number_ranges(numbers).split(", "):
        first, _, last = part.partition("-")
        said |= set(range(int(first), int(last or first) + 1))
    assert said == numbers


def test_ranges_join_neighbours() -> None:
    assert number_ranges([7, 0, 1, 2, 4]) == "0-2, 4, 7"


def test_facts_read_well() -> None:
    page = definitions(
        {"total_bytes": 2048, "parameters": 26_500_000, "seed": 0, "limit": None, "layers": [0, 1, 2], "tied": True}
    )
    for text in ("2 KiB", "26,500,000", "<dd>0</dd>", "not set", "0-2", "yes"):
        assert text in page
