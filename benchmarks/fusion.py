"""OT Fusion: the paper's figures on MNIST, and small networks in place of its CIFAR-10 ones.

    python -m benchmarks.fusion published          # the two published MLPNets: a minute
    python -m benchmarks.fusion transfer           # figures 2 and 4, four models: trains what it needs
    python -m benchmarks.fusion widths students pruning convolutions
    python -m benchmarks.fusion --networks FOLDER ...

Trained networks are kept in FOLDER (a temporary one unless it is named), so that a run that was stopped goes on. MNIST,
the published networks and the sample of CIFAR-10 are found as data sets are. One thread a run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from resmoe_lab._core.datasets import find_data
from resmoe_lab.fusion import (
    ENSEMBLE,
    FUSED,
    PLAIN,
    VGG11,
    Images,
    MLPNet,
    ResNet18,
    Teacher,
    accuracy,
    cifar10_sample,
    compare,
    fuse,
    fused_starts,
    learn_from,
    load_mlpnet,
    mixing_curve,
    mnist,
    repair_pruned,
    save_network,
    skill_split,
    train,
)

SEEDS = range(5)
EPOCHS = 10
SAMPLES = 400
WIDE, HALF, TENTH = (784, 400, 200, 100, 10), (784, 200, 100, 50, 10), (784, 40, 20, 10, 10)


class Trained:
    """Networks by name, trained once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(
        self, name: str, make: Callable[[], nn.Module], images: Images, *, start: int, **options: object
    ) -> nn.Module:
        """Return the network of this name; `start` draws its first weights and its order of images."""
        torch.manual_seed(start)
        network, path = make(), self.folder / f"{name}-{start}.safetensors"
        if path.is_file():
            network.load_state_dict(load_file(path))
            return network.eval()
        begun = time.perf_counter()
        options = {"epochs": EPOCHS, "seed": start} | options
        network = train(network, images, **options)
        save_network(network, path)
        print(f"    trained {path.stem} in {time.perf_counter() - begun:.0f} s", flush=True)
        return network


@cache
def digits(part: str) -> Images:
    return mnist(part)


def show(title: str, table: pd.DataFrame) -> None:
    print(f"\n{title}\n{table.to_string(index=False, float_format=lambda value: f'{value:.2f}')}", flush=True)


def spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.2f} +- {np.std(values):.2f}"


def published(_: Trained) -> None:
    """Tables S2 to S6."""
    pair = [load_mlpnet(find_data(f"otfusion_mnist_models/model_{index}/final.checkpoint")) for index in (0, 1)]
    test, seen = digits("test"), digits("train")
    show("published MLPNets, by weights (paper: 97.72, 97.75, 97.88, 73.84, 96.63)", compare(pair, test))
    fusion = fuse(pair)
    print(f"aligned A {accuracy(fusion.aligned[0], test):.2f} (paper: 97.72); {fusion.seconds:.2f} s")
    rows = []
    for count in (2, 10, 25, 50, 100, 200, 400):
        for name, options in {"exact": {}, "Sinkhorn 0.05": {"regularization": 0.05}}.items():
            if name != "exact" and count not in (50, 200):
                continue  # a hundred times slower than exact transport
            fused, aligned, seconds = [], [], []
            for seed in SEEDS if name == "exact" else SEEDS[:2]:
                fusion = fuse(pair, by="activations", samples=seen.sample(count, seed=seed), **options)
                fused.append(accuracy(fusion.network, test))
                aligned.append(accuracy(fusion.aligned[0], test))
                seconds.append(fusion.seconds)
            rows.append((count, name, spread(fused), spread(aligned), max(seconds)))
    columns = ["samples", "transport", "OT average", "aligned A", "seconds at most"]
    show("by activations, five draws (paper, exact, 200: 96.21 +- 0.36)", pd.DataFrame(rows, columns=columns))
    rows = []
    for by in ("weights", "activations"):
        options = {"by": by, "samples": seen.sample(200)}
        for constant in (0.1, 0.05, 0.02, 0.01) if by == "weights" else ():
            fusion = fuse(pair, **options, regularization=constant)
            found = accuracy(fusion.network, test), accuracy(fusion.aligned[0], test)
            rows.append((by, f"regularization {constant}", *found))
        fusion = fuse(pair, **options, importance=True)
        rows.append((by, "importance", accuracy(fusion.network, test), accuracy(fusion.aligned[0], test)))
    show("Sinkhorn and importance", pd.DataFrame(rows, columns=["by", "option", "OT average", "aligned A"]))


