"""The learners: DeepSpeed ranks that live across rounds and train the policy by SFT or DPO.

What a rank knows comes from folders, so that a round can be learnt again from the run folder alone:
every stage loads its policy, trains it with a fresh optimizer and lets it go.
"""

import os
import socket
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import deepspeed
import ray
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import get_scheduler

from actors.weights import Weights, checksum_of
from rlaif.config import LearnerSettings
from rlaif.features import FeatureStore
from rlaif.models.policy import Policy, Tokens
from rlaif.objectives.batches import plan_steps
from rlaif.objectives.dpo import dpo_loss
from rlaif.objectives.sft import sft_loss
from rlaif.preferences.examples import Answer, examples_of
from rlaif.records import Candidate, Case
from rlaif.tables import Table

Step = dict[str, float]


class Learner:
    """One rank of the learner group."""

    def __init__(self, rank: int, settings: LearnerSettings, features_folder: str | None, seed: int) -> None:
        torch.set_num_threads(settings.threads)
        self.rank, self.settings, self.seed = rank, settings, seed
        self.store = FeatureStore(Path(features_folder)) if features_folder else None
        self.device = torch.device("cuda" if settings.gpus > 0 else "cpu")

    def address(self) -> tuple[str, int]:
        """An address and a free port on this rank's node, for the group to meet at."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), probe.getsockname()[1]

    def connect(self, host: str, port: int) -> None:
        """Joins the process group."""
        os.environ |= {
            "MASTER_ADDR": host,
            "MASTER_PORT": str(port),
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.settings.ranks),
            "LOCAL_RANK": "0",
        }
        # DeepSpeed would compile a shared-memory kernel for the CPU at its first use, which takes minutes.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.init_distributed("nccl" if self.device.type == "cuda" else "gloo", verbose=False)

    def train_sft(self, folder: str, cases: list[Case], target: str) -> Iterator[Step]:
        """Trains the policy of a folder on the cases' targets and writes it to `target`; yields every step."""
        policy = self._load(Path(folder), adapters=None)
        sft = self.settings.sft
        prompts = [policy.prompt_ids(case.prompt) for case in cases]
        answers = [policy.answer_ids(case.target or "") for case in cases]

        def loss_of(model: Any, items: tuple[int, ...], weights: Tensor) -> tuple[Tensor, Step]:
            tokens = policy.collate([prompts[i] for i in items], [answers[i] for i in items])
            features = self._features([cases[i].feature_key for i in items])
            losses = sft_loss(model(self._here(tokens), features), tokens.answer.to(self.device))
            return (losses * weights).sum(), {"loss": float((losses.detach() * weights).sum())}

        lengths = [len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)]
        yield from self._train(policy, lengths, loss_of, sft.batch, sft.epochs, sft.lr, sft.warmup, self.seed)
        self._save(policy, Path(folder), Path(target))
        # They are merged into the base: a round that copies the base must not put them onto it once more.
        if self.rank == 0:
            (Path(target) / "adapters.safetensors").unlink(missing_ok=True)

    def logprob_gap(self, folder: str, run: str, round_: int) -> dict[str, float]:
        """Mean and largest difference between the sampler's log-probs and ours on a round's first candidates."""
        policy = Policy.load(Path(folder), dtype=self._dtype).to(self.device)
        gaps = []
        rows = Table(Path(run) / f"round-{round_:03d}" / "candidates", Candidate).iterate()
        for one in islice((row for row in rows if row.token_ids), self.settings.gap_candidates):
            tokens = policy.collate([policy.prompt_ids(one.prompt)], [list(one.token_ids)])
            with torch.inference_mode():
                ours = policy(self._here(tokens), self._features([one.feature_key]))[tokens.answer.to(self.device)]
            gaps.append((ours.cpu() - torch.tensor(one.logprobs)).abs())
        every = torch.cat(gaps)
        return {"mean": float(every.mean()), "max": float(every.max()), "tokens": float(len(every))}

    def train_dpo(self, folder: str, reference_folder: str, run: str, round_: int, target: str) -> Iterator[Step]:
        """Trains the policy of a folder on a round's pairs against the frozen reference; yields every step."""
        dpo = self.settings.dpo
        examples = examples_of(Path(run), round_)
        policy = self._load(Path(folder), adapters=Path(folder) / "adapters.safetensors", base=Path(reference_folder))
        if policy.connector is not None:
            policy.connector.requires_grad_(self.settings.train_connector)
        reference = Policy.load(Path(reference_folder), dtype=self._dtype).to(self.device).requires_grad_(False)
        prompts = [policy.prompt_ids(example.prompt) for example in examples]
        answers = [(self._answer(policy, e.chosen), self._answer(policy, e.rejected)) for e in examples]
        scored: dict[int, tuple[float, float]] = {}

        def batch_of(items: tuple[int, ...]) -> tuple[Tokens, Tensor | None]:
            twice = [*items, *items]
            both = [answers[i][0] for i in items] + [answers[i][1] for i in items]
            tokens = policy.collate([prompts[i] for i in twice], both)
            return self._here(tokens), self._features([examples[i].feature_key for i in twice])

        def loss_of(model: Any, items: tuple[int, ...], weights: Tensor) -> tuple[Tensor, Step]:
            tokens, features = batch_of(items)
            if any(item not in scored for item in items):
                with torch.inference_mode():
                    chosen, rejected = reference(tokens, features).sum(dim=1).chunk(2)
                scored.update(zip(items, zip(chosen.tolist(), rejected.tolist(), strict=True), strict=True))
            frozen = torch.tensor([scored[item] for item in items], device=self.device)
            chosen, rejected = model(tokens, features).sum(dim=1).chunk(2)
            result = dpo_loss(chosen, rejected, frozen[:, 0], frozen[:, 1], beta=dpo.beta)
            step = {
                "loss": result.loss.detach(),
                "margin": result.margin,
                "accuracy": (result.margin > 0).float(),
                "chosen_reward": result.chosen_reward,
                "rejected_reward": result.rejected_reward,
            }
            return (result.loss * weights).sum(), {k: float((v * weights).sum()) for k, v in step.items()}

        lengths = [len(p) + max(map(len, a)) for p, a in zip(prompts, answers, strict=True)]
        lr = dpo.lr * dpo.round_decay**round_
        seed = self.seed + 1000 * (round_ + 1)
        yield from self._train(policy, lengths, loss_of, dpo.batch, dpo.epochs, lr, dpo.warmup, seed)
        self._save(policy, Path(folder), Path(target))

    def weights(self, folder: str, version: int) -> Weights:
        """The weights of a policy folder for the samplers."""
        tensors = Policy.load(Path(folder), dtype=self._dtype).weights()
        return Weights(version, checksum_of(tensors), tensors)

    @property
    def _dtype(self) -> torch.dtype:
        return getattr(torch, self.settings.dtype)

    def _load(self, folder: Path, *, adapters: Path | None, base: Path | None = None) -> Policy:
        torch.manual_seed(self.seed)
        lora = self.settings.lora
        if lora is None:
            return Policy.load(folder, dtype=self._dtype).to(self.device)
        # Adapters go on from where the last round left them, on the base that they were made for.
        policy = Policy.load(base or folder, dtype=self._dtype)
        policy.add_adapters(lora)
        if adapters is not None and adapters.is_file() and folder != base:
            policy.language_model.load_state_dict(load_file(adapters), strict=False)
        if base is not None and policy.connector is not None:
            policy.connector.load_state_dict(load_file(folder / "connector.safetensors"))
        return policy.to(self.device)

    def _answer(self, policy: Policy, answer: Answer) -> list[int]:
        return list(answer.token_ids) or policy.answer_ids(answer.text)

    def _features(self, keys: list[str | None]) -> Tensor | None:
        if self.store is None:
            return None
        return self.store.batch([key or "" for key in keys]).to(self.device)

    def _here(self, tokens: Tokens) -> Tokens:
        return Tokens(tokens.ids.to(self.device), tokens.mask.to(self.device), tokens.answer.to(self.device))

    def _train(
        self,
        policy: Policy,
        lengths: list[int],
        loss_of: Callable[[Any, tuple[int, ...], Tensor], tuple[Tensor, Step]],
        batch: int,
        epochs: int,
        lr: float,
        warmup: float,
        seed: int,
    ) -> Iterator[Step]:
        """Runs the plan of steps through a DeepSpeed engine; yields the step's metrics averaged over ranks."""
        plan = plan_steps(
            lengths,
            batch=batch,
            epochs=epochs,
            ranks=self.settings.ranks,
            micro_batch=self.settings.micro_batch,
            seed=seed,
        )
        trainable = [parameter for parameter in policy.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trainable, lr=lr, weight_decay=0.0)
        schedule = get_scheduler(
            "linear", optimizer, num_warmup_steps=int(warmup * len(plan)), num_training_steps=len(plan)
        )
        engine, *_ = deepspeed.initialize(
            model=policy, optimizer=optimizer, lr_scheduler=schedule, config=self._deepspeed()
        )
        engine.train()
        for number, step in enumerate(plan):
            metrics: Step = {}
            for last, micro in zip((*[False] * (len(step[self.rank]) - 1), True), step[self.rank], strict=True):
                loss, measured = loss_of(engine, micro.items, torch.tensor(micro.weights, device=self.device))
                engine.set_gradient_accumulation_boundary(last)
                engine.backward(loss, scale_wrt_gas=False)
                for name, value in measured.items():
                    metrics[name] = metrics.get(name, 0.0) + value
                engine.step()
            yield {
                "step": number,
                "of": len(plan),
                **self._mean(metrics),
                "lr": schedule.get_last_lr()[0],
                "grad_norm": float(engine.get_global_grad_norm() or 0.0),
            }
        engine.destroy()
        policy.eval()

    def _mean(self, metrics: Step) -> Step:
        values = torch.tensor([metrics[name] for name in sorted(metrics)])
        torch.distributed.all_reduce(values)
        return dict(zip(sorted(metrics), (values / self.settings.ranks).tolist(), strict=True))

    def _deepspeed(self) -> dict[str, Any]:
        return {
            "train_micro_batch_size_per_gpu": self.settings.micro_batch,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": self.settings.max_grad_norm,
            "zero_optimization": {"stage": self.settings.zero_stage},
            "zero_allow_untested_optimizer": True,
            "bf16": {"enabled": self.settings.dtype == "bfloat16"},
            "steps_per_print": 10**9,
        }

    def _save(self, policy: Policy, source: Path, target: Path) -> None:
        """Writes the trained policy, from rank 0; the others wait until it is whole."""
        encoder = source / "encoder.safetensors"
        with deepspeed.zero.GatheredParameters(
            list(policy.parameters()), modifier_rank=None, enabled=self.settings.zero_stage == 3
        ):
            if self.rank == 0:
                policy.save(target, encoder if encoder.is_file() else None)
        torch.distributed.barrier()


LearnerActor = ray.remote(Learner)
