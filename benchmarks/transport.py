"""Barycenters against the call that the published code makes, and against the products alone, in one run.

    python benchmarks/transport.py switch      # p_I 3,072, D 1,537, 8 experts: against ot.lp.free_support_barycenter
    python benchmarks/transport.py deepseek    # p_I 1,408, D 6,144, 64 experts, copies
    python benchmarks/transport.py mixtral     # p_I 14,336, D 12,288, 8 experts: needs 8 GB, or 16 for --unrelated
    python benchmarks/transport.py growth      # time against p_I, D and N, with fitted exponents

Every figure is printed as it is measured; ratios are of times taken in the same run on the same machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import ot
import torch
from torch import Tensor

from resmoe_lab.transport import Barycenter, barycenter, objective
from resmoe_lab.transport.assignment import backends
from resmoe_lab.transport.cost import add_products


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def unrelated(experts: int, neurons: int, width: int, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    stack = torch.empty(experts, neurons, width, dtype=dtype)
    for rows in stack:
        rows.copy_(torch.randn(neurons, width, generator=generator))
    return stack


def copies(
    experts: int, neurons: int, width: int, *, noise: float, dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """One expert, permuted and disturbed; with the permutations that align all with the first."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(neurons, width, generator=generator)
    stack, orders = torch.empty(experts, neurons, width, dtype=dtype), []
    for rows in stack:
        orders.append(torch.randperm(neurons, generator=generator))
        rows.copy_(torch.randn(neurons, width, generator=generator).mul_(noise).add_(base)[orders[-1]])
    return stack, torch.stack([order.argsort()[orders[0]] for order in orders])


def products(stack: Tensor, count: int) -> float:
    """Seconds that `count` cost-matrix products alone take, nothing skipped."""
    buffer = torch.empty(stack.shape[1], stack.shape[1])
    add_products(buffer.zero_(), stack[0], stack[1])
    _, seconds = timed(lambda: [add_products(buffer.zero_(), stack[0], stack[1 + i % 7]) for i in range(min(count, 7))])
    return seconds * count / min(count, 7)


def published(stack: Tensor) -> tuple[float, float]:
    """Objective and seconds of the published call; its center is judged with exact assignments."""
    points = [rows.double().numpy() for rows in stack]
    masses = np.full(stack.shape[1], 1 / stack.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        center, seconds = timed(
            lambda: ot.lp.free_support_barycenter(
                points, [masses] * len(points), points[0], masses, numItermax=100, stopThr=1e-7
            )
        )
    judged = torch.from_numpy(center).float()
    orders = torch.stack(
        [barycenter([judged, rows], solver="alternating", certify=False).permutations[1] for rows in stack]
    )
    aligned_mean = torch.stack([rows[order] for rows, order in zip(stack, orders, strict=True)]).mean(0)
    return min(objective(stack, orders, judged), objective(stack, orders, aligned_mean)), seconds


def show(name: str, result: Barycenter, *, truth: Tensor | None = None) -> None:
    line = f"  {name:<24}{result.seconds:9.2f} s   objective {result.objective:.6g}   rounds {result.iterations}"
    if result.certificate is not None:
        line += f"   gap {result.certificate.gap:.2e} ({result.certificate.kind}, {result.certificate.pairs} pairs)"
    if truth is not None:
        line += f"   recovered {bool(torch.equal(result.permutations, truth))}"
    print(f"{line}   [{result.plan.mode}]", flush=True)


def switch() -> None:
    size = (8, 3072, 1537)
    for kind in ("unrelated", "copies"):
        stack, truth = (unrelated(*size), None) if kind == "unrelated" else copies(*size, noise=0.1)
        alone = products(stack, 7)
        print(f"Switch size {size}, {kind}: 7 cost-matrix products alone {alone:.2f} s", flush=True)
        ours = {name: barycenter(stack, solver=name, certify=False) for name in ("alternating", "coordinate")}
        ours["coordinate, certified"] = barycenter(stack)
        for name, result in ours.items():
            show(name, result, truth=truth)
        theirs, seconds = published(stack)
        print(f"  {'published call':<24}{seconds:9.2f} s   objective {theirs:.6g}")
        for name, result in ours.items():
            print(
                f"  {name}: {seconds / result.seconds:.1f} times as fast as the published call, objective "
                f"{100 * (result.objective / theirs - 1):+.3f} %, {result.seconds / alone:.2f} times the products",
                flush=True,
            )


def deepseek() -> None:
    for noise in (0.1, 0.3, 0.5, 0.8):
        stack, truth = copies(64, 1408, 6144, noise=noise)
        alone = products(stack, 63)
        result = barycenter(stack)
        print(f"DeepSeekMoE size (64, 1408, 6144), noise {noise}: 63 products alone {alone:.2f} s")
        show("coordinate, certified", result, truth=truth)
        print(f"  {result.seconds / alone:.2f} times the products alone", flush=True)


def mixtral(*, unrelated_too: bool) -> None:
    size = (8, 14336, 12288)
    for dtype in (torch.bfloat16, torch.float32):
        stack, truth = copies(*size, noise=1.0, dtype=dtype)
        result = barycenter(stack)
        print(f"Mixtral size {size}, {dtype}, noise as large as the weights")
        show("coordinate, certified", result, truth=truth)
        print(f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB", flush=True)
        del stack
    if unrelated_too:
        stack = unrelated(*size, dtype=torch.bfloat16)
        print(f"Mixtral size {size}, bfloat16, unrelated")
        show("alternating", barycenter(stack, solver="alternating", certify=False))
        show("coordinate", barycenter(stack, certify=False))


def growth() -> None:
    base = {"experts": 6, "neurons": 1024, "width": 1024}
    steps = {"experts": (4, 8, 16), "neurons": (768, 1536, 3072), "width": (512, 2048, 8192)}
    for kind in ("unrelated", "copies"):
        for name, values in steps.items():
            seconds = []
            for value in values:
                size = tuple({**base, name: value}.values())
                stack = unrelated(*size) if kind == "unrelated" else copies(*size, noise=0.1)[0]
                seconds.append(min(barycenter(stack, certify=False).seconds for _ in range(2)))
            exponent = np.polyfit(np.log(values), np.log(seconds), 1)[0]
            print(
                f"growth, {kind}: {name} {values}: {[round(s, 3) for s in seconds]} s, exponent {exponent:.2f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("switch", "deepseek", "mixtral", "growth"), nargs="+")
    parser.add_argument("--unrelated", action="store_true", help="mixtral: unrelated experts too")
    arguments = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"{torch.backends.cpu.get_cpu_capability()}, POT {ot.__version__}, assignment by {backends()[0]}"
    )
    for what in arguments.what:
        {"switch": switch, "deepseek": deepseek, "growth": growth}.get(
            what, lambda: mixtral(unrelated_too=arguments.unrelated)
        )()


if __name__ == "__main__":
    main()
