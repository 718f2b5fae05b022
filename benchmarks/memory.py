"""Peak memory of compressing one layer against its forecast, each method in a process of its own.

    python -m benchmarks.memory                     # 1 GB of experts in float32, every method
    python -m benchmarks.memory up resmoe-svd       # these methods only
    python -m benchmarks.memory mlp-fusion --neurons 2560 --hidden 1024          # slow ones on a quarter of that
    python -m benchmarks.memory --show              # the table of what was measured, for RESULTS.md

The layer is a Mixtral's of random upcycled experts, stored in bfloat16; its model has one layer and runs on calibration
text where the method needs it. The forecast is what `resmoe-lab plan` says beforehand; the peak is of anonymous memory.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from resmoe_lab.methods import METHODS

from .records import keep, kept

#: A run whose forecast is this many times its peak, or its peak that many times the forecast, is out of bounds.
WITHIN = 1.25
_RUN = """
import json, sys
import torch
import resmoe_lab as rl
from resmoe_lab._core.machine import peak_memory
from resmoe_lab.compress import CompressionConfig, compress_checkpoint, forecast_run
from resmoe_lab.methods import METHODS

source, out, name, export = sys.argv[1:]
checkpoint = rl.open_checkpoint(source)
method = METHODS[name]()
options = {"method": name, "export": export, "seed": 0}
bits = next(bits for bits in (3, 4) if method.takes_bits(bits)) if method.by_bits else 4
options["keep"] = bits / 16
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
print(json.dumps({"forecast": forecast.peak_rss_bytes, "peak": peak.nbytes}))
"""


@dataclass(frozen=True)
class Layer:
    """Sizes of the layer that is compressed."""

    experts: int
    neurons: int
    hidden: int

    @property
    def nbytes(self) -> int:
        """Of its experts in float32."""
        return 4 * self.experts * self.neurons * 3 * self.hidden

    def __str__(self) -> str:
        return f"{self.nbytes / 1e9:.2f} GB ({self.experts} experts, {self.neurons} x {3 * self.hidden})"

    def build(self, folder: Path) -> None:
        """Save a model of one such layer."""
        from transformers import AutoTokenizer, MixtralConfig, MixtralForCausalLM

        import resmoe_lab as rl

        tokenizer = AutoTokenizer.from_pretrained(rl.open_checkpoint("mixtral-tiny").folder, local_files_only=True)
        config = MixtralConfig(
            vocab_size=len(tokenizer), hidden_size=self.hidden, intermediate_size=self.neurons, num_hidden_layers=1,
            num_attention_heads=8, num_key_value_heads=2, num_local_experts=self.experts, num_experts_per_tok=2,
        )  # fmt: skip
        torch.manual_seed(0)
        model = MixtralForCausalLM(config).to(torch.bfloat16)
        for parameter in model.model.layers[0].mlp.experts.parameters():
            parameter.data.copy_(parameter.data[:1] + 0.3 * parameter.data)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def measure(method: str, layer: Layer, *, source: Path, export: str) -> None:
    """Compress in a process of its own, and keep what was forecast and measured; a failure is printed."""
    out = source.parent / method
    command = [sys.executable, "-W", "ignore", "-c", _RUN, source, out, method, export]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        print(f"  {method:<22}{run.stderr.strip().splitlines()[-1]}", flush=True)
        return
    found = json.loads(run.stdout.strip().splitlines()[-1])
    keep(
        "memory",
        [
            {"experiment": f"{export}, {layer}", "case": method, "metric": name, "seed": 0, "value": nbytes}
            for name, nbytes in found.items()
        ],
    )
    forecast, peak = found["forecast"] / 1e9, found["peak"] / 1e9
    print(f"  {method:<22}forecast {forecast:.2f} GB, peak {peak:.2f} GB, ratio {forecast / peak:.2f}", flush=True)
    shutil.rmtree(out)


def table(rows: pd.DataFrame) -> str:
    """The forecast and the peak of every method that was measured, and which of them are out of bounds."""
    wide = rows.pivot_table(index=["case", "experiment"], columns="metric", values="value").reset_index()
    lines = [f"| method | layer | forecast, GB | peak, GB | ratio (within {WITHIN}) |", "|---|---|---|---|---|"]
    for row in wide.sort_values(["experiment", "case"], ascending=[False, True]).itertuples():
        ratio = row.forecast / row.peak
        note = "" if 1 / WITHIN <= ratio <= WITHIN else ", out of bounds"
        sizes = f"{row.forecast / 1e9:.2f} | {row.peak / 1e9:.2f} | {ratio:.2f}{note}"
        lines.append(f"| {row.case} | {row.experiment} | {sizes} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=METHODS.names())
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--neurons", type=int, default=5120)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--export", choices=["dense", "packed", "gguf", "compressed-tensors"], default="dense")
    parser.add_argument("--show", action="store_true", help="only print the table of what was measured")
    arguments = parser.parse_args()
    if arguments.show:
        print(table(kept("memory")))
        return
    layer = Layer(arguments.experts, arguments.neurons, arguments.hidden)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        layer.build(source)
        print(f"{layer}, {arguments.export}")
        for method in arguments.methods:
            measure(method, layer, source=source, export=arguments.export)


if __name__ == "__main__":
    main()
