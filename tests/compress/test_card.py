"""The card of a compressed checkpoint, in the form of the hub's model cards."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.compress import CompressionConfig, compress_checkpoint

_SOURCE = "---\nlicense: apache-2.0\nlanguage:\n- en\nwidget:\n- text: hello\n---\n\n# The original\n"


@pytest.mark.parametrize(
    ("export", "opening"), [("packed", "resmoe-lab run -- lm_eval"), ("dense", "opens this folder")]
)
def test_it_is_a_model_card_with_the_licence_of_the_source(
    export: str, opening: str, pico_folder: Path, tmp_path: Path
) -> None:
    (pico_folder / "README.md").write_text(_SOURCE)
    config = CompressionConfig(method="up", keep=0.25, export=export)  # type: ignore[arg-type]
    manifest = compress_checkpoint(open_checkpoint(pico_folder), tmp_path / "out", config)
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.language == ["en"]
    assert card.data.library_name == "transformers"
    assert "widget" not in card.data.to_dict()
    for words in ("# pico, experts compressed", "`up`", "0.25", opening, f"{manifest['relative_error']:.4g}"):
        assert words in card.content


@pytest.mark.parametrize("source", ["", "no front matter", "---\n: : [\n---\n", "---\n- a list\n---\n", "\ufeff---\n"])
def test_a_source_without_a_card_that_can_be_read_has_no_licence_to_carry(
    source: str, pico_folder: Path, tmp_path: Path
) -> None:
    (pico_folder / "README.md").write_text(source)
    compress_checkpoint(open_checkpoint(pico_folder), tmp_path / "out", CompressionConfig(method="up", keep=0.25))
    assert ModelCard.load(tmp_path / "out" / "README.md").data.license is None
