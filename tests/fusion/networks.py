"""Small networks, and ways to change them that an alignment must undo; written without the package's own tools."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from resmoe_lab.fusion import VGG11, Graph, MLPNet, ResNet18


def seeded(make: type[nn.Module], *arguments: object, seed: int = 0, **options: object) -> nn.Module:
    torch.manual_seed(seed)
    return make(*arguments, **options).eval()


def mlp(widths: tuple[int, ...] = (12, 9, 7, 4), *, bias: bool = True, seed: int = 0) -> MLPNet:
    return seeded(MLPNet, widths, bias=bias, seed=seed)


def vgg(*, batch_norm: bool = True, seed: int = 0) -> nn.Module:
    return alive(seeded(VGG11, 8, batch_norm=batch_norm, channels=1, seed=seed))


def resnet(seed: int = 0) -> nn.Module:
    return alive(seeded(ResNet18, 4, channels=1, seed=seed))


def alive(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give norms statistics and scales that are not their first ones."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            for tensor in (*module.parameters(), *module.buffers()):
                if tensor.is_floating_point():
                    tensor.data.add_(0.3 * torch.rand(tensor.shape, generator=generator))
    return network


def permuted(network: nn.Module, graph: Graph, seed: int = 1) -> nn.Module:
    """Reorder the neurons of every variable, in all tensors that have them; the function stays the same."""
    generator = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(network)
    state = other.state_dict()
    for variable in graph.variables:
        order: Tensor | None = None
        for layer in graph.layers:
            for name, tensor in state.items():
                if name.rpartition(".")[0] != layer.name or tensor.ndim == 0:
                    continue
                if layer.out == variable:
                    order = torch.randperm(len(tensor), generator=generator) if order is None else order
                    tensor.copy_(tensor[order].clone())
        assert order is not None
        for layer in graph.layers:
            if layer.kind == "dense" and layer.into == variable:
                weight = state[f"{layer.name}.weight"]
                inner = weight.shape[1] // len(order)
                columns = (order[:, None] * inner + torch.arange(inner)).flatten()
                weight.copy_(weight[:, columns].clone())
    return other


def largest_difference(a: nn.Module, b: nn.Module) -> float:
    """Largest difference of any two tensors."""
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return max(float((x.double() - y.double()).abs().max()) for x, y in pairs)
