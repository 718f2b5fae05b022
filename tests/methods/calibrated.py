"""Calibration statistics that no text was needed for."""

import torch

from resmoe_lab.centers import Statistics


def statistics(num_experts: int, neurons: int, p: int) -> Statistics:
    """Unequal usage; inputs and neurons of unequal size; every expert similar to itself alone."""
    generator = torch.Generator().manual_seed(9)
    samples = torch.randn(50, p, generator=generator) * torch.arange(1, p + 1)
    usage = torch.arange(1, num_experts + 1).double()
    seen = torch.randn(num_experts, 50, p, generator=generator) * torch.arange(1, p + 1)
    handed_on = torch.randn(num_experts, 50, neurons, generator=generator).relu()
    return Statistics(
        usage=usage / usage.sum(),
        affinity=torch.eye(num_experts, dtype=torch.float64),
        inputs=torch.rand(num_experts, p, generator=generator),
        neurons=torch.rand(num_experts, neurons, generator=generator),
        moments=samples.T @ samples / 50,
        fisher=usage.flip(0),
        source="made up",
        tokens=50,
        expert_tokens=torch.full((num_experts,), 500),
        input_moments=seen.mT @ seen / 50,
        neuron_moments=handed_on.mT @ handed_on / 50,
    )
