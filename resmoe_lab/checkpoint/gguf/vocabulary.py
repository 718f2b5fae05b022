"""A tokenizer as the metadata of a GGUF file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..._core.errors import UsageError
from .header import gguf_package

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
#: How text is split before byte pairs are merged: the pattern in a tokenizer.json -> what llama.cpp calls it.
_SPLITS = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": (
        "qwen2"
    ),
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)"
    r"|\s+": "llama-bpe",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+": "gpt-4o",
}
_SPECIAL = {
    "bos": "bos",
    "eos": "eos",
    "unk": "unknown",
    "pad": "padding",
    "sep": "seperator",
    "cls": "cls",
    "mask": "mask",
}
_ADVICE = "export dense, and convert that with llama.cpp's convert_hf_to_gguf.py"


def copied_vocabulary(file: Path) -> dict[str, Any]:
    """Return what the metadata of another GGUF file say of its tokenizer."""
    fields = gguf_package(str(file)).GGUFReader(str(file)).fields
    return {name: field.contents() for name, field in fields.items() if name.startswith("tokenizer.")}


def vocabulary(tokenizer: PreTrainedTokenizerBase, size: int) -> dict[str, Any]:
    """Return the metadata of a tokenizer, with which llama.cpp gives the same ids.

    Parameters
    ----------
    tokenizer
        With a backend of the tokenizers library.
    size
        How many tokens the model has embeddings for.

    Raises
    ------
    UsageError
        If it is of a kind that llama.cpp does not have, or has under a name that is not known here.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UsageError(
            f"{type(tokenizer).__name__} has no tokenizer.json, which GGUF's vocabulary is made of: {_ADVICE}"
        )
    content = json.loads(backend.to_str())
    model = content["model"]
    if model["type"] != "BPE":
        raise UsageError(f"a tokenizer of type {model['type']} cannot be written as GGUF, expected BPE: {_ADVICE}")
    pieces = bool(model.get("byte_fallback"))  # as sentencepiece has them
    values: dict[str, Any] = {"model": "llama"} if pieces else {"model": "gpt2", "pre": _split(content)}
    values |= _tokens(content, size, bytes_alone=pieces)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    if pieces:
        values["scores"] = _scores(values["tokens"], merges)
        values["add_space_prefix"] = _adds_space(content)
    else:
        values["merges"] = merges
    for name, key in _SPECIAL.items():
        if (number := getattr(tokenizer, f"{name}_token_id", None)) is not None:
            values[f"{key}_token_id"] = number
    added = tokenizer("a")["input_ids"]
    values["add_bos_token"] = bool(added) and added[0] == tokenizer.bos_token_id
    values["add_eos_token"] = bool(added) and added[-1] == tokenizer.eos_token_id
    metadata = {f"tokenizer.ggml.{name}": value for name, value in values.items()}
    if isinstance(template := tokenizer.chat_template, str):
        metadata["tokenizer.chat_template"] = template
    return metadata


def _tokens(content: dict[str, Any], size: int, *, bytes_alone: bool) -> dict[str, Any]:
    """Every token and its kind; places that no token has are filled."""
    tokens, kinds = [f"[PAD{number}]" for number in range(size)], [_UNUSED] * size
    entries = [(number, token, _NORMAL) for token, number in content["model"]["vocab"].items()]
    added = content.get("added_tokens", [])
    entries += [(one["id"], one["content"], _CONTROL if one["special"] else _USER_DEFINED) for one in added]
    for number, token, kind in entries:
        if number >= size:
            raise UsageError(f"token {token!r} has number {number}, and the model has {size} tokens: {_ADVICE}")
        if bytes_alone and kind == _NORMAL and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            kind = _BYTE
        if bytes_alone and token == content["model"].get("unk_token"):
            kind = _UNKNOWN
        tokens[number], kinds[number] = token, kind
    return {"tokens": tokens, "token_type": kinds}


def _scores(tokens: list[str], merges: list[str]) -> list[float]:
    """What sentencepiece orders merges by: those of a BPE come in the order of their numbers."""
    ranks = {"".join(merge.split(" ")): -float(rank) for rank, merge in reversed(list(enumerate(merges)))}
    return [ranks.get(token, 0.0) for token in tokens]


def _adds_space(content: dict[str, Any]) -> bool:
    """Whether a space is put before a text, by the normalizer or the pre-tokenizer."""
    text = json.dumps([content.get("normalizer"), content.get("pre_tokenizer")])
    return '"Prepend"' in text or '"prepend_scheme": "first"' in text or '"prepend_scheme": "always"' in text


def _split(content: dict[str, Any]) -> str:
    """What llama.cpp calls the way in which a text is split."""
    steps = content.get("pre_tokenizer") or {}
    pieces = steps.get("pretokenizers", [steps])
    kinds = [piece.get("type") for piece in pieces]
    if kinds == ["ByteLevel"] and pieces[0].get("use_regex", True) and not pieces[0].get("add_prefix_space"):
        return "gpt-2"
    if kinds == ["Split", "ByteLevel"] and not pieces[1].get("use_regex", True):
        pattern = pieces[0].get("pattern", {}).get("Regex")
        if pattern in _SPLITS and pieces[0].get("behavior") == "Isolated" and not pieces[0].get("invert"):
            return _SPLITS[pattern]
    raise UsageError(
        f"the tokenizer splits text by {', '.join(map(str, kinds))} in a way whose name in llama.cpp is not known here "
        f"({', '.join(['gpt-2', *_SPLITS.values()])} are): {_ADVICE}"
    )