def _curves(pairs: list[list[nn.Module]], parts: list[list[Images]], by: str) -> pd.DataFrame:
    """Accuracy in all proportions, means and deviations over the seeds; only A's own images are seen."""
    tables = []
    for seed, (pair, part) in enumerate(zip(pairs, parts, strict=True)):
        samples = part[0].sample(SAMPLES, seed=seed) if by == "activations" else None
        fusion = fuse(pair, by=by, samples=samples)
        table = mixing_curve(pair, digits("test"), fusion=fusion, weights=np.round(np.arange(0, 1.01, 0.1), 1).tolist())
        tables.append(table[table["label"] == "all"])
    rows = pd.concat(tables).groupby(["weight", "method"])["accuracy"].agg(lambda v: spread(v.tolist())).unstack()
    order = [name for name in ("A", "B", FUSED, PLAIN, ENSEMBLE) if name in rows]
    return rows[order].reset_index()


def _pairs(trained: Trained, widths: tuple[Sequence[int], Sequence[int]], *, same: bool) -> tuple[list, list]:
    pairs, parts = [], []
    for seed in SEEDS:
        part = skill_split(digits("train"), (0.1, 0.9), digit=4, seed=seed)
        starts = (seed, seed if same else 100 + seed)
        made = [
            trained.get(f"skill{which}{w[1]}", lambda w=w: MLPNet(w), images, start=start)
            for which, w, images, start in zip("AB", widths, part, starts, strict=True)
        ]
        pairs.append(made)
        parts.append(part)
    return pairs, parts


def transfer(trained: Trained) -> None:
    """Figure 2: the digit 4 is known to A alone, which has 10 % of the rest."""
    for same in (False, True):
        pairs, parts = _pairs(trained, (WIDE, WIDE), same=same)
        for by in ("activations", "weights"):
            kind = "same" if same else "different"
            show(f"digit 4, {kind} initialisation, {by}, five seeds (paper's best: 93.11)", _curves(pairs, parts, by))


def many(trained: Trained) -> None:
    """Supplement S7: four models of one initialisation."""
    for proportions in ((0.7, 0.1, 0.2, 0.1), (0.6, 0.1, 0.2, 0.1), (0.7, 0.15, 0.2, 0.15), (0.7, 0.1, 0.3, 0.1)):
        rows = []
        for seed in SEEDS[:3]:
            parts = skill_split(digits("train"), (0.1, 0.3, 0.5, 0.1), digit=4, seed=seed)
            four = [trained.get(f"four{'ABCD'[k]}", MLPNet, part, start=seed) for k, part in enumerate(parts)]
            weights = np.array(proportions) / sum(proportions)
            samples = parts[0].sample(SAMPLES, seed=seed)
            for reference in (0, 2):
                table = compare(
                    four,
                    digits("test"),
                    weights=weights.tolist(),
                    by="activations",
                    samples=samples,
                    reference=reference,
                )
                rows.append(table.set_index("method")["accuracy"].rename({FUSED: f"{FUSED} into {'ABCD'[reference]}"}))
        table = pd.concat(rows, axis=1).T.agg(lambda v: spread(v.dropna().tolist()))
        show(
            f"four models at {proportions} (paper at the first: 95.0, 80.6, 93.6)",
            table.rename("accuracy").reset_index(),
        )


def widths(trained: Trained) -> None:
    """Figure 4 and S8: a small client A fused into a server B twice as wide."""
    pairs, parts = _pairs(trained, (HALF, WIDE), same=False)
    for by in ("activations", "weights"):
        show(f"client of half the width into the server, digit 4, {by}, five seeds", _curves(pairs, parts, by))


