#!/usr/bin/env bash
# transformers drops the scaling of rotary angles that a GGUF file holds, and cannot read that of gpt-oss.
#
# Packages: transformers 5.23.0, gguf 0.19.0, torch 2.13.0 (CPU).
# Behaviour: llama.cpp's converter writes rope.scaling.type, factor and original_context_length of models whose contexts
# were stretched (YaRN). AutoConfig.from_pretrained with gguf_file reads the base frequency of Llama, Qwen2, Qwen3 and
# Qwen3-MoE, and leaves rope_type at "default": no error, no warning. Of gpt-oss the same keys raise a TypeError.
# Why it matters: the model computes other angles than it was trained with, at every position, so that all scores of a
# checkpoint that was opened in this way are of another model. We read these keys ourselves.
# Seen: "llama: default", "qwen2: default", "qwen3: default", "qwen3moe: default", "gpt-oss: TypeError".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 gguf==0.19.0 numpy==2.4.6
cat > "$folder/rotary.py" <<'PYTHON'
import sys

import gguf
import numpy as np
from transformers import AutoConfig


def write(path, architecture):
    """What a converter writes of a model whose context was stretched four times, with one tensor."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.add_context_length(32768)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(16)
    writer.add_value_length(16)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(4.0)
    writer.add_rope_scaling_orig_ctx_len(8192)
    writer.add_expert_count(4)
    writer.add_expert_used_count(2)
    writer.add_vocab_size(96)
    writer.add_tensor("token_embd.weight", np.zeros((96, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


for architecture in ("llama", "qwen2", "qwen3", "qwen3moe", "gpt-oss"):
    write(f"{sys.argv[1]}/model.gguf", architecture)
    try:
        found = AutoConfig.from_pretrained(sys.argv[1], gguf_file="model.gguf").rope_parameters["rope_type"]
    except TypeError as error:
        found = type(error).__name__
    print(f"{architecture}: {found}")
PYTHON
output=$(HF_HUB_OFFLINE=1 "$folder/venv/bin/python" "$folder/rotary.py" "$folder" 2>/dev/null)
echo "$output"
for architecture in llama qwen2 qwen3 qwen3moe; do
    grep -qx "$architecture: default" <<< "$output"
done
grep -qx "gpt-oss: TypeError" <<< "$output"
