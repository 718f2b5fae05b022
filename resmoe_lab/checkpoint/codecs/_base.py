"""What a codec is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from ..._core.errors import CheckpointError
from ..._core.registry import Registry
from ..tensors import EncodedTensor, TensorInfo

Read = Callable[[Iterable[str]], Mapping[str, Tensor]]
#: Name, shape and parts of a tensor that a codec decodes.
Found = tuple[str, tuple[int, ...], EncodedTensor]


class Codec(ABC):
    """One way in which published checkpoints store quantized weights: subclass it in a file of its own and register it.

    Both methods go by what lies in the files, their names, types and shapes; what a config says of them only decides
    what those leave open.
    """

    @classmethod
    @abstractmethod
    def find(cls, stored: Mapping[str, TensorInfo], quantization: Mapping[str, Any], read: Read) -> Iterator[Found]:
        """Yield the tensors that are stored in this way, by the names that they have in an unquantized checkpoint.

        Parameters
        ----------
        stored
            All tensors of the files.
        quantization
            What the checkpoint says of its quantization.
        read
            Reads small stored tensors.

        Raises
        ------
        CheckpointError
            If parts that belong together do not fit together.
        """

    @classmethod
    @abstractmethod
    def decode(cls, encoded: EncodedTensor, parts: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        """Return the float32 tensor.

        Parameters
        ----------
        encoded
            How it is stored.
        parts
            The stored tensors by their role; of a stacked tensor, those of one expert.
        shape
            Of the result; of a stacked tensor, that of one expert.

        Raises
        ------
        CheckpointError
            If the contents of the parts do not fit together.
        """


CODECS: Registry[type[Codec]] = Registry("codec", "resmoe_lab.checkpoint.codecs")


def gather(
    stored: Mapping[str, TensorInfo], suffix: str, roles: Mapping[str, str], optional: Sequence[str] = ()
) -> Iterator[tuple[str, dict[str, tuple[str, TensorInfo]]]]:
    """Yield the parts of every tensor whose name ends in a suffix, and the stem before it.

    Parameters
    ----------
    stored
        All tensors of the files.
    suffix
        What the name of the first part ends in; its role is ``"data"``.
    roles
        Roles of further parts -> what stands in place of the suffix. A tensor that lacks one is left out.
    optional
        The roles that may be missing.
    """
    for name, info in stored.items():
        if not name.endswith(suffix):
            continue
        stem = name.removesuffix(suffix)
        parts = {"data": (name, info)}
        parts |= {role: (stem + end, stored[stem + end]) for role, end in roles.items() if stem + end in stored}
        if all(role in parts or role in optional for role in roles):
            yield stem, parts


def group_weights(quantization: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what compressed-tensors' config says of the weights of each group; nothing of a group that is none."""
    groups = quantization.get("config_groups")
    named = [group for group in groups.values() if isinstance(group, dict)] if isinstance(groups, dict) else []
    return [group["weights"] for group in named if isinstance(group.get("weights"), dict)]


@contextmanager
def fitting(what: str) -> Iterator[None]:
    """Have arithmetic that goes wrong in the block say that the parts of something do not fit together.

    Raises
    ------
    CheckpointError
        In place of whatever sides of zero, missing axes and numbers out of range lead to.
    """
    try:
        yield
    except (ArithmeticError, LookupError, ValueError, TypeError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{what} does not fit together ({reason}): copy the checkpoint again") from error


def expect_shape(part: tuple[str, TensorInfo], expected: tuple[int, ...], of: str) -> None:
    """Check the shape of a part.

    Raises
    ------
    CheckpointError
        If it is another.
    """
    name, info = part
    if info.shape != expected:
        raise CheckpointError(
            f"tensor {name!r} has shape {info.shape}, expected {expected} beside {of!r}: copy the checkpoint again"
        )
