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
from rlaif.learner_settings import LearnerSettings, TrainingSettings
from rlaif.models.policy import ADAPTERS_FILE, ENCODER_FILE, Policy
from rlaif.models.prompt import Tokens
from rlaif.models.settings import PolicyError
from rlaif.models.visual_input import VisualInput
from rlaif.objectives.batches import plan_steps
from rlaif.objectives.dpo import dpo_loss
from rlaif.objectives.sft import sft_loss
from rlaif.preferences.examples import Answer, examples_of
from rlaif.records import Candidate, Case
from rlaif.tables import Table
from rlaif.vision import Vision

Step = dict[str, float]


class Learner:
    """One rank of the learner group."""

    def __init__(self, rank: int, settings: LearnerSettings, vision: Vision | None, seed: int) -> None:
        torch.set_num_threads(settings.threads)
        self.rank, self.settings, self.seed = rank, settings, seed
        self.with_encoder = vision is not None and vision.with_encoder
        self.vision = vision.open() if vision is not None else None
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

    def train_sft(
        self, folder: str, cases: list[Case], target: str, training: TrainingSettings, adapted: bool = True
    ) -> Iterator[Step]:
        """Trains the policy of a folder on the cases' answers and writes it to `target`; yields every step.

        `adapted` puts the configured adapters on; they are merged at the end.
        """
        policy = self._load(Path(folder), adapted=adapted)
        policy.train_only(training.train)
        prompts = [policy.prompt(case.prompt) for case in cases]
        answers = [policy.answer(case.answer or "") for case in cases]
        lengths = [len(prompt.ids) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)]
        fitting = _fitting(lengths, policy.positions)

        def loss_of(model: Any, items: tuple[int, ...], weights: Tensor) -> tuple[Tensor, Step]:
            places = [fitting[item] for item in items]
            tokens = policy.collate([prompts[i] for i in places], [answers[i] for i in places])
            features = self._features([cases[i].feature_key for i in places])
            losses = sft_loss(model(tokens.to(self.device), features), tokens.answer.to(self.device))
            return (losses * weights).sum(), {"loss": float((losses.detach() * weights).sum())}

        for step in self._train(policy, [lengths[i] for i in fitting], loss_of, training, training.lr, self.seed):
            yield step | {"left_out": float(len(cases) - len(fitting))}
        self._save(policy, Path(folder), Path(target))
        # They are merged into the base: a round that copies the base must not put them onto it once more.
        if self.rank == 0:
            (Path(target) / ADAPTERS_FILE).unlink(missing_ok=True)

    def logprob_gap(self, folder: str, run: str, round_: int) -> dict[str, float]:
        """Mean and largest difference between the sampler's log-probs and ours on a round's first candidates."""
        policy = self._frozen(Path(folder))
        gaps = []
        rows = Table(Path(run) / f"round-{round_:03d}" / "candidates", Candidate).iterate()
        for one in islice((row for row in rows if row.token_ids), self.settings.gap_candidates):
            tokens = policy.collate([policy.prompt(one.prompt)], [list(one.token_ids)]).to(self.device)
            with torch.inference_mode():
                ours = policy(tokens, self._features([one.feature_key]))[tokens.answer]
            gaps.append((ours.cpu() - torch.tensor(one.logprobs)).abs())
        every = torch.cat(gaps)
        return {"mean": float(every.mean()), "max": float(every.max()), "tokens": float(len(every))}

    def train_dpo(
        self, folder: str, base: str, reference_folder: str, run: str, round_: int, target: str
    ) -> Iterator[Step]:
        """Trains the policy of a folder on a round's pairs against the frozen reference; yields every step.

        Adapters go on on the base that they were made for.
        """
        dpo = self.settings.dpo
        pairs = examples_of(Path(run), round_)
        policy = self._load(Path(folder), base=Path(base))
        policy.train_only(dpo.train)
        reference = self._frozen(Path(reference_folder))
        whole = [policy.prompt(pair.prompt) for pair in pairs]
        both_answers = [(self._answer(policy, pair.chosen), self._answer(policy, pair.rejected)) for pair in pairs]
        sizes = [len(p.ids) + max(map(len, a)) for p, a in zip(whole, both_answers, strict=True)]
        fitting = _fitting(sizes, policy.positions)
        examples, prompts = [pairs[i] for i in fitting], [whole[i] for i in fitting]
        answers, lengths = [both_answers[i] for i in fitting], [sizes[i] for i in fitting]
        scored: dict[int, tuple[float, float]] = {}

        def batch_of(items: tuple[int, ...]) -> tuple[Tokens, list[VisualInput] | None]:
            twice = [*items, *items]
            both = [answers[i][0] for i in items] + [answers[i][1] for i in items]
            tokens = policy.collate([prompts[i] for i in twice], both).to(self.device)
            return tokens, self._features([examples[i].feature_key for i in twice])

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

        lr, seed = dpo.lr * dpo.round_decay**round_, self.seed + 1000 * (round_ + 1)
        for step in self._train(policy, lengths, loss_of, dpo, lr, seed):
            yield step | {"left_out": float(len(pairs) - len(examples))}
        self._save(policy, Path(folder), Path(target))

    def weights(self, folder: str, version: int) -> Weights:
        """The weights of a policy folder for the samplers."""
        tensors = self._frozen(Path(folder)).weights()
        return Weights(version, checksum_of(tensors), tensors)

    @property
    def _dtype(self) -> torch.dtype:
        return getattr(torch, self.settings.dtype)

    def _frozen(self, folder: Path) -> Policy:
        policy = Policy.from_pretrained(folder, dtype=self._dtype, with_encoder=self.with_encoder)
        return policy.to(self.device).requires_grad_(False)

    def _load(self, folder: Path, *, base: Path | None = None, adapted: bool = True) -> Policy:
        """The policy of a folder, to be trained; with adapters, it goes on on the base that they were made for."""
        torch.manual_seed(self.seed)
        policy = Policy.from_pretrained(folder, dtype=self._dtype, with_encoder=self.with_encoder)
        lora = self.settings.lora
        if lora is None or not adapted:
            return policy.to(self.device)
        if base is not None and base != folder:
            # The folder holds merged weights. What trains without adapters goes on from them; adapted parts do not.
            unmerged = Policy.from_pretrained(base, dtype=self._dtype)
            for part in lora.parts:
                setattr(policy, part, getattr(unmerged, part))
        policy.add_adapters(lora)
        adapters = folder / ADAPTERS_FILE
        if base is not None and base != folder and adapters.is_file():
            policy.load_state_dict(load_file(adapters), strict=False)
        return policy.to(self.device)

    def _answer(self, policy: Policy, answer: Answer) -> list[int]:
        return list(answer.token_ids) or policy.answer(answer.text)

    def _features(self, keys: list[str | None]) -> list[VisualInput] | None:
        """What the policy sees of each key; the same key is read once."""
        if self.vision is None:
            return None
        if None in keys:
            raise PolicyError("a case has no features, and the policy needs an image: ingest it first")
        read = {key: self.vision.get(str(key)).to(self.device) for key in dict.fromkeys(keys)}
        return [read[key] for key in keys]

    def _train(
        self,
        policy: Policy,
        lengths: list[int],
        loss_of: Callable[[Any, tuple[int, ...], Tensor], tuple[Tensor, Step]],
        training: TrainingSettings,
        lr: float,
        seed: int,
    ) -> Iterator[Step]:
        """Runs the plan of steps through a DeepSpeed engine; yields the step's metrics averaged over ranks."""
        plan = plan_steps(
            lengths,
            batch=training.batch,
            epochs=training.epochs,
            ranks=self.settings.ranks,
            micro_batch=self.settings.micro_batch,
            seed=seed,
        )
        trainable = [parameter for parameter in policy.parameters() if parameter.requires_grad]
        if not trainable:
            raise PolicyError(f"nothing of the policy trains: train={list(training.train)} names none of its parts")
        optimizer = torch.optim.AdamW(trainable, lr=lr, weight_decay=self.settings.weight_decay)
        warmup = int(training.warmup * len(plan))
        # transformers calls a constant rate after a warm-up by another name.
        kind = "constant_with_warmup" if training.schedule == "constant" else training.schedule
        schedule = get_scheduler(kind, optimizer, num_warmup_steps=warmup, num_training_steps=len(plan))
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
        encoder = source / ENCODER_FILE
        with deepspeed.zero.GatheredParameters(
            list(policy.parameters()), modifier_rank=None, enabled=self.settings.zero_stage == 3
        ):
            if self.rank == 0:
                policy.save_pretrained(target, encoder if encoder.is_file() else None)
        torch.distributed.barrier()


def _fitting(lengths: list[int], positions: int) -> list[int]:
    """The items that the language model has room for; raises PolicyError where it has room for none."""
    fitting = [item for item, length in enumerate(lengths) if length <= positions]
    if not fitting:
        raise PolicyError(f"every prompt with its report is longer than the language model's {positions} positions")
    return fitting


LearnerActor = ray.remote(Learner)
