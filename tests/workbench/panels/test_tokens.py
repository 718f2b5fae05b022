"""The tokens panel: what it shows is what the library says, whatever the text."""

from __future__ import annotations

from typing import Any

import pytest

from resmoe_lab import workbench
from resmoe_lab.checkpoint import Checkpoint
from resmoe_lab.workbench.model import running_model

from .conftest import PATIENCE, check_files

TEXT = "One morning the river was frozen."


@pytest.fixture
def panel(tiny: Checkpoint) -> Any:
    return workbench.tokens(tiny, text=TEXT, method="up", keep=0.25).wait(PATIENCE)


def test_the_picture_is_drawn_from_the_record(panel: Any) -> None:
    view, data = panel.view, panel.tokens.data
    assert "".join(data["pieces"]).endswith(TEXT)
    assert data["kl"] == view.shift.kl.tolist()
    assert data["label"] == "up at 0.25"
    for row, (token, probability) in enumerate(
        zip(view.shift.top[1, :, 0], view.shift.top_probabilities[1, :, 0], strict=True)
    ):
        assert data["top"][1][row][0] == [view.vocabulary[int(token)], pytest.approx(float(probability), abs=1e-6)]
    layer = data["layers"].index(2)
    before, after = view.shift.routing[2]
    assert data["experts"][layer] == [
        list(pair) for pair in zip(before.experts.tolist(), after.experts.tolist(), strict=True)
    ]
    assert "nats a token" in panel.message.value
    assert "change an expert" in panel.message.value
    check_files(panel)
    assert set(panel.freeze()) == {"predictions", "routing"}


def test_a_chosen_token_is_read_out_layer_by_layer(panel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(panel.tokens, "send", sent.append)
    panel.tokens._on_message(None, {"token": 3}, [])
    panel._asked.result(PATIENCE)
    (lens,) = [message["lens"]["3"] for message in sent]
    assert len(lens) == 5
    with running_model(panel.selection.checkpoint, lambda tick: None) as (_, tokenizer):
        for which, side in enumerate(lens[-1]):
            assert side[0] == tokenizer.decode([int(panel.view.shift.top[which, 3, 0])])
            assert side[1] == pytest.approx(float(panel.view.shift.top_probabilities[which, 3, 0]), abs=1e-5)
    panel.tokens._on_message(None, {"token": "<b>"}, [])
    panel.tokens._on_message(None, "nonsense", [])


@pytest.mark.parametrize("text", ["<script>alert(1)</script> & <b>", "\u202eright to left \u05d0\u05d1", "\n\t \n"])
def test_a_hostile_text_is_text(panel: Any, text: str) -> None:
    panel.text.value = text
    panel.wait(PATIENCE)
    assert "<script" not in panel.message.value
    assert "<b>alert" not in panel.message.value
    assert len(panel.tokens.data["pieces"]) >= 2


def test_an_empty_text_says_so_and_a_long_one_is_cut(panel: Any) -> None:
    shown = panel.tokens.data
    panel.text.value = ""
    with pytest.raises(Exception, match="expected at least 2"):
        panel.wait(PATIENCE)
    assert "type a few words" in panel.message.value
    assert panel.tokens.data == shown
    panel.text.value = "river " * 10_000
    panel.wait(PATIENCE)
    assert len(panel.tokens.data["pieces"]) == 256
    assert "tokens of the text are left out" in panel.message.value


def test_it_follows_the_selection(panel: Any) -> None:
    first = panel.view.shift.kl
    picture = bytes(panel.pictures["routing"].png)
    panel.selection.layer = 3
    panel.wait(PATIENCE)
    assert panel.view.shift.kl is first, "a layer only changes the picture"
    assert bytes(panel.pictures["routing"].png) != picture
    panel.selection.keep = 1.0
    panel.wait(PATIENCE)
    assert panel.view.shift.kl.max() < first.max() / 10
    line = panel.code()
    assert line.startswith("from resmoe_lab import workbench; workbench.tokens('mixtral-tiny'")
