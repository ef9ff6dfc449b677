"""A policy's weights on their way from learner to sampler, under one version and checksum.

Through Ray they go as plain buffers: written once to the object store, and read where they lie by every sampler.
"""

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor

from rlaif.models.adapters import Adapter


@dataclass(frozen=True)
class AdaptedLayers:
    """The adapters of a policy, to be merged anew into the weights of the folder that they were put on."""

    base: str
    layers: dict[str, Adapter]
    """By the checkpoint name of the weight that each changes."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Trained ones are views of one buffer, all of which would go with each of them.
        buffers = {
            name: (_as_buffer(one.down), _as_buffer(one.up), one.scaling, one.transposed, one.dtype)
            for name, one in self.layers.items()
        }
        return _received_layers, (self.base, buffers)


@dataclass(frozen=True)
class Weights:
    """Connector and language model by checkpoint names, with the version and checksum that prove them.

    Where adapters go alone, `tensors` holds what trains beside them, and the checksum is that of all weights, merged.
    """

    version: int
    checksum: str
    tensors: dict[str, Tensor]
    adapters: AdaptedLayers | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        buffers = {name: _as_buffer(tensor) for name, tensor in self.tensors.items()}
        return _received, (self.version, self.checksum, buffers, self.adapters)


_Buffer = tuple[str, tuple[int, ...], "np.ndarray[Any, Any]"]


def _bytes_of(tensor: Tensor) -> "np.ndarray[Any, Any]":
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _as_buffer(tensor: Tensor) -> _Buffer:
    return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), _bytes_of(tensor)


def _from_buffer(buffer: _Buffer) -> Tensor:
    dtype, shape, data = buffer
    with warnings.catch_warnings():
        # It lies in the object store, where nobody may write; nobody does.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(data).view(getattr(torch, dtype)).reshape(shape)


def _received_layers(base: str, buffers: dict[str, tuple[_Buffer, _Buffer, float, bool, torch.dtype]]) -> AdaptedLayers:
    layers = {
        name: Adapter(_from_buffer(down), _from_buffer(up), scaling, transposed, dtype)
        for name, (down, up, scaling, transposed, dtype) in buffers.items()
    }
    return AdaptedLayers(base, layers)


def _received(version: int, checksum: str, buffers: dict[str, _Buffer], adapters: AdaptedLayers | None) -> Weights:
    tensors = {name: _from_buffer(buffer) for name, buffer in buffers.items()}
    return Weights(version, checksum, tensors, adapters)


def digests_of(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """A digest of each tensor's dtype, shape and bytes (XXH3, 128 bits: it finds accidents, not forgers)."""
    digests = {}
    for name, tensor in tensors.items():
        digest = xxhash.xxh3_128(f"{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        if tensor.numel():
            digest.update(_bytes_of(tensor).data)
        digests[name] = digest.hexdigest()
    return digests


def joined(digests: Mapping[str, str]) -> str:
    """The checksum of a state dict whose tensors have these digests, whatever their order."""
    lines = "".join(f"{name}|{digests[name]}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def checksum_of(tensors: Mapping[str, Tensor]) -> str:
    """A checksum over names, dtypes, shapes and bytes of a state dict, whatever its order."""
    return joined(digests_of(tensors))
