"""A policy's weights on their way from learner to sampler, under one version and checksum."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Weights:
    """Connector and language model by checkpoint names, with the version and checksum that prove them."""

    version: int
    checksum: str
    tensors: dict[str, Tensor]


def checksum_of(tensors: Mapping[str, Tensor]) -> str:
    """A checksum over names, dtypes, shapes and bytes of a state dict, whatever its order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()[:16]
