"""The card of a compressed checkpoint: what it is, how it was made and how it is opened, as the hub shows it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._core.files import atomic_write
from .._core.units import human_bytes
from ..checkpoint import Checkpoint

CARD_FILE = "README.md"
#: What is carried over from the card of the source.
_CARRIED = ("license", "license_name", "license_link", "language", "pipeline_tag")


def write_card(checkpoint: Checkpoint, out: Path, manifest: Mapping[str, Any]) -> None:
    """Write the card of a finished checkpoint, in the form of the hub's model cards.

    Parameters
    ----------
    checkpoint
        The source, whose licence and languages are carried over where its own card tells them.
    out
        The folder.
    manifest
        The finished manifest.
    """
    with atomic_write(out / CARD_FILE) as part:
        part.write_text(card_text(checkpoint, manifest), "utf-8")


def card_text(checkpoint: Checkpoint, manifest: Mapping[str, Any]) -> str:
    """Return the text of the card."""
    import yaml  # type: ignore[import-untyped]

    settings = manifest["settings"]
    facts = source_card(checkpoint) | {"tags": ["mixture-of-experts", "compressed", "resmoe"]}
    if checkpoint.hub_id is not None:
        facts["base_model"] = checkpoint.hub_id
    facts["library_name"] = "gguf" if settings["export"] == "gguf" else "transformers"
    front = yaml.safe_dump(facts, sort_keys=True, allow_unicode=True)
    name = Path(checkpoint.name).name
    share = manifest["bytes"] / max(1, manifest["original_bytes"])
    with_center = settings.get("center") not in (None, "none")
    center = f"with center `{settings['center']}`" if with_center else "without a center"
    rows = {
        "method": f"`{settings['method']}`, {center}",
        "kept fraction": f"{settings['keep']:g}",
        "layers": ", ".join(map(str, manifest["layers"])),
        "experts": f"{human_bytes(manifest['bytes'])} of {human_bytes(manifest['original_bytes'])} ({share:.1%})",
        "relative error of the experts": f"{manifest['relative_error']:.4g}",
        "made with": f"resmoe-lab {manifest['versions'].get('resmoe-lab', '')}",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return (
        f"---\n{front}---\n\n# {name}, experts compressed\n\n"
        f"The experts of `{checkpoint.name}` were compressed with resmoe-lab; everything else is as it was.\n\n"
        f"|  |  |\n|---|---|\n{table}\n\n{_OPENING[settings['export']]}\n"
        "`resmoe_manifest.json` tells error and bytes of every layer, the settings and the hash of the source.\n"
    )


_OPENING = {
    "packed": (
        "The weights are stored in a form of resmoe-lab's own: other tools find no `model.safetensors`. After "
        "`pip install resmoe-lab`, transformers opens the folder:\n\n```python\n"
        "import resmoe_lab  # registers the form\nimport transformers\n\n"
        'model = transformers.AutoModelForCausalLM.from_pretrained("FOLDER")\n```\n\n'
        "Other programs run with the form registered: `resmoe-lab run -- lm_eval --model hf --model_args "
        "pretrained=FOLDER ...`\n"
    ),
    "dense": "The restored weights are stored as in the original: whatever opens that opens this folder.\n",
    "compressed-tensors": (
        "The restored experts are rounded as compressed-tensors stores them; after `pip install compressed-tensors`, "
        "transformers opens the folder as it does the original.\n"
    ),
    "gguf": "The restored weights are stored as one GGUF file: llama.cpp and what is made of it open it.\n",
}


def source_card(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what the source's own card says of licence and languages; nothing if it has none that can be read."""
    import yaml

    path = checkpoint.folder / CARD_FILE
    try:
        parts = path.read_text("utf-8").split("---\n", 2)
        facts = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0].strip() else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        return {}
    return {key: facts[key] for key in _CARRIED if key in facts} if isinstance(facts, dict) else {}
