#!/usr/bin/env bash
# mlx-lm cannot open most Mixture-of-Experts models as transformers 5 saves them.
#
# Packages: mlx-lm 0.32.2 and mlx 0.32.4 (CPU), transformers 5.23.0, torch 2.13.0 (CPU).
# Behaviour: transformers 5 writes the base of the rotary angles as rope_parameters.rope_theta. The model arguments of
# mlx-lm have a required rope_theta of their own for several families, and load_model raises a TypeError that a
# positional argument is missing; families whose arguments have a default take that default instead, without a warning.
# Why it matters: what one compresses and saves with transformers 5 (or with us: a dense export) does not convert to
# MLX, or converts with other angles. Writing rope_theta beside rope_parameters into config.json mends both.
# Seen: "qwen3_moe: TypeError rope_theta", "olmoe: 10000 of 500000.0", "with rope_theta: opened, 500000.0".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 "mlx[cpu]==0.32.4" mlx-lm==0.32.2
cat > "$folder/open.py" <<'PYTHON'
import json
import sys
from pathlib import Path

from mlx_lm.utils import load_model
from transformers import OlmoeConfig, OlmoeForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

SIZES = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2}
SIZES |= {"num_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 24, "tie_word_embeddings": False}
ROTARY = {"rope_type": "default", "rope_theta": 500000.0}


def saved(kind, config, name):
    place = Path(sys.argv[1]) / name
    kind(config).save_pretrained(place)
    assert json.loads((place / "config.json").read_text())["rope_parameters"]["rope_theta"] == 500000.0
    return place


qwen3 = saved(Qwen3MoeForCausalLM, Qwen3MoeConfig(**SIZES, head_dim=8, rope_parameters=ROTARY), "qwen3_moe")
olmoe = saved(OlmoeForCausalLM, OlmoeConfig(**SIZES, rope_parameters=ROTARY), "olmoe")
try:
    load_model(qwen3)
    print("qwen3_moe: opened")
except TypeError as error:
    print("qwen3_moe: TypeError", "rope_theta" if "rope_theta" in str(error) else error)
model, _ = load_model(olmoe)
print(f"olmoe: {model.args.rope_theta} of 500000.0")
config = json.loads((olmoe / "config.json").read_text())
(olmoe / "config.json").write_text(json.dumps(config | {"rope_theta": 500000.0}))
model, _ = load_model(olmoe)
print(f"with rope_theta: opened, {model.args.rope_theta}")
PYTHON
seen=$("$folder/venv/bin/python" -W ignore "$folder/open.py" "$folder" 2>/dev/null)
expected="qwen3_moe: TypeError rope_theta
olmoe: 10000 of 500000.0
with rope_theta: opened, 500000.0"
echo "$seen"
test "$seen" = "$expected"
