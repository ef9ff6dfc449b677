"""The weights that a sampler uses: of its connector and embeddings, and of its engine, under one version."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from actors.stale_weights import StaleWeights
from actors.weights import Weights, digests_of, joined
from rlaif.models.policy import Policy
from rlaif.models.settings import PolicyError
from rlaif.models.stored_weights import StoredWeights, stored_dtype

LANGUAGE = "language_model."


class SamplerWeights:
    """What a sampler writes with, tensor by tensor; new weights are proved before and after they are taken in.

    The policy's own language model lets go of all but its embeddings: the engine has the rest.
    """

    def __init__(self, policy: Policy, folder: Path, engine: Any, version: int) -> None:
        self.policy, self.engine, self.version = policy, engine, version
        dtype = stored_dtype(folder)
        self.digests = digests_of({name: one.to(dtype) for name, one in policy.weights().items()})
        self.tied = bool(policy.language_model.config.tie_word_embeddings)
        words = policy.language_model.get_input_embeddings().weight
        names = {id(one): name for name, one in policy.named_parameters()}
        self.embeddings = names[id(words)]
        for name, one in policy.named_parameters():
            if name.startswith(LANGUAGE) and one is not words:
                one.data = one.data.new_empty(0)

    @property
    def checksum(self) -> str:
        """The checksum of all weights in use."""
        return joined(self.digests)

    def load(self, weights: Weights) -> tuple[int, str]:
        """Takes new weights in; gives the version and checksum in use.

        Raises StaleWeights where what came is not what was sent, or the engine does not use it, and PolicyError where
        it is another policy's.
        """
        tensors, beside = dict(weights.tensors), dict[str, Tensor]()
        if weights.adapters is not None:
            stored = StoredWeights(Path(weights.adapters.base))
            tensors |= {name: one.merged_into(stored[name]) for name, one in weights.adapters.layers.items()}
            beside = {name: stored[name] for name in stored.siblings(weights.adapters.layers)}
        came = digests_of(tensors)
        received = came if weights.adapters is None else self.digests | came
        if strange := sorted(received.keys() ^ self.digests.keys()):
            raise PolicyError(f"weights version {weights.version} are of another policy: {', '.join(strange)}")
        if joined(received) != weights.checksum:
            raise StaleWeights(
                f"weights version {weights.version} arrived as {joined(received)}, sent as {weights.checksum}: "
                "they were damaged on the way, or the sampler does not stand on the same base; start the run again"
            )
        self._keep(tensors)
        language = {
            name.removeprefix(LANGUAGE): one for name, one in (beside | tensors).items() if name.startswith(LANGUAGE)
        }
        # Also a head that is one with the embeddings: on a CPU vLLM keeps a packed copy of it, which would stay old.
        if self.tied and self.embeddings in tensors:
            language["lm_head.weight"] = tensors[self.embeddings]
        self.engine.collective_rpc("load_policy_weights", args=(language, weights.adapters is None))
        return self._now(weights.version, received)

    def transfer(self, step: str, told: dict[str, Any]) -> None:
        """One step of vLLM's weight transfer, in all of the engine's workers."""
        if step == "start_weight_update":
            self.engine.collective_rpc("watch_weights")
        self.engine.collective_rpc(step, kwargs=told)

    def adopt(self, weights: Weights) -> tuple[int, str]:
        """Takes in what stands beside the weights that the engine was given by transfer, and proves both together.

        Raises StaleWeights as `load` does.
        """
        here = digests_of(weights.tensors)
        for number, seen in enumerate(self.engine.collective_rpc("watched_weights")):
            received = {LANGUAGE + name: digest for name, digest in seen.items()} | here
            if joined(received) != weights.checksum:
                raise StaleWeights(
                    f"weights version {weights.version} arrived at worker {number} as {joined(received)}, sent as "
                    f"{weights.checksum}: start the run again, it goes on from its last checkpoint"
                )
        self._keep(weights.tensors)
        return self._now(weights.version, received)

    def _keep(self, tensors: dict[str, Tensor]) -> None:
        """Copies what this process itself computes with."""
        own = self.policy.state_dict(keep_vars=True)
        with torch.no_grad():
            for name, tensor in tensors.items():
                if name == self.embeddings or not name.startswith(LANGUAGE):
                    own[name].copy_(tensor)

    def _now(self, version: int, digests: dict[str, str]) -> tuple[int, str]:
        # The prefix cache holds keys and values that the old weights made.
        if not self.engine.reset_prefix_cache():
            raise StaleWeights(f"version {version}: the engine still holds what the old weights made of prompts")
        self.version, self.digests = version, digests
        return self.version, self.checksum
