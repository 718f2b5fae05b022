"""Packed checkpoints in transformers: ``import resmoe_lab``, then plain ``from_pretrained``.

The files carry names of our own. An unregistered transformers, which would leave the experts at random after a mere
warning, does not find them and refuses; the registered one is pointed to them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from .._core.errors import CheckpointError, UsageError
from .._core.files import make_folder
from ..checkpoint.tensors import read_header
from ..checkpoint.weight_files import PACKED_INDEX_FILE as INDEX_FILE
from ..checkpoint.writer import write_index
from ..experts import family_of_config
from ..store.formats import FORMATS
from ..store.layout import Layout
from .experts import ResMoEExperts
from .requantized import requantize_model
from .rest import INTEGER_BITS, set_dtype, swap_rest
from .switch import SwitchExperts

METHOD = "resmoe"
#: Of the description in ``config.json``; version 1 had other names for the fields of a layout.
VERSION, READABLE = 2, (1, 2)
#: What a packed checkpoint's files are called instead of ``model``.
STEM = "resmoe"
_OLD_BLOCK, _BLOCK = ".block_sparse_moe.", ".mlp."


def _words(versions: Sequence[int]) -> str:
    return " or ".join(map(str, versions))


@register_quantization_config(METHOD)
class ResMoEConfig(QuantizationConfigMixin):
    """What ``config.json`` says of a packed checkpoint.

    Parameters
    ----------
    layers
        Name of an experts module in the running model -> its :class:`~resmoe_lab.store.Layout`.
    version
        Of this description.
    rest
        Name of a rounded module -> its bits, group and shape: see :mod:`~resmoe_lab.runtime.rest`.
    mode, cache_experts
        How the experts are computed: see :class:`~.experts.ResMoEExperts`. Not part of what is stored.
    """

    def __init__(
        self,
        layers: Mapping[str, Any] | None = None,
        version: int = VERSION,
        mode: str | None = None,
        cache_experts: int | None = None,
        rest: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        unknown.pop("quant_method", None)
        if version not in READABLE:
            raise CheckpointError(
                f"the checkpoint was packed in version {version} of the format, expected {_words(READABLE)}: "
                "use the resmoe-lab that wrote it, or pack it again"
            )
        for name, described in (("layers", layers), ("rest", {} if rest is None else rest)):
            if not isinstance(described, Mapping):
                raise CheckpointError(f"a packed checkpoint's config has {name} {described!r}, expected a description")
        if unknown:
            raise UsageError(f"unknown setting {next(iter(unknown))!r} of a packed checkpoint")
        self.quant_method = METHOD  # theirs is an enum of the methods they ship
        self.version = version
        self.layers = dict(layers or {})
        self.mode = mode
        self.cache_experts = cache_experts
        self.rest = dict(rest or {})

    def to_dict(self) -> dict[str, Any]:
        """What is written to ``config.json``."""
        described = {"quant_method": METHOD, "version": self.version, "layers": self.layers}
        return {**described, "rest": self.rest} if self.rest else described

    def layouts(self) -> dict[str, Layout]:
        """Return the checked layout of every packed module.

        Raises
        ------
        CheckpointError
            If one is damaged, or of a format that there is not.
        """
        layouts = {name: Layout.read(content, where=name) for name, content in self.layers.items()}
        for name, layout in layouts.items():
            try:
                FORMATS[layout.format]
            except UsageError as error:
                raise CheckpointError(f"the specification of {name} is damaged: {error}") from error
        return layouts


@register_quantizer(METHOD)
class ResMoEQuantizer(HfQuantizer):
    """Swaps the experts of packed layers for modules that hold and run the packed form."""

    quantization_config: ResMoEConfig

    def update_attn_implementation(self, config: Any) -> Any:
        """Point the loader to our files: it asks for no other hook before it looks for them."""
        config.transformers_weights = INDEX_FILE
        return config

    def _process_model_before_weight_loading(
        self, model: nn.Module, checkpoint_files: Sequence[str] | None = None, **kwargs: Any
    ) -> nn.Module:
        for name, layout in self.quantization_config.layouts().items():
            swap(model, name, layout, mode=self.quantization_config.mode, cache=self.quantization_config.cache_experts)
        swap_rest(model, self.quantization_config.rest)
        if checkpoint_files:
            check_files(model, [*self.quantization_config.layers, *self.quantization_config.rest], checkpoint_files)
        return model

    def _process_model_after_weight_loading(self, model: nn.Module, **kwargs: Any) -> nn.Module:
        for module in model.modules():
            if isinstance(module, ResMoEExperts):
                module.requires_grad_(False)
                object.__setattr__(module, "dtype", model.dtype)
        dtype: Any = model.dtype
        set_dtype(model, dtype)
        if self.quantization_config.mode in INTEGER_BITS:
            requantize_model(model, INTEGER_BITS[self.quantization_config.mode])
            object.__setattr__(model, "save_pretrained", refuse_to_save)
            return model
        object.__setattr__(model, "save_pretrained", partial(save, model))
        return model

    def is_serializable(self) -> bool:
        """A loaded model can be saved again."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Packed weights are not trained."""
        return False


