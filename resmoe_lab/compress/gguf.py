"""The export that llama.cpp runs: one GGUF file of the restored weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .._core.errors import CheckpointError, UsageError
from ..checkpoint import Checkpoint
from ..checkpoint.codecs.gguf import decoded
from ..checkpoint.companions import tokenizer_inside
from ..checkpoint.gguf.architectures import Architecture
from ..checkpoint.gguf.conversion import gguf_settings, placed, written_architecture
from ..checkpoint.gguf.vocabulary import copied_vocabulary, vocabulary
from ..checkpoint.gguf.writer import GgufPiece, encoded, row_bytes, write_gguf
from ..checkpoint.reader import read_file, read_tensors
from ..experts import Block, ExpertStack, Family, LayerShape, config_of, family_of
from ..runtime.loading import load_tokenizer

GGUF_FILE = "model.gguf"
#: Blocks of a design matrix -> what GGUF calls the tensor of all experts.
_NAMES = {
    "w1": "ffn_gate_exps.weight",
    "w3": "ffn_up_exps.weight",
    "w2": "ffn_down_exps.weight",
    "b1": "ffn_gate_exps.bias",
    "b3": "ffn_up_exps.bias",
}
#: Layers that are not compressed keep 16 bits.
_DEFAULT = "F16"


class GgufExperts:
    """The experts of a layer as GGUF stores them, filled one by one.

    Parameters
    ----------
    layer
        The layer's number.
    shape
        Its sizes.
    blocks
        What the columns of its design matrices are.
    kind
        GGUF's name of the type that matrices are stored in.
    """

    def __init__(self, layer: int, shape: LayerShape, blocks: Sequence[Block], *, kind: str) -> None:
        self._layer, self._shape, self._blocks, self._kind = layer, shape, tuple(blocks), kind
        #: The stored bytes, by GGUF's names.
        self.tensors = {
            name: torch.empty(*sides[:-1], row_bytes(how, sides[-1]), dtype=torch.uint8)
            for name, (how, sides) in self.described().items()
        }

    def described(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return the type and the shape of each tensor, by its name."""
        return {self._name(block): (self._how(block), self._sides(block)) for block in self._blocks}

    def put(self, expert: int, matrix: torch.Tensor) -> torch.Tensor:
        """Store an expert's (p_I, D) design matrix; return what it is read as."""
        read = torch.empty_like(matrix)
        for block in self._blocks:
            columns, turned = slice(block.start, block.stop), block.name == "w2"
            part = matrix[:, columns].T if turned else matrix[:, columns]
            part = part[:, 0] if block.name.startswith("b") else part
            stored = encoded(part, self._how(block))
            self.tensors[self._name(block)][expert] = stored
            back = decoded(stored, self._how(block))
            read[:, columns] = (back.T if turned else back.view(len(read), -1)).to(read.dtype)
        return read

    def _name(self, block: Block) -> str:
        return f"blk.{self._layer}.{_NAMES[block.name]}"

    def _how(self, block: Block) -> str:
        return "F32" if block.name.startswith("b") else self._kind

    def _sides(self, block: Block) -> tuple[int, ...]:
        count, neurons, _ = self._shape.sizes
        if block.name.startswith("b"):
            return count, neurons
        sides = neurons, block.stop - block.start
        return (count, *(sides[::-1] if block.name == "w2" else sides))


def check_gguf(checkpoint: Checkpoint, kind: str) -> None:
    """Refuse what cannot be written as GGUF, before any work.

    Raises
    ------
    UsageError
        Naming the model type, the setting, the tensor, the tokenizer or the type.
    """
    family = family_of(checkpoint)
    architecture = written_architecture(checkpoint.model_type)
    config = _full_config(checkpoint)
    gguf_settings(architecture, config)
    for name in _others(checkpoint, family):
        placed(architecture, name, config)
    if len(family.layers(checkpoint)) < config["num_hidden_layers"] and not architecture.begins_dense:
        raise UsageError(
            f"{checkpoint.name} has layers without experts, and llama.cpp's {architecture.name} models have none: "
            "export dense instead"
        )
    GgufExperts(0, _one_expert(family), family.blocks(family.shape(checkpoint.config).hidden_size), kind=kind)
    _vocabulary(checkpoint, config["vocab_size"])


def gguf_bytes(family: Family, kind: str) -> int:
    """Return the bytes of a layer's experts in GGUF."""
    shape = family.layer_shape()
    blocks = family.blocks(family.shape(family.config).hidden_size)
    one = GgufExperts(0, _one_expert(family), blocks, kind=kind)
    return shape.num_experts * sum(tensor.numel() for tensor in one.tensors.values())


