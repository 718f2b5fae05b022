"""Tokenizers as GGUF's metadata, read back by transformers: the same ids."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

import resmoe_lab as rl
from resmoe_lab._core.errors import CheckpointError, UsageError
from resmoe_lab.checkpoint.gguf.tokenizer import gguf_tokenizer
from resmoe_lab.checkpoint.gguf.vocabulary import _SPLITS, vocabulary
from resmoe_lab.checkpoint.gguf.writer import GgufPiece, encoded, write_gguf

CORPUS = ["the kite is red and the sky is blue", "it's 1234 o'clock, isn't it?", "über naïve Ünïcödé 中文"] * 8
TEXTS = [*CORPUS[:3], "  two  spaces\n\n and lines\t", "<s>special</s> ones", "1 12 123 12345", "", "unseen ☂ glyphs"]


def read_back(metadata: dict[str, Any], path: Path) -> Any:
    piece = GgufPiece("x", "F32", (1, 32), lambda: encoded(torch.zeros(1, 32), "F32"))
    return gguf_tokenizer(write_gguf(path, "llama", [piece], metadata=metadata, kind="F16"))


def byte_level(split: str | None) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    steps = [] if split is None else [pre_tokenizers.Split(Regex(split), "isolated")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, last]) if steps else last
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", chat_template="{{ messages }}"
    )


@pytest.mark.parametrize("split", [None, *_SPLITS], ids=["gpt-2", *_SPLITS.values()])
def test_byte_level_tokenizers_give_the_same_ids(split: str | None, tmp_path: Path) -> None:
    tokenizer = byte_level(split)
    metadata = vocabulary(tokenizer, len(tokenizer) + 3)
    assert metadata["tokenizer.ggml.pre"] == _SPLITS.get(split or "", "gpt-2")
    assert metadata["tokenizer.ggml.tokens"][-3:] == [f"[PAD{len(tokenizer) + k}]" for k in range(3)]
    types = metadata["tokenizer.ggml.token_type"]
    kinds = gguf.TokenType
    assert (types[0], types[5], types[len(tokenizer) - 1], types[-1]) == (
        *(kinds.CONTROL, kinds.NORMAL),
        *(kinds.USER_DEFINED, kinds.UNUSED),
    )
    again = read_back(metadata, tmp_path / "model.gguf")
    for text in [*TEXTS, "a <think> b"]:
        assert again(text)["input_ids"] == tokenizer(text)["input_ids"], text
    assert (again.bos_token, again.eos_token, again.chat_template) == ("<s>", "</s>", "{{ messages }}")


def test_the_names_of_splits_are_those_that_transformers_reads() -> None:
    for pattern, name in _SPLITS.items():
        assert GGUF_PRE_TOKENIZER_SPLITS[name].replace("[\\p{L}\\p{M}]", "\\p{L}") == pattern


def test_sentencepiece_tokenizers_give_the_same_ids(tmp_path: Path) -> None:
    """As Llama's and Mixtral's: bytes stand in for what is not in the vocabulary, and a space comes first."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special)
    tokenizer.train_from_iterator(CORPUS, trainer)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = content["added_tokens"][:3]
    tokenizer = Tokenizer.from_str(json.dumps(content))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    metadata = vocabulary(fast, len(fast))
    types = metadata["tokenizer.ggml.token_type"]
    assert types[:4] == [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, gguf.TokenType.BYTE]
    assert metadata["tokenizer.ggml.add_space_prefix"] is True
    again = read_back(metadata, tmp_path / "model.gguf")
    # transformers takes one space fewer where a text begins with some; llama.cpp does not.
    for text in [*TEXTS[:3], TEXTS[3].strip(), *TEXTS[5:]]:
        assert again(text, add_special_tokens=False)["input_ids"] == fast(text)["input_ids"], text


def test_what_llama_cpp_has_no_name_for_is_refused() -> None:
    with pytest.raises(UsageError, match=r"splits text by Split, ByteLevel in a way whose name .* is not known here"):
        vocabulary(byte_level(r"\p{L}+|\s+"), 400)
    pieces = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.Unigram([("<unk>", 0.0)], unk_id=0)))
    with pytest.raises(UsageError, match="a tokenizer of type Unigram cannot be written as GGUF, expected BPE"):
        vocabulary(pieces, 1)
    with pytest.raises(UsageError, match=r"has number \d+, and the model has 300 tokens"):
        vocabulary(rl.load_tokenizer("mixtral-tiny"), 300)


def test_a_file_without_a_tokenizer_is_told(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(str(tmp_path / "model.gguf"), "llama")
    writer.add_tensor("x", np.zeros((1, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(CheckpointError, match="holds no tokenizer that transformers can build") as caught:
        gguf_tokenizer(tmp_path / "model.gguf")
    assert "\n" not in str(caught.value)
