"""What comes along with a checkpoint's tensors, and what is left behind and named."""

import json
from pathlib import Path

from resmoe_lab.checkpoint import open_checkpoint
from resmoe_lab.checkpoint.companions import companion_files, copy_companion_files, left_out

_TOKENIZER = [
    *("tokenizer.json", "special_tokens_map.json", "added_tokens.json", "tiktoken.model", "tokenizer.model"),
    *("spiece.model", "sentencepiece.bpe.model", "tekken.json", "tokenizer.model.v3", "vocab.json", "merges.txt"),
    *("chat_template.jinja", "chat_template.json", "chat_template", "additional_chat_templates/tool.jinja"),
    *("generation_config.json", "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"),
    *("LICENSE", "LICENSE.txt", "NOTICE"),
]
_CODE = ["configuration_deepseek.py", "tokenization_moonshot.py"]
_LEFT = ["README.md", "eval.log"]
_WEIGHTS = ["pytorch_model.bin", "model.safetensors.index.json", "quantize_config.json", "adapter_config.json"]


def _filled(folder: Path, *, auto_map: bool) -> Path:
    for name in [*_TOKENIZER, *_CODE, *_LEFT, *_WEIGHTS[:1], *_WEIGHTS[3:], ".gitattributes"]:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    entry = {"auto_map": {"AutoTokenizer": ["tokenization_moonshot.TikTokenTokenizer", None]}} if auto_map else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(entry))
    return folder


def test_every_kind_of_tokenizer_and_licence_comes_along(pico_folder: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(_filled(pico_folder, auto_map=True))
    out = tmp_path / "copy"
    copy_companion_files(checkpoint, out)
    copied = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert copied >= {*_TOKENIZER, *_CODE, "config.json", "tokenizer_config.json"}
    assert copied.isdisjoint([*_LEFT, *_WEIGHTS, ".gitattributes"])
    assert left_out(checkpoint) == _LEFT


def test_code_that_nothing_names_stays_and_is_named(pico_folder: Path) -> None:
    checkpoint = open_checkpoint(_filled(pico_folder, auto_map=False))
    assert not [file for file in companion_files(checkpoint) if file.suffix == ".py"]
    assert left_out(checkpoint) == sorted([*_LEFT, *_CODE])
