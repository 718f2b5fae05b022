"""The networks of the paper's experiments, at any width."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .._core.errors import UsageError

#: Channels of VGG11's convolutions at full width; "M" is a max pooling.
_VGG11: tuple[int | str, ...] = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")


class MLPNet(nn.Module):
    """A multilayer perceptron: fully connected layers ``fc1`` to ``fcL`` with ReLU between them.

    Parameters
    ----------
    widths
        Inputs, hidden layers and classes.
    bias
        Whether layers have biases; the paper's have none.

    Examples
    --------
    >>> import torch
    >>> MLPNet((784, 400, 200, 100, 10))(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, widths: Sequence[int] = (784, 400, 200, 100, 10), *, bias: bool = False) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise UsageError(f"widths are {list(widths)}, expected at least inputs and classes, all positive")
        self.depth = len(widths) - 1
        for index in range(self.depth):
            self.add_module(f"fc{index + 1}", nn.Linear(widths[index], widths[index + 1], bias=bias))

    def forward(self, images: Tensor) -> Tensor:
        """Return the class scores, (n, classes), of images with any shape (n, ...)."""
        hidden = images.flatten(1)
        for index in range(1, self.depth):
            hidden = self.get_submodule(f"fc{index}")(hidden).relu()
        return self.get_submodule(f"fc{self.depth}")(hidden)


class VGG11(nn.Module):
    """VGG11 for 32 x 32 images: eight convolutions and one linear layer.

    Parameters
    ----------
    width
        Channels of the first convolution; the others keep their ratio to it. 64 is the paper's.
    classes, channels
        Outputs, and channels of an image.
    batch_norm
        Whether a batch norm follows every convolution; the paper has none.

    Examples
    --------
    >>> import torch
    >>> VGG11(8)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, width: int = 64, *, classes: int = 10, channels: int = 3, batch_norm: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for size in _VGG11:
            if isinstance(size, str):
                layers.append(nn.MaxPool2d(2))
                continue
            out_channels = size * width // 64
            layers += [nn.Conv2d(channels, out_channels, 3, padding=1, bias=not batch_norm)]
            layers += [nn.BatchNorm2d(out_channels)] if batch_norm else []
            layers += [nn.ReLU()]
            channels = out_channels
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the class scores, (n, classes), of images (n, channels, 32, 32)."""
        return self.classifier(self.features(images).flatten(1))


class Block(nn.Module):
    """A residual block: two convolutions and a shortcut, which is a convolution if the shape changes."""

    def __init__(self, channels: int, width: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, images: Tensor) -> Tensor:
        """Return the block's output, (n, width, h, w)."""
        hidden = self.bn2(self.conv2(self.bn1(self.conv1(images)).relu()))
        return (hidden + self.shortcut(images)).relu()


class ResNet18(nn.Module):
    """ResNet18 for small images: a 3 x 3 stem, four stages of two blocks, and one linear layer.

    Parameters
    ----------
    width
        Channels of the first stage, doubled by every later one; 64 is the paper's.
    classes, channels
        Outputs, and channels of an image.

    Examples
    --------
    >>> import torch
    >>> ResNet18(4)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, width: int = 64, *, classes: int = 10, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        in_channels = width
        for stage in range(4):
            out_channels = width << stage
            blocks = [
                Block(in_channels, out_channels, stride=1 if stage == 0 else 2),
                Block(out_channels, out_channels),
            ]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            in_channels = out_channels
        self.fc = nn.Linear(in_channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the class scores, (n, classes), of images (n, channels, h, w)."""
        hidden = self.bn1(self.conv1(images)).relu()
        for stage in range(4):
            hidden = self.get_submodule(f"layer{stage + 1}")(hidden)
        return self.fc(hidden.mean((2, 3)))