def students(trained: Trained) -> None:
    """Tables S12 to S17: a teacher, and students of a half and a tenth of its width."""
    # A sixth of MNIST: twelve trainings a seed, which the whole would make an hour of.
    train_images, test = digits("train").take(torch.arange(10_000)), digits("test")
    for name, small, temperature, weight in (("half", HALF, 4.0, 0.05), ("tenth", TENTH, 20.0, 0.7)):
        found = []
        for seed in SEEDS[:2]:
            teacher = trained.get("teacher10k", MLPNet, train_images, start=seed)
            student = trained.get(f"{name}10k", lambda w=small: MLPNet(w), train_images, start=50 + seed)
            starts = fused_starts(
                teacher, student, by="activations", samples=train_images.sample(SAMPLES, seed=seed), seed=seed
            )
            options = {"epochs": EPOCHS, "seed": 200 + seed}
            tuned = learn_from(starts, train_images, test, **options).assign(learning="labels alone")
            wise = Teacher(teacher, temperature, weight)
            taught = learn_from(starts, train_images, test, teacher=wise, **options).assign(learning="distillation")
            found += [tuned, taught]
            print(f"    teacher {accuracy(teacher, test):.2f}", flush=True)
        table = pd.concat(found).groupby(["learning", "start"])[["before", "after"]].agg(lambda v: spread(v.tolist()))
        title = f"student of a {name} of the width, temperature {temperature:g}, weight {weight:g}"
        show(f"{title}, {EPOCHS} epochs more, two seeds", table.reset_index())


def pruning(_: Trained) -> None:
    """Figure 3 and S8, on the published MLPNet instead of VGG11."""
    network = load_mlpnet(find_data("otfusion_mnist_models/model_0/final.checkpoint"))
    for layers in (["fc1"], ["fc2"], None):
        table = repair_pruned(network, digits("test"), layers=layers)
        show(f"pruned {'all layers' if layers is None else layers[0]}, fused with the whole network", table)


def convolutions(trained: Trained) -> None:
    """Small stand-ins of table 1: a VGG11 and a ResNet18 on the sample of CIFAR-10, and on a sixth of MNIST."""
    for data, images, test in (("mnist", *_padded()), ("cifar", cifar10_sample("train"), cifar10_sample("test"))):
        channels = images.inputs.shape[1]
        kinds = {
            "vgg": lambda c=channels: VGG11(16, channels=c, batch_norm=True),
            "resnet": lambda c=channels: ResNet18(8, channels=c),
        }
        for kind, make in kinds.items():
            options = {"epochs": 12 if data == "cifar" else 3, "rate": 0.05, "momentum": 0.9}
            pair = [trained.get(f"{data}-{kind}", make, images, start=seed, **options) for seed in (0, 1)]
            rows = []
            for way, how in _ways(kind, images).items():
                found = compare(pair, test, norms_from=images.sample(1000), **how).set_index("method")["accuracy"]
                rows.append(found.rename(way))
            show(f"small {kind} on {data}", pd.DataFrame(rows).rename_axis("way").reset_index())


def _ways(kind: str, images: Images) -> dict[str, dict[str, object]]:
    seen = {"by": "activations", "samples": images.sample(100)}
    ways: dict[str, dict[str, object]] = {"weights": {}, "activations": seen}
    if kind == "resnet":
        ways |= {"weights, streams averaged": {"residual": "average"}}
        ways |= {"activations, streams averaged": seen | {"residual": "average"}}
        ways |= {"activations, two rounds": seen | {"rounds": 2}}
    return ways


def _padded() -> tuple[Images, Images]:
    """MNIST at 32 x 32: ten thousand training images, two thousand test images."""
    parts = digits("train").take(torch.arange(10_000)), digits("test").take(torch.arange(2_000))
    black = float(parts[0].inputs.min())
    first, second = (Images(functional.pad(p.inputs, (2, 2, 2, 2), value=black), p.labels) for p in parts)
    return first, second


PARTS = {part.__name__: part for part in (published, transfer, many, widths, students, pruning, convolutions)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(PARTS)}; all where none is named")
    parser.add_argument("--networks", type=Path, help="folder where trained networks are kept")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as spare:
        for name in chosen.parts or PARTS:
            begun = time.perf_counter()
            PARTS[name](Trained(chosen.networks or Path(spare)))
            print(f"{name}: {time.perf_counter() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
