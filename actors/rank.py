"""A rank of the learner group: its place in the process group, the policies that it holds, how it steps and saves."""

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import torch
from torch import Tensor

from actors.deepspeed_training import LossOf, Step, all_finite, join, place, train
from actors.gathered_weights import gathered_weights
from actors.learner_faults import LearningFailed, told_plainly
from actors.policy_loading import KeptPolicy, PolicyForm, load_policy, record_checksum
from actors.weights import checksum_of
from rlaif.learner_settings import LearnerSettings, TrainingSettings
from rlaif.models.adapters import is_adapter
from rlaif.models.policy import ENCODER_FILE, Policy
from rlaif.models.settings import PolicyError
from rlaif.models.value_head import PolicyWithValues
from rlaif.models.visual_input import VisualInput
from rlaif.vision import Vision


class Rank:
    """One process of the learners, with the policy that was trained last."""

    def __init__(self, rank: int, settings: LearnerSettings, vision: Vision | None, seed: int) -> None:
        torch.set_num_threads(settings.threads)
        self.rank, self.settings, self.seed = rank, settings, seed
        self.with_encoder = vision is not None and vision.with_encoder
        self.vision = vision.open() if vision is not None else None
        self.device = torch.device("cuda" if settings.gpus > 0 else "cpu")
        self._kept: KeptPolicy | None = None
        self._shares: KeptPolicy | None = None
        """The policy that was trained last with ZeRO 3, of which this rank has its share."""

    def address(self) -> tuple[str, int]:
        """An address and a free port on this rank's node, for the group to meet at."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), probe.getsockname()[1]

    def ready(self, made: Any) -> None:
        """Answers once something that a rank makes is made; fails as that did."""

    def connect(self, host: str, port: int) -> None:
        """Joins the process group."""
        os.environ |= {
            "MASTER_ADDR": host,
            "MASTER_PORT": str(port),
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.settings.ranks),
            "LOCAL_RANK": "0",
        }
        with told_plainly(self.rank, self.settings):
            join(self.settings, self.device)

    def _form(self, base: Path | None, *, adapted: bool = True) -> PolicyForm:
        lora = self.settings.lora if adapted else None
        dtype: torch.dtype = getattr(torch, self.settings.dtype)
        return PolicyForm(dtype, self.with_encoder, lora, base if lora is not None else None)

    def _frozen(self, folder: Path) -> Policy:
        """The policy of a folder, not to be trained: the one that was trained last, where the folder is its own."""
        form, kept = self._form(None, adapted=False), self._kept
        alike = kept is not None and replace(kept.form, lora=None, base=None) == form
        if kept is not None and alike and kept.is_of(folder):
            return kept.policy
        if kept is not None:
            # A GPU need not hold both.
            kept.policy.to("cpu")
        return load_policy(folder, form).requires_grad_(False)

    def _load(self, folder: Path, form: PolicyForm) -> Policy:
        """The policy of a folder, to be trained."""
        torch.manual_seed(self.seed)
        kept, self._kept, self._shares = self._kept, None, None
        # Adapters that were merged for good are none to go on from.
        whole = form.lora is None or form.base is not None
        if kept is not None and kept.form == form and whole and kept.is_of(folder):
            return kept.policy
        return load_policy(folder, form)

    def _to_transfer(self, folder: Path) -> tuple[Policy, str]:
        """The policy of a folder where it computes, with ZeRO 3 this rank's share of it, and its weights' checksum."""
        kept = self._kept or self._shares
        if kept is not None and kept.is_of(folder):
            return kept.policy, kept.checksum
        policy = self._frozen(folder)
        # While they are whole: afterwards they may be shared out.
        checksum = checksum_of(policy.weights())
        place(policy, self.settings, self.device, trains=False)
        return policy, checksum

    def _features(self, keys: list[str | None]) -> list[VisualInput] | None:
        """What the policy sees of each key; the same key is read once."""
        if self.vision is None:
            return None
        if None in keys:
            raise PolicyError("a case has no features, and the policy needs an image: ingest it first")
        read = {key: self.vision.get(str(key)).to(self.device) for key in dict.fromkeys(keys)}
        return [read[key] for key in keys]

    def _steps(
        self,
        policy: Policy | PolicyWithValues,
        lengths: list[int],
        loss_of: LossOf,
        training: TrainingSettings,
        lr: float,
        seed: int,
    ) -> Iterator[Step]:
        rank, device = self.rank, self.device
        return train(policy, lengths, loss_of, training, self.settings, rank=rank, device=device, lr=lr, seed=seed)

    def _tensor(self, values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values, device=self.device)

    def _save(self, policy: Policy, form: PolicyForm, source: Path, target: Path) -> None:
        """Writes the trained policy, from rank 0, while the others wait; they keep it as long as none trains anew."""
        if not all_finite(policy, self.device):
            raise LearningFailed("the weights are no numbers after the last step: nothing was saved. Lower the lr")
        told = [""]
        shared_out = self.settings.zero_stage == 3
        # Layer by layer: no GPU may hold all of it.
        tensors = gathered_weights(policy, keep=self.rank == 0) if shared_out else {}
        if self.rank == 0:
            tensors = tensors or policy.weights() | policy.adapters()
            encoder = source / ENCODER_FILE
            policy.save_pretrained(target, encoder if encoder.is_file() else None, tensors)
            told = [checksum_of({name: one for name, one in tensors.items() if not is_adapter(name)})]
            record_checksum(target, told[0])
        torch.distributed.broadcast_object_list(told, src=0, device=self.device)
        # With ZeRO 3 no rank has the whole of it.
        if shared_out:
            self._shares = KeptPolicy(told[0], form, policy)
        else:
            self._kept = KeptPolicy(told[0], form, policy)
