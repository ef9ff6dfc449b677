"""The learners: DeepSpeed ranks that live across rounds and train the policy by SFT, DPO or PPO.

What a rank knows comes from folders, so that a round can be learnt again from the run folder alone:
every stage loads its policy, trains it with a fresh optimizer and lets it go.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import ray
import torch
from torch import Tensor, nn

from actors.deepspeed_training import Step, frozen, released
from actors.learner_faults import LearningFailed, told_plainly
from actors.learner_weights import weights_to_send
from actors.policy_loading import (
    check_same_architecture,
    load_policy,
)
from actors.ppo_training import experience, ppo_loss
from actors.preference_batches import PreferenceBatches, fitting
from actors.preference_loss import preference_loss
from actors.rank import Rank
from actors.reference import ReferenceLogprobs
from actors.remote import Actor
from actors.rollout_batches import RolloutBatches
from actors.value_heads import policy_with_values, save_value_head
from actors.weights import Weights
from rlaif.learner_settings import TrainingSettings
from rlaif.models.adapters import is_adapter, without_adapters
from rlaif.models.policy import ADAPTERS_FILE, Policy
from rlaif.models.stored_weights import stored_dtype
from rlaif.models.value_head import VALUE_HEAD_FILE, PolicyWithValues
from rlaif.objectives.batches import MicroBatch
from rlaif.objectives.sft import sft_loss
from rlaif.preferences.examples import PreferenceExample, examples_of
from rlaif.records import Candidate, Case
from rlaif.rollouts import compared, rollouts_of, with_shuffled_scores
from rlaif.tables import Table
from rlaif.weight_roads import Road

# Over so many steps of PPO the divergence from the reference is averaged, before it is held against its bound.
KL_STEPS = 4


class Learner(Rank):
    """One rank of the learner group, and what it can be asked to do."""

    def train_sft(
        self, folder: str, cases: list[Case], target: str, training: TrainingSettings, adapted: bool = True
    ) -> Iterator[Step]:
        """Trains the policy of a folder on the cases' answers and writes it to `target`; yields every step.

        `adapted` puts the configured adapters on; they are merged at the end. Raises LearningFailed where the loss is
        no number, LearnerOutOfMemory and PeerLost as their names say.
        """
        with told_plainly(self.rank, self.settings):
            yield from self._train_sft(Path(folder), cases, Path(target), training, adapted)

    def train_dpo(
        self, folder: str, base: str, reference_folder: str, run: str, round_: int, target: str
    ) -> Iterator[Step]:
        """Trains the policy of a folder on a round's pairs against the frozen reference; yields every step.

        Adapters go on on the base that they were made for. Raises as `train_sft`, and PolicyError where policy, base
        and reference are not of one architecture.
        """
        with told_plainly(self.rank, self.settings):
            yield from self._train_dpo(
                Path(folder), Path(base), Path(reference_folder), Path(run), round_, Path(target)
            )

    def train_ppo(
        self, folder: str, base: str, run: str, round_: int, target: str, judge: str, kl_weight: float
    ) -> Iterator[Step]:
        """Trains the policy of a folder by PPO on a round's reports and a judge's scores of them; yields every step.

        The base is the frozen reference. Raises as `train_dpo`, and LearningFailed where the KL divergence from the
        reference is above `learner.ppo.max_kl`.
        """
        with told_plainly(self.rank, self.settings):
            yield from self._train_ppo(Path(folder), Path(base), Path(run), round_, Path(target), judge, kl_weight)

    def logprob_gap(self, folder: str, run: str, round_: int) -> Iterator[dict[str, float]]:
        """Mean and largest difference between the sampler's log-probs and ours on a round's first candidates, once.

        All ranks are called: with ZeRO 3 the policy is shared out over them, else rank 0 alone computes and answers.
        """
        shared_out = self.settings.zero_stage == 3
        if self.rank and not shared_out:
            return
        with told_plainly(self.rank, self.settings):
            policy = self._frozen(Path(folder))
            model = frozen(policy, self.settings, self.device) if shared_out else policy.to(self.device)
            gaps = []
            rows = Table(Path(run) / f"round-{round_:03d}" / "candidates", Candidate).iterate()
            for one in islice((row for row in rows if row.token_ids), self.settings.gap_candidates):
                tokens = policy.collate([policy.prompt(one.prompt)], [list(one.token_ids)]).to(self.device)
                with torch.no_grad():
                    ours = model(tokens, self._features([one.feature_key]))[tokens.answer]
                gaps.append((ours.cpu() - torch.tensor(one.logprobs)).abs())
            if shared_out:
                released(model)
        every = torch.cat(gaps)
        yield {"mean": float(every.mean()), "max": float(every.max()), "tokens": float(len(every))}

    def weights(self, folder: str, version: int) -> Weights:
        """The weights of a policy folder for the samplers: from memory where it was trained here, else as stored."""
        kept, source = self._kept, Path(folder)
        if kept is not None and kept.is_of(source):
            return weights_to_send(kept.policy, version, kept.checksum, kept.form.base)
        form = replace(self._form(None, adapted=False), dtype=stored_dtype(source))
        return weights_to_send(load_policy(source, form), version, None, None)

    def transfer(
        self,
        folder: str,
        version: int,
        road: Road,
        samplers: list[Actor],
        parallel: int,
        meeting: tuple[str, int],
        timeout_s: float,
    ) -> Weights | None:
        """Sends a policy folder's weights into the samplers' engines by a road between GPUs, from rank 0.

        Every rank is called at once; rank 0 gives what stands beside the engines' weights.
        """
        from actors.gpu_weights import SamplerClient, transfer

        policy, checksum = self._to_transfer(Path(folder))
        client = SamplerClient(samplers, parallel, timeout_s)
        beside = transfer(policy, self.rank, road, client, meeting, version, checksum)
        return beside if self.rank == 0 else None

    def _train_sft(
        self, folder: Path, cases: list[Case], target: Path, training: TrainingSettings, adapted: bool
    ) -> Iterator[Step]:
        form = self._form(None, adapted=adapted)
        policy = self._load(folder, form)
        policy.train_only(training.train)
        prompts = [policy.prompt(case.prompt) for case in cases]
        answers = [policy.answer(case.answer or "") for case in cases]
        lengths = [len(prompt.ids) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)]
        places = fitting(lengths, policy.positions)

        def loss_of(model: Any, micro: MicroBatch, _: tuple[int, ...]) -> tuple[Tensor, dict[str, Tensor]]:
            here = [places[item] for item in micro.items]
            tokens = policy.collate([prompts[i] for i in here], [answers[i] for i in here]).to(self.device)
            losses = sft_loss(model(tokens, self._features([cases[i].feature_key for i in here])), tokens.answer)
            loss = (losses * self._tensor(micro.weights)).sum()
            return loss, {"loss": loss.detach()}

        for step in self._steps(policy, [lengths[i] for i in places], loss_of, training, training.lr, self.seed):
            yield step | {"left_out": float(len(cases) - len(places))}
        self._save(policy, form, folder, target)
        # They are merged into the base: a round that copies the base must not put them onto it once more.
        if self.rank == 0:
            (target / ADAPTERS_FILE).unlink(missing_ok=True)

    def _train_dpo(
        self, folder: Path, base: Path, reference_folder: Path, run: Path, round_: int, target: Path
    ) -> Iterator[Step]:
        dpo = self.settings.dpo
        check_same_architecture(folder, base, reference_folder)
        examples = examples_of(run, round_)
        pairs, reference = yield from self._scored_beforehand(examples, reference_folder)
        form = self._form(base)
        policy = self._load(folder, form)
        policy.train_only(dpo.train)
        _without_dropout(policy)
        if pairs is None or reference is None:
            pairs = PreferenceBatches(examples, policy, self._features, self.device)
            reference = self._reference(pairs, policy, reference_folder)
        loss_of = partial(preference_loss, pairs, reference, dpo)
        lr, seed = dpo.lr * dpo.round_decay**round_, self.seed + 1000 * (round_ + 1)
        epoch = -(-len(pairs.lengths) // dpo.batch)
        for step in self._steps(policy, pairs.lengths, loss_of, dpo, lr, seed):
            if step["step"] + 1 == epoch:
                reference.complete()
            yield step | {"left_out": float(pairs.left_out)}
        self._save(policy, form, folder, target)

    def _train_ppo(
        self, folder: Path, base: Path, run: Path, round_: int, target: Path, judge: str, kl_weight: float
    ) -> Iterator[Step]:
        ppo = self.settings.ppo
        check_same_architecture(folder, base)
        seed = self.seed + 1000 * (round_ + 1)
        sampled = rollouts_of(run, round_, judge, score_unusable=ppo.score_unusable)
        if ppo.shuffle_rewards:
            sampled = with_shuffled_scores(sampled, seed)
        valued = ppo.advantage == "gae"
        reference = self._frozen(base)
        rollouts = RolloutBatches(sampled if valued else compared(sampled), reference, self._features, self.device)
        frozen_logprobs = yield from self._of_every_token(rollouts, reference, rollouts.logprobs)
        del reference
        # A base brings no value head, whatever run its folder is of, and a new head expects nothing of any report.
        head = folder if folder != base and (folder / VALUE_HEAD_FILE).is_file() else None
        values = torch.zeros_like(rollouts.sampled_logprobs) if valued else None
        if valued and head is not None:
            with_values = policy_with_values(self._frozen(folder), head, ppo)
            values = yield from self._of_every_token(rollouts, with_values, rollouts.values)
            del with_values
        learnt_from = experience(rollouts, frozen_logprobs, values, ppo, kl_weight, steer=folder != base)
        _check_divergence(learnt_from.sampled_kl, ppo.max_kl, f"the policy of {folder}")
        form = self._form(base)
        policy = self._load(folder, form)
        policy.train_only(ppo.train)
        # With adapters' own dropout, the policy would not be the one that wrote the reports.
        _without_dropout(policy, adapters=True)
        model = policy_with_values(policy, head, ppo) if valued else policy
        loss_of = partial(ppo_loss, rollouts, learnt_from, ppo)
        told = {
            "left_out": float(rollouts.left_out),
            "sampled_kl": learnt_from.sampled_kl,
            "kl_weight": learnt_from.kl_weight,
        }
        lately: deque[float] = deque(maxlen=KL_STEPS)
        for step in self._steps(model, rollouts.lengths, loss_of, ppo, ppo.lr, seed):
            lately.append(step["kl"])
            where = f"step {int(step['step']) + 1} of {int(step['of'])}"
            _check_divergence(sum(lately) / len(lately), ppo.max_kl, where)
            yield step | told
        self._save(policy, form, folder, target)
        if isinstance(model, PolicyWithValues):
            save_value_head(model, target, write=self.rank == 0)

    def _of_every_token(
        self, rollouts: RolloutBatches, policy: nn.Module, of: Callable[[Any, tuple[int, ...]], Tensor]
    ) -> Generator[Step, None, Tensor]:
        """What a frozen policy says of every token of a round's reports."""
        settings = self.settings
        model = frozen(policy, settings, self.device)
        table = yield from rollouts.every(
            partial(of, model), rank=self.rank, ranks=settings.ranks, batch=settings.micro_batch
        )
        released(model)
        return table

    def _scored_beforehand(
        self, examples: list[PreferenceExample], folder: Path
    ) -> Generator[Step, None, tuple[PreferenceBatches | None, ReferenceLogprobs | None]]:
        """Pairs and their reference log-probs, where these are computed before the policy is loaded."""
        if self.settings.dpo.reference != "precomputed":
            return None, None
        policy = self._frozen(folder)
        pairs = PreferenceBatches(examples, policy, self._features, self.device)
        reference = self._reference(pairs, policy, folder)
        micro_batch, ranks = self.settings.micro_batch, self.settings.ranks
        yield from reference.score_all(pairs.lengths, rank=self.rank, ranks=ranks, batch=micro_batch)
        return pairs, reference

    def _reference(self, pairs: PreferenceBatches, policy: Policy, folder: Path) -> ReferenceLogprobs:
        """The source of reference log-probs; `policy` is the one that trains, or with `precomputed` the reference."""
        source, number = self.settings.dpo.reference, len(pairs.lengths)
        if source == "adapters_off":
            return ReferenceLogprobs(number, policy, pairs.sums, self.device, within=lambda: _as_base(policy))
        model = frozen(policy if source == "precomputed" else self._frozen(folder), self.settings, self.device)
        return ReferenceLogprobs(number, model, pairs.sums, self.device, release=released)


@contextmanager
def _as_base(policy: Policy) -> Iterator[None]:
    """A context in which a policy in training computes as the one that its adapters were put on."""
    policy.eval()
    with without_adapters(policy):
        yield
    policy.train()


def _check_divergence(divergence: float, most: float, where: str) -> None:
    # Also not-a-number must end the training.
    if not divergence <= most:
        raise LearningFailed(
            f"{where} has left the reference by {divergence:.1f} nats a report, more than learner.ppo.max_kl={most:g}: "
            "nothing was saved. Raise learner.ppo.kl_weight or lower learner.ppo.lr, under another run.name"
        )


def _without_dropout(policy: Policy, *, adapters: bool = False) -> None:
    """Rewards are differences of log-probs, which noise in one of them would drown; adapters may keep their own."""
    for name, module in policy.named_modules():
        if isinstance(module, nn.Dropout) and (adapters or not is_adapter(name)):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0


LearnerActor = ray.remote(Learner)
