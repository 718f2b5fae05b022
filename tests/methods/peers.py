"""What several tests against independent quantizers share."""

import torch


def weights(rows: int = 4, columns: int = 128) -> torch.Tensor:
    """Weights with outliers that every machine makes alike, (rows, columns): whole numbers over 4,096."""
    state, values = 12345, []
    for place in range(rows * columns):
        numbers = []
        for _ in range(4):
            state = (1103515245 * state + 12345) % 2**31
            numbers.append((state >> 8) % 1001 - 500)
        values.append(sum(numbers) * (6 if place % 53 == 7 else 1))
    return torch.tensor(values, dtype=torch.float32).view(rows, columns) / 4096
