"""A round's learning: by DPO on its pairs, or by PPO on its reports and their scores; both end in a checkpoint."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from actors.fleet import Fleet
from actors.rounds import RoundFailed
from actors.sampling_plan import needed_checkpoints, policy_at, round_name
from actors.tracking import track_stages
from rlaif.config import Config
from rlaif.ledger import RunFolder
from rlaif.progress import Progress
from rlaif.rollouts import count_rollouts

Step = dict[str, float]


def learn(run: RunFolder, config: Config, fleet: Fleet, policy: Path, base: Path, round_: int) -> Path:
    """Trains the policy by DPO on the round's pairs against the frozen reference; gives the new policy's folder.

    Raises RoundFailed where sampler and learner disagree on the same tokens, and what the learners raise, such as
    LearningFailed for a loss that is no number: the checkpoints stay as they are then.
    """
    name = round_name(round_)
    if run.done(f"{name}/learn"):
        return run.path / name / "checkpoint"
    reference = policy if config.learner.dpo.reference_moves else base

    def train(target: Path) -> Iterator[Step]:
        folders = (str(policy), str(base), str(reference))
        return fleet.learners.train("train_dpo", *folders, str(run.path), round_, str(target))

    def told(step: Step) -> str:
        return f"loss {step['loss']:.3f}  margin {step['margin']:+.3f}"

    count = run.facts(f"{name}/pairs")["pairs"]
    return _trained(run, config, fleet, policy, base, round_, count, "pairs", train, told)


def reinforce(run: RunFolder, config: Config, fleet: Fleet, policy: Path, base: Path, round_: int) -> Path:
    """Trains the policy by PPO on the round's reports and their scores, with the base as the frozen reference; gives
    the new policy's folder. Raises as `learn`.
    """
    name, judge = round_name(round_), config.judge.name
    if run.done(f"{name}/learn"):
        return run.path / name / "checkpoint"
    earlier = run.facts(f"{round_name(round_ - 1)}/learn")["kl_weight"] if round_ else config.learner.ppo.kl_weight

    def train(target: Path) -> Iterator[Step]:
        folders = (str(policy), str(base), str(run.path))
        return fleet.learners.train("train_ppo", *folders, round_, str(target), judge, earlier)

    def told(step: Step) -> str:
        return f"loss {step['loss']:.3f}  KL {step['kl']:.2f}"

    def facts(steps: list[Step]) -> dict[str, float]:
        return {"reports": count, "kl_weight": steps[0]["kl_weight"] if steps else earlier}

    ppo = config.learner.ppo
    count = count_rollouts(run.path, round_, judge, score_unusable=ppo.score_unusable, comparing=ppo.advantage != "gae")
    return _trained(run, config, fleet, policy, base, round_, count, "scored reports", train, told, facts)


def _trained(
    run: RunFolder,
    config: Config,
    fleet: Fleet,
    policy: Path,
    base: Path,
    round_: int,
    count: int,
    what: str,
    train: Callable[[Path], Iterator[Step]],
    told: Callable[[Step], str],
    facts: Callable[[list[Step]], dict[str, float]] = lambda _: {},
) -> Path:
    """The new checkpoint: the policy after `train`, or as it was where there is nothing to train on.

    `count` and `what` say what that is, `told` a step in words; `facts` are further ones for the stage's mark.
    """
    name = round_name(round_)
    started = time.monotonic()
    gap = _logprob_gap(run, config, fleet, base, round_)
    steps: list[Step] = []
    with run.folder(f"{name}/checkpoint") as target:
        if not count:
            print(f"{name}: no {what}, so the policy stays as it is", flush=True)
            shutil.copytree(policy, target, dirs_exist_ok=True, ignore=_adapters if policy == base else None)
        else:
            progress: Progress | None = None
            for step in train(target):
                progress = progress or Progress(f"{name} learn from {count} {what}", int(step["of"]))
                progress.at(int(step["step"]) + 1, told(step))
                # After a restart of the learners they begin again.
                steps[int(step["step"]) :] = [step]
    if steps and steps[0]["left_out"]:
        print(f"{name}: {int(steps[0]['left_out'])} {what} are longer than the language model's positions", flush=True)
    judging = run.facts(f"{name}/sample")["judging"]
    run.write_json(f"{name}/metrics.json", {"judging": judging, "logprob_gap": gap, "learning": {"steps": steps}})
    run.prune_checkpoints(keep=2, needed=needed_checkpoints(run))
    seconds = time.monotonic() - started
    run.finish(f"{name}/learn", seconds=seconds, steps=len(steps), logprob_gap=gap, **facts(steps))
    track_stages(run, config)
    return run.path / name / "checkpoint"


def _logprob_gap(run: RunFolder, config: Config, fleet: Fleet, base: Path, round_: int) -> dict[str, float] | None:
    """How far sampler and learner differ on the same tokens; None for given reports, which no sampler wrote."""
    name = round_name(round_)
    sampled = run.facts(f"{name}/sample")
    if "given" in sampled:
        return None
    gap: dict[str, float] = fleet.learners.logprob_gap(
        str(policy_at(run, base, sampled["version"])), str(run.path), round_
    )
    # Also not-a-number must fail the round.
    if not gap["mean"] <= config.learner.max_logprob_gap:
        raise RoundFailed(
            f"{name}: sampler and learner differ by {gap['mean']:.2e} on average in the log-probs of the same tokens, "
            f"more than learner.max_logprob_gap={config.learner.max_logprob_gap:g}: "
            "the sampler's weights are not the policy's"
        )
    return gap


def _adapters(folder: str, names: list[str]) -> list[str]:
    """What a copy of the base leaves out: its adapters are merged, and the next round would put them on once more."""
    from rlaif.models.policy import ADAPTERS_FILE

    return [name for name in names if name == ADAPTERS_FILE]