def write_gguf_file(checkpoint: Checkpoint, out: Path, files: Mapping[int, Path], *, kind: str) -> Path:
    """Write a checkpoint as one GGUF file; return its path.

    Parameters
    ----------
    checkpoint
        The original.
    out
        The folder.
    files
        Number of a compressed layer -> the file of its experts, as GGUF stores them.
    kind
        The type of their matrices.
    """
    family, config = family_of(checkpoint), _full_config(checkpoint)
    architecture = written_architecture(checkpoint.model_type)
    pieces = [*_other_pieces(checkpoint, family, architecture, config)]
    for layer in family.layers(checkpoint):
        pieces += _expert_pieces(checkpoint, family, layer, file=files.get(layer), kind=kind)
    metadata = {"general.name": Path(checkpoint.name).stem or checkpoint.name}
    metadata |= gguf_settings(architecture, config) | _vocabulary(checkpoint, config["vocab_size"])
    return write_gguf(out / GGUF_FILE, architecture.name, pieces, metadata=metadata, kind=kind)


def _full_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """All settings of a model, those at their defaults included, also under their other names."""
    config, architecture = config_of(checkpoint.config), written_architecture(checkpoint.model_type)
    names = {*architecture.all_settings, *architecture.fixed, *architecture.widths, architecture.width}
    return config.to_dict() | {name: getattr(config, name) for name in names if hasattr(config, name)}


def _one_expert(family: Family) -> LayerShape:
    shape = family.layer_shape()
    return LayerShape(1, shape.intermediate_size, shape.widths)


def _others(checkpoint: Checkpoint, family: Family) -> list[str]:
    """The tensors that belong to no stack of experts, of which tied output embeddings are left out."""
    count = family.shape(checkpoint.config).num_experts
    experts = {key for layer in family.layers(checkpoint) for key in family.expert_keys(layer, count)}
    tied = {"lm_head.weight"} if checkpoint.config.get("tie_word_embeddings") else set[str]()
    return [name for name in checkpoint.tensors if name not in experts | tied]


def _other_pieces(
    checkpoint: Checkpoint, family: Family, architecture: Architecture, config: Mapping[str, Any]
) -> Iterator[GgufPiece]:
    for name in _others(checkpoint, family):
        place, shape = placed(architecture, name, config), checkpoint.tensors[name].shape
        shape = shape[1:] if "ffn_gate_inp_shexp" in place.name and len(shape) > 1 else shape
        kind = "F32" if place.small or len(shape) < 2 else _DEFAULT

        def read(name: str = name, place: Any = place, kind: str = kind) -> torch.Tensor:
            tensor = read_tensors(checkpoint, [name], dtype=torch.float32)[name]
            return encoded(place.ordered(tensor), kind)

        yield GgufPiece(place.name, kind, shape, read)


def _expert_pieces(
    checkpoint: Checkpoint, family: Family, layer: int, *, file: Path | None, kind: str
) -> Iterator[GgufPiece]:
    """The experts of a layer: from the file of a compressed one, or rounded to 16 bits when the first is asked for."""
    blocks = family.blocks(family.shape(checkpoint.config).hidden_size)
    kind = kind if file is not None else _DEFAULT
    described = GgufExperts(layer, _one_expert(family), blocks, kind=kind).described()
    count, left = family.layer_shape().num_experts, dict[str, torch.Tensor]()

    def read(name: str) -> torch.Tensor:
        if not left:
            left.update(read_file(file) if file is not None else _rounded(family.load(checkpoint, layer), family))
        return left.pop(name)

    for name, (how, (_, *sides)) in described.items():
        yield GgufPiece(name, how, (count, *sides), partial(read, name))


def _rounded(stack: ExpertStack, family: Family) -> dict[str, torch.Tensor]:
    experts = GgufExperts(stack.layer, family.layer_shape(), stack.blocks, kind=_DEFAULT)
    for k, matrix in enumerate(stack.weights):
        experts.put(k, matrix)
    return experts.tensors


def _vocabulary(checkpoint: Checkpoint, size: int) -> dict[str, Any]:
    if (inside := tokenizer_inside(checkpoint)) is not None:
        return copied_vocabulary(inside)
    try:
        tokenizer = load_tokenizer(checkpoint)
    except CheckpointError as error:
        raise UsageError(f"{error}; a GGUF file holds the model's tokenizer") from error
    return vocabulary(tokenizer, size)
