"""Barycenters against the call of the published code, and against matrix products alone, in one run.

    python benchmarks/transport.py switch      # p_I 3,072, D 1,537, 8 experts: against ot.lp.free_support_barycenter
    python benchmarks/transport.py deepseek    # p_I 1,408, D 6,144, 64 experts, copies
    python benchmarks/transport.py mixtral     # p_I 14,336, D 12,288, 8 experts, copies
    python benchmarks/transport.py unrelated   # the same, unrelated
    python benchmarks/transport.py qwen        # p_I 768, D 6,144, 128 experts, copies: against their products
    python benchmarks/transport.py assignment  # our assignment solver against lapjv, lapx and scipy
    python benchmarks/transport.py rebasin     # Git Re-Basin of unrelated experts at Switch size
    python benchmarks/transport.py growth      # time against p_I, D and N, with fitted exponents

Ratios are of times measured in the same run on the same machine. Besides wall time, the processor time of all threads
is printed, which depends less on other load of the machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
import ot
import torch
from torch import Tensor

from resmoe_lab.centers import merge_many
from resmoe_lab.experts import ExpertStack
from resmoe_lab.transport import Barycenter, assign, barycenter, objective, squared_distances
from resmoe_lab.transport.assignment import backends
from resmoe_lab.transport.cost import add_products
from resmoe_lab.transport.matching import match

T = TypeVar("T")


class Clock(NamedTuple):
    """Wall and processor time in seconds."""

    wall: float
    cpu: float

    def __truediv__(self, other: Clock) -> str:
        return f"{self.wall / other.wall:.2f} ({self.cpu / other.cpu:.2f} by processor time)"

    def __str__(self) -> str:
        return f"{self.wall:9.2f} s (cpu {self.cpu:8.2f})"


def timed(work: Callable[[], T]) -> tuple[T, Clock]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, Clock(time.perf_counter() - wall, time.process_time() - cpu)


def unrelated(experts: int, neurons: int, width: int, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    stack = torch.empty(experts, neurons, width, dtype=dtype)
    for rows in stack:
        rows.copy_(torch.randn(neurons, width, generator=generator))
    return stack


def copies(
    experts: int, neurons: int, width: int, *, noise: float, dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Return noisy permuted copies of one expert, and the permutations that align them with the first."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(neurons, width, generator=generator)
    stack, orders = torch.empty(experts, neurons, width, dtype=dtype), []
    for rows in stack:
        orders.append(torch.randperm(neurons, generator=generator))
        rows.copy_(torch.randn(neurons, width, generator=generator).mul_(noise).add_(base)[orders[-1]])
    return stack, torch.stack([order.argsort()[orders[0]] for order in orders])


def products(stack: Tensor, count: int) -> Clock:
    """Return the time of `count` full cost-matrix products, extrapolated from at most seven."""
    buffer = torch.empty(stack.shape[1], stack.shape[1])
    add_products(buffer.zero_(), stack[0], stack[1])
    few = min(count, 7)
    _, clock = timed(lambda: [add_products(buffer.zero_(), stack[0], stack[1 + i]) for i in range(few)])
    return Clock(clock.wall * count / few, clock.cpu * count / few)


def published(stack: Tensor) -> tuple[float, Clock]:
    """Return the objective and time of the published call; its center is evaluated with exact assignments."""
    points = [rows.double().numpy() for rows in stack]
    masses = np.full(stack.shape[1], 1 / stack.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        center, clock = timed(
            lambda: ot.lp.free_support_barycenter(
                points, [masses] * len(points), points[0], masses, numItermax=100, stopThr=1e-7
            )
        )
    center_tensor = torch.from_numpy(center).float()
    orders = torch.stack(
        [match(center_tensor, rows, products=torch.empty(2 * [len(rows)])).permutation for rows in stack]
    )
    mean = torch.stack([rows[order] for rows, order in zip(stack, orders, strict=True)]).mean(0)
    return min(objective(stack, orders, center_tensor), objective(stack, orders, mean)), clock


def search(name: str, stack: Tensor, *, truth: Tensor | None = None, **options: Any) -> tuple[Barycenter, Clock]:
    """Run one search and print its result."""
    result, clock = timed(lambda: barycenter(stack, **options))
    line = f"  {name:<24}{clock}   objective {result.objective:.6g}   rounds {result.iterations}"
    if result.certificate is not None:
        line += f"   gap {100 * result.certificate.gap:.2g} % ({result.certificate.kind})"
    if truth is not None:
        line += f"   recovered {bool(torch.equal(result.permutations, truth))}"
    print(f"{line}   [{result.plan.mode}]", flush=True)
    return result, clock


def switch(size: tuple[int, int, int] = (8, 3072, 1537)) -> None:
    for kind in ("unrelated", "copies"):
        stack, truth = (unrelated(*size), None) if kind == "unrelated" else copies(*size, noise=0.1)
        product_time = products(stack, 7)
        print(f"Switch size {size}, {kind}: 7 cost-matrix products alone {product_time}", flush=True)
        ours = {
            name: search(name, stack, truth=truth, solver=name.split(",")[0], certify="certified" in name)
            for name in ("alternating", "coordinate", "coordinate, certified")
        }
        theirs, clock = published(stack)
        print(f"  {'published call':<24}{clock}   objective {theirs:.6g}")
        for name, (result, time_taken) in ours.items():
            print(
                f"  {name}: published call / ours {clock / time_taken}; ours / products {time_taken / product_time}; ",
                end="",
            )
            print(f"objective {100 * (result.objective / theirs - 1):+.3f} %", flush=True)


def deepseek(size: tuple[int, int, int] = (64, 1408, 6144)) -> None:
    for noise in (0.1, 0.3, 0.5, 0.8):
        stack, truth = copies(*size, noise=noise)
        product_time = products(stack, len(stack) - 1)
        print(f"DeepSeekMoE size {size}, noise {noise}: {len(stack) - 1} products alone {product_time}")
        _, clock = search("coordinate, certified", stack, truth=truth)
        print(f"  ours / products {clock / product_time}", flush=True)


def mixtral(size: tuple[int, int, int] = (8, 14336, 12288)) -> None:
    for dtype in (torch.bfloat16, torch.float32):
        stack, truth = copies(*size, noise=1.0, dtype=dtype)
        print(f"Mixtral size {size}, {dtype}, noise as large as the weights", flush=True)
        search("coordinate, certified", stack, truth=truth)
        print(f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB", flush=True)
        del stack


def unrelated_experts(size: tuple[int, int, int] = (8, 14336, 12288)) -> None:
    stack = unrelated(*size, dtype=torch.bfloat16)
    print(f"Mixtral size {size}, bfloat16, unrelated", flush=True)
    search("coordinate", stack, certify=False)
    print(f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB", flush=True)


def growth() -> None:
    base = {"experts": 6, "neurons": 1024, "width": 1024}
    steps = {"experts": (4, 8, 16), "neurons": (768, 1536, 3072), "width": (512, 2048, 8192)}
    for kind in ("unrelated", "copies"):
        for name, values in steps.items():
            clocks = []
            for value in values:
                size = tuple({**base, name: value}.values())
                stack = unrelated(*size) if kind == "unrelated" else copies(*size, noise=0.1)[0]
                clocks.append(min(timed(lambda stack=stack: barycenter(stack, certify=False))[1].cpu for _ in range(2)))
            exponent = np.polyfit(np.log(values), np.log(clocks), 1)[0]
            print(f"growth, {kind}: {name} {values}: cpu {[round(c, 3) for c in clocks]} s, exponent {exponent:.2f}")


def qwen(size: tuple[int, int, int] = (128, 768, 6144)) -> None:
    for noise in (0.1, 0.5, 0.8):
        stack, truth = copies(*size, noise=noise)
        product_time = products(stack, len(stack) - 1)
        print(f"Qwen3 size {size}, noise {noise}: {len(stack) - 1} products alone {product_time}")
        _, clock = search("coordinate, certified", stack, truth=truth)
        print(f"  ours / products {clock / product_time}", flush=True)


def assignment() -> None:
    """Solve the same problems with every backend; a warm start has the potentials of slightly different costs."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(768, 6144), (1408, 1024), (3072, 1537), (3072, 64), (3072, 2)]
    for size, width in shapes:
        a, b, noise = torch.randn(3, size, width, generator=generator)
        cost, near = squared_distances(a, b), squared_distances(a + 0.1 * noise, b)
        potential = assign(near).col_potential
        clocks = {}
        for name in backends():
            (result, clock) = timed(lambda cost=cost, name=name: assign(cost, backend=name))
            warm, warm_clock = timed(lambda cost=cost, name=name, v=potential: assign(cost, backend=name, potential=v))
            clocks[name] = (clock, warm_clock)
            bound = float(result.row_potential.sum() + result.col_potential.sum())
            gap = result.cost / bound - 1
            print(f"  {size} points in {width} dimensions, {name:<8}{clock}, warm {warm_clock}   gap {gap:.1e}")
        for name in backends()[1:]:
            cold, warm = (theirs / ours for theirs, ours in zip(clocks[name], clocks["native"], strict=True))
            print(f"  {name} / native {cold}, warm {warm}", flush=True)


def rebasin(size: tuple[int, int, int] = (8, 3072, 1537)) -> None:
    stack = ExpertStack(unrelated(*size), blocks=(), layer=0)
    orders, clock = timed(lambda: merge_many(stack))
    print(f"Git Re-Basin, size {size}, unrelated: {clock}   objective {objective_of(stack.weights, orders):.6g}")


def objective_of(stack: Tensor, orders: Tensor) -> float:
    mean = torch.stack([rows[order] for rows, order in zip(stack, orders, strict=True)]).mean(0)
    return objective(stack, orders, mean)


BENCHMARKS = {
    "switch": switch, "deepseek": deepseek, "qwen": qwen, "mixtral": mixtral, "unrelated": unrelated_experts,
    "assignment": assignment, "rebasin": rebasin, "growth": growth,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=BENCHMARKS, nargs="+")
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"{torch.backends.cpu.get_cpu_capability()}, POT {ot.__version__}, assignment by {backends()[0]}, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    for what in parser.parse_args().what:
        BENCHMARKS[what]()


if __name__ == "__main__":
    main()