def swap(model: nn.Module, name: str, layout: Layout, *, mode: str | None, cache: int | None) -> None:
    """Replace an experts module of a model by an empty packed one.

    Raises
    ------
    CheckpointError
        If the model has no such module.
    """
    try:
        original = model.get_submodule(name)
    except AttributeError as error:
        raise CheckpointError(f"the model has no module {name!r}, which its config says is packed") from error
    options: dict[str, Any] = {"cache_experts": cache}
    if mode is not None and mode not in INTEGER_BITS:
        options["mode"] = mode
    config: Any = model.config
    family = family_of_config(config.to_dict(), where=type(model).__name__)
    module: nn.Module = ResMoEExperts.empty(layout, activation=family.activation(original), **options)
    if family.routes_by_mask:
        module = SwitchExperts(module)
    parent, _, child = name.rpartition(".")
    block = model.get_submodule(parent)
    setattr(block, child, module)
    # Its weights all come from the files; transformers' way to start them would look for the experts it knows.
    object.__setattr__(block, "_is_hf_initialized", True)


def check_files(model: nn.Module, layers: Sequence[str], files: Sequence[str]) -> None:
    """Refuse files that lack a tensor of a packed module, or hold one of another shape or type.

    Raises
    ------
    CheckpointError
        Naming the tensor.
    """
    stored = {name: info for file in files for name, info in read_header(Path(file)).items()}
    # When transformers saves a Mixtral, it gives all that stands in an MoE block the block's old name.
    stored |= {name.replace(_OLD_BLOCK, _BLOCK): info for name, info in stored.items() if _OLD_BLOCK in name}
    for prefix in layers:
        for suffix, tensor in model.get_submodule(prefix).state_dict().items():
            name = f"{prefix}.{suffix}"
            if name not in stored:
                raise CheckpointError(f"the packed checkpoint has no tensor {name!r}: it is incomplete")
            shape, expected = tuple(stored[name].shape), tuple(tensor.shape)
            if shape != expected:
                raise CheckpointError(f"tensor {name!r} has shape {shape}, expected {expected} by the config")


def refuse_to_save(*_: Any, **__: Any) -> None:
    """Refuse to save a model whose experts are not those of its files.

    Raises
    ------
    UsageError
        Saying what to do instead.
    """
    raise UsageError("this model's experts were rounded again when it was opened: copy the checkpoint's folder instead")


def save(model: Any, folder: str | Path, **options: Any) -> None:
    """Save a packed model under the names that only a registered transformers finds.

    Parameters
    ----------
    model
        A model that was loaded from a packed checkpoint.
    folder
        Where to; files of these names there are replaced.
    options
        Those of ``save_pretrained``.
    """
    folder = make_folder(Path(folder))
    with TemporaryDirectory(dir=folder, prefix=".saving-") as fresh:
        type(model).save_pretrained(model, fresh, **options)
        files = {path.name: path.name.replace("model", STEM, 1) for path in Path(fresh).glob("model*.safetensors")}
        index = Path(fresh) / "model.safetensors.index.json"
        weight_map = (
            json.loads(index.read_text("utf-8"))["weight_map"]
            if index.is_file()
            else dict.fromkeys(read_header(Path(fresh) / "model.safetensors"), "model.safetensors")
        )
        index.unlink(missing_ok=True)
        for path in Path(fresh).iterdir():
            path.replace(folder / files.get(path.name, path.name))
    held = {file: [name for name, place in weight_map.items() if place == old] for old, file in files.items()}
    total = sum(tensor.nbytes for tensor in model.state_dict().values())
    write_index(folder, held, total_bytes=total, name=INDEX_FILE)
