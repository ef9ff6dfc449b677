"""The learners' side of vLLM's weight transfer between GPUs (NCCL) or within one (CUDA IPC)."""

from collections.abc import Sequence
from math import prod
from typing import Any

import deepspeed
import ray
from torch import Tensor, nn

from actors.gathered_weights import PolicySource
from actors.remote import Actor
from actors.weights import Weights
from rlaif.models.policy import Policy
from rlaif.weight_roads import Road


class SamplerClient:
    """What vLLM's trainer side tells the samplers' engines, each of which is given its own ranks."""

    def __init__(self, samplers: Sequence[Actor], parallel: int, timeout_s: float) -> None:
        self.samplers, self.parallel, self.timeout_s = samplers, parallel, timeout_s

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Has the engines meet the sender, which is rank 0."""
        infos = [dict(init_info) for _ in self.samplers]
        for number, info in enumerate(infos):
            if "rank_offset" in info:
                info["rank_offset"] = 1 + number * self.parallel
        self._all("init_weight_transfer_engine", [{"init_info": info} for info in infos])

    def start_weight_update(self) -> None:
        """Has the engines take weights from now on."""
        self._all("start_weight_update", [{} for _ in self.samplers])

    def update_weights(self, update_info: Any) -> None:
        """Has the engines receive what is sent meanwhile."""
        self._all("update_weights", [{"update_info": update_info} for _ in self.samplers])

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Has the engines use what came."""
        self._all("finish_weight_update", [{} for _ in self.samplers])

    def shutdown_weight_transfer_engine(self) -> None:
        """Has the engines leave the sender."""
        self._all("shutdown_weight_transfer_engine", [{} for _ in self.samplers])

    def _all(self, step: str, informed: list[dict[str, Any]]) -> None:
        calls = [one.transfer.remote(step, info) for one, info in zip(self.samplers, informed, strict=True)]
        ray.get(calls, timeout=self.timeout_s)


def transfer(
    policy: Policy, rank: int, road: Road, client: SamplerClient, meeting: tuple[str, int], version: int, checksum: str
) -> Weights:
    """Sends the language model into the samplers' engines; gives what stands beside it, under the same version.

    Every rank of the learners calls it, with the same policy.
    """
    from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
    from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo
    from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

    source: Any = PolicySource(policy, "language_model")
    if road == "nccl":
        world = 1 + len(client.samplers) * client.parallel
        info: Any = NCCLTrainerInitInfo(
            master_address=meeting[0], master_port=meeting[1], world_size=world, rank=rank, packed=True
        )
    else:
        # vLLM refuses a tensor that is larger than its buffer: the embeddings of large vocabularies are.
        largest = max(prod(one.shape) * one.dtype.itemsize for one in source.metadata())
        usual = IPCTrainerInitInfo.packed_buffer_size_bytes
        info = IPCTrainerInitInfo(rank=rank, packed=True, packed_buffer_size_bytes=max(usual, largest))
    engine = WeightTransferTrainerFactory.trainer_init(info, client=client, source=source)
    try:
        engine.send_weights()
    finally:
        engine.shutdown()
    if rank == 0:
        client.shutdown_weight_transfer_engine()
    return Weights(version, checksum, _beside(policy))


def _beside(policy: Policy) -> dict[str, Tensor]:
    """What a sampler's own process holds: connector and encoder, and the embeddings of words."""
    words: Any = policy.language_model.get_input_embeddings()
    tensors: dict[str, Tensor] = {}
    for part, module in (("connector", policy.connector), ("encoder", policy.encoder)):
        if isinstance(module, nn.Module):
            tensors |= {f"{part}.{name}": one.cpu() for name, one in PolicySource(policy, part)}
    name = next(name for name, one in policy.named_parameters() if one is words.weight)
    shared = hasattr(words.weight, "ds_id")
    with deepspeed.zero.GatheredParameters([words.weight], modifier_rank=None, enabled=shared):
        tensors[name] = words.weight.detach().cpu().clone()
    return tensors
