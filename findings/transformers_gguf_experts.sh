#!/usr/bin/env bash
# transformers opens the GGUF file of a Mixtral as a dense Llama, and forgets how wide experts are.
#
# Packages: transformers 5.23.0, gguf 0.19.0, torch 2.13.0 (CPU).
# Behaviour: llama.cpp's converter writes Mixtral as architecture "llama" with llama.expert_count. from_pretrained with
# gguf_file makes a LlamaForCausalLM of it, without an error: the feed-forwards are dense and random, the experts and
# their routers in the file are passed over. For architecture "qwen3moe", expert_feed_forward_length is not read: the
# config has the width of experts that the class has by default (768), whatever the file says.
# Why it matters: a Mixtral that was read in this way runs and is another model; of Qwen3-MoE the widths have to be
# right by chance. We read names, settings and order ourselves.
# Seen: "llama with experts: LlamaForCausalLM, expert parameters 0", "qwen3moe with experts of width 32:
# moe_intermediate_size 768".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 gguf==0.19.0 accelerate==1.15.0 numpy==2.4.6
cat > "$folder/experts.py" <<'PYTHON'
import sys
import warnings

import gguf
import numpy as np
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

warnings.simplefilter("ignore")
logging.set_verbosity_error()
LAYERS, EXPERTS, HIDDEN, WIDTH, VOCABULARY = 2, 4, 64, 32, 96
random = np.random.default_rng(0)


def matrix(*shape):
    return (0.2 * random.standard_normal(shape)).astype(np.float32)


def write(path, architecture):
    """A tiny model with experts as llama.cpp's converter lays it out."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(WIDTH)
    writer.add_expert_feed_forward_length(WIDTH)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_key_length(16)
    writer.add_value_length(16)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(2)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tensor("token_embd.weight", matrix(VOCABULARY, HIDDEN))
    writer.add_tensor("output_norm.weight", np.ones(HIDDEN, np.float32))
    writer.add_tensor("output.weight", matrix(VOCABULARY, HIDDEN))
    for layer in range(LAYERS):
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(HIDDEN, np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", matrix(HIDDEN, HIDDEN))
        if architecture == "qwen3moe":
            for name in ("attn_q_norm", "attn_k_norm"):
                writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(16, np.float32))
        writer.add_tensor(f"blk.{layer}.ffn_gate_inp.weight", matrix(EXPERTS, HIDDEN))
        writer.add_tensor(f"blk.{layer}.ffn_gate_exps.weight", matrix(EXPERTS, WIDTH, HIDDEN))
        writer.add_tensor(f"blk.{layer}.ffn_up_exps.weight", matrix(EXPERTS, WIDTH, HIDDEN))
        writer.add_tensor(f"blk.{layer}.ffn_down_exps.weight", matrix(EXPERTS, HIDDEN, WIDTH))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


folder = sys.argv[1]
write(f"{folder}/mixtral.gguf", "llama")
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file="mixtral.gguf")
names = [name for name, _ in model.named_parameters()]
print(f"llama with experts: {type(model).__name__}, expert parameters", sum("expert" in name for name in names))
write(f"{folder}/qwen3moe.gguf", "qwen3moe")
config = AutoConfig.from_pretrained(folder, gguf_file="qwen3moe.gguf")
print("qwen3moe with experts of width 32:", "moe_intermediate_size", config.moe_intermediate_size)
PYTHON
output=$(HF_HUB_OFFLINE=1 "$folder/venv/bin/python" "$folder/experts.py" "$folder" 2>/dev/null)
echo "$output"
grep -qx "llama with experts: LlamaForCausalLM, expert parameters 0" <<< "$output"
grep -qx "qwen3moe with experts of width 32: moe_intermediate_size 768" <<< "$output"
