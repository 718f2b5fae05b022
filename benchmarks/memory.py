"""Peak memory of compressing one layer against its forecast, each method in a process of its own.

    python -m benchmarks.memory                     # 1 GB of experts in float32, every method that is quick enough
    python -m benchmarks.memory up resmoe-svd       # these methods only

The layer is a Mixtral's of random upcycled experts, stored in bfloat16; its model has one layer and runs on calibration
text where the method needs it. The forecast is what `resmoe-lab plan` says beforehand; the peak is of anonymous memory.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from resmoe_lab.methods import METHODS

#: Experts, neurons and hidden size: 8 * 5,120 * 3 * 2,048 float32 weights are 1.0 GB.
EXPERTS, NEURONS, HIDDEN = 8, 5120, 2048
_RUN = """
import json, sys
import torch
import resmoe_lab as rl
from resmoe_lab._core.machine import anonymous_bytes, peak_memory
from resmoe_lab.compress import CompressionConfig, compress_checkpoint, forecast_run
from resmoe_lab.experts import family_of
from resmoe_lab.methods import METHODS

source, out, name = sys.argv[1:]
checkpoint = rl.open_checkpoint(source)
method = METHODS[name]()
options = {"method": name, "export": "dense", "seed": 0}
options["keep"] = 3 / 16 if method.by_bits else 0.25
if method.needs_statistics:
    from resmoe_lab.compress import Calibration
    options["calibration"] = Calibration(source="storyworld_perplexity", tokens=256)
config = CompressionConfig(**options)
forecast = forecast_run(checkpoint, out, config)
with peak_memory() as peak:
    statistics = None
    if method.needs_statistics:
        from resmoe_lab.cli._calibration import CalibrationText, calibrated
        text = CalibrationText("storyworld_perplexity", 256, None, "cpu")
        statistics = calibrated(checkpoint, [0], text, fisher=config.needs_fisher, moments=config.needs_moments)
    compress_checkpoint(checkpoint, out, config, statistics=statistics)
print(json.dumps({"forecast": forecast.peak_rss_bytes, "peak": peak.nbytes, "seconds": forecast.seconds}))
"""


def build(folder: Path) -> None:
    from transformers import AutoTokenizer, MixtralConfig, MixtralForCausalLM

    import resmoe_lab as rl

    tokenizer = AutoTokenizer.from_pretrained(rl.open_checkpoint("mixtral-tiny").folder, local_files_only=True)
    config = MixtralConfig(
        vocab_size=len(tokenizer), hidden_size=HIDDEN, intermediate_size=NEURONS, num_hidden_layers=1,
        num_attention_heads=8, num_key_value_heads=2, num_local_experts=EXPERTS, num_experts_per_tok=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = MixtralForCausalLM(config).to(torch.bfloat16)
    for parameter in model.model.layers[0].mlp.experts.parameters():
        parameter.data.copy_(parameter.data[:1] + 0.3 * parameter.data)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    names = sys.argv[1:] or sorted(METHODS)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        build(source)
        size = 4 * EXPERTS * NEURONS * 3 * HIDDEN
        print(f"{EXPERTS} experts of {NEURONS} neurons and {3 * HIDDEN} columns, {size / 1e9:.2f} GB")
        for name in names:
            out = Path(scratch) / name
            run = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", _RUN, source, out, name],
                capture_output=True,
                text=True,
                check=False,
            )
            if run.returncode:
                print(f"  {name:<22}{run.stderr.strip().splitlines()[-1]}", flush=True)
                continue
            row = json.loads(run.stdout.strip().splitlines()[-1])
            forecast, peak = row["forecast"] / 1e9, row["peak"] / 1e9
            print(
                f"  {name:<22}forecast {forecast:.2f} GB, peak {peak:.2f} GB, ratio {forecast / peak:.2f}", flush=True
            )
            shutil.rmtree(out)


if __name__ == "__main__":
    main()
