"""What transformers knows of a model: its config object, its class, and the model without weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .._core.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def config_of(config: Mapping[str, Any]) -> PretrainedConfig:
    """Return the config object of a ``config.json``, without what it says of quantization; no code of a folder runs.

    Raises
    ------
    CheckpointError
        If transformers has no such model.
    """
    from transformers import CONFIG_MAPPING

    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise CheckpointError(
            f"model_type {model_type!r} is unknown to the installed transformers: upgrade it, or name a model it has"
        )
    content = {name: _value(value) for name, value in config.items() if name != "quantization_config"}
    found: PretrainedConfig = CONFIG_MAPPING[model_type].from_dict(content)
    return found


@cache
def described_types() -> list[str]:
    """Return the types of the language models in the installed transformers whose experts are marked in their source.

    Models made of others (a text model, a vision tower) are left out: their text models have types of their own.
    """
    import transformers
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.configuration_auto import model_type_to_module_name
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    models = Path(transformers.__file__).parent / "models"

    def marks(model_type: str) -> bool:
        files = (models / model_type_to_module_name(model_type)).glob("modeling_*.py")
        return any("@use_experts_implementation" in file.read_text("utf-8") for file in files)

    names = [name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if marks(name)]
    return sorted(name for name in names if "text_config" not in CONFIG_MAPPING[name].sub_configs)


def _value(value: Any) -> Any:
    """A value of a ``config.json``, in which infinity is ``{"__float__": "Infinity"}``."""
    if isinstance(value, Mapping):
        return float(value["__float__"]) if set(value) == {"__float__"} else {k: _value(v) for k, v in value.items()}
    return [_value(item) for item in value] if isinstance(value, list) else value


def model_class(config: PretrainedConfig) -> type[PreTrainedModel]:
    """Return the class that generates text with such a config.

    Raises
    ------
    CheckpointError
        If there is none.
    """
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    )

    mappings = [MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING]
    for mapping in [*mappings, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING]:
        if type(config) in mapping:
            found: Any = mapping[type(config)]
            single: type[PreTrainedModel] = found[0] if isinstance(found, tuple) else found
            return single
    raise CheckpointError(
        f"transformers has no model that generates text for {type(config).__name__}: expected a language model"
    )


def empty_model(config: Mapping[str, Any]) -> PreTrainedModel:
    """Build the model of a ``config.json`` on the meta device.

    Raises
    ------
    CheckpointError
        If transformers has no such model, or its config contradicts itself.
    """
    found = config_of(config)
    try:
        with torch.device("meta"):
            return model_class(found)._from_config(found)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"transformers cannot build model_type {config.get('model_type')!r} from its config ({reason})"
        ) from error
