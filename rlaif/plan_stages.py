"""The stages of a run in their order, and how much each does."""

from dataclasses import dataclass

from rlaif.config import Config
from rlaif.datasets.settings import PhantomDataSettings
from rlaif.plan_counts import Counts


@dataclass(frozen=True)
class Stage:
    """One stage: its name in the run's ledger, and what it does."""

    name: str
    does: str


def stages_of(config: Config, counts: Counts) -> tuple[Stage, ...]:
    """Every stage in order; those of a round once, with the rounds in the name."""
    stages = [Stage("studies", _studies(config, counts)), Stage("start", _start(config, counts))]
    if counts.imaged:
        does = (
            "reads {:,} CTs once, and encodes none: the encoder trains"
            if config.trains_encoder
            else "reads and encodes {:,} CTs once"
        )
        stages.append(Stage("ingest", does.format(counts.imaged)))
    stages.append(Stage("base", _base(config, counts)))
    heldout = f"writes and scores {counts.heldout_reports:,} greedy reports"
    stages.append(Stage("heldout/base", heldout))
    if config.run.rounds:
        align, n, start = counts.cases["align"], config.sampler.n, config.start
        dpo = config.run.alignment == "dpo"
        name, sampled = _rounds(0, config.run.rounds), _rounds(int(start.file is not None), config.run.rounds)
        if start.file is not None:
            taken = f"takes {start.key.partition('.')[2]} from {start.file}, and samples none"
            stages.append(Stage(f"{_rounds(0, 1)}: start", taken))
        if sampled:
            does = f"writes {align:,} cases x {n} candidates = {counts.candidates:,}, each judged"
            stages.append(Stage(f"{sampled}: sample", does))
        if (paired := sampled if start.pairs is not None else name) and dpo:
            stages.append(Stage(f"{paired}: pairs", f"{config.pairs.strategy} builds at most one pair a case"))
        stages += [
            Stage(f"{name}: learn", _learning(config, counts)),
            Stage(f"{name}: evaluate", heldout),
        ]
    stages.append(Stage("summary", "intervals, summary.json and report.html"))
    return tuple(stages)


def _learning(config: Config, counts: Counts) -> str:
    training = config.aligning
    name, items, of = "DPO", counts.cases["align"], "pairs"
    if config.run.alignment == "ppo":
        name, items, of = f"PPO by {config.learner.ppo.advantage}", counts.candidates, "reports"
    return f"{name}, at most {training.epochs * -(-items // training.batch):,} steps of {training.batch} {of}"


def _rounds(first: int, end: int) -> str:
    """The names of the rounds from `first` to before `end`; empty where there is none."""
    names = [f"round-{number:03d}" for number in range(first, end)]
    return " to ".join(dict.fromkeys((names[0], names[-1]))) if names else ""


def _studies(config: Config, counts: Counts) -> str:
    total = sum(counts.studies.values())
    if isinstance(config.data, PhantomDataSettings):
        return f"draws {total:,} synthetic CTs with reports, where the cache has them not, and reads them"
    return f"reads {total:,} studies from {config.data.path}"


def _start(config: Config, counts: Counts) -> str:
    policy = config.policy
    if policy.path is not None:
        return f"takes the policy of {policy.path}"
    if policy.pretrained is not None:
        model = (
            policy.pretrained.path or policy.pretrained.package or f"{policy.pretrained.published} (to be downloaded)"
        )
        return f"takes the pretrained model of {model}"
    if policy.encoder_training is None:
        return "makes a new policy"
    training = policy.encoder_training
    steps = training.epochs * -(-counts.cases["sft"] // training.batch)
    return (
        f"trains the vision encoder on what {counts.cases['sft']:,} reports name, {steps:,} steps of {training.batch}"
    )


def _base(config: Config, counts: Counts) -> str:
    if config.policy.path is not None:
        return "none: the policy is taken as it is"
    learner, cases = config.learner, counts.cases["sft"]
    steps = [
        f"{one.epochs * -(-cases // one.batch):,} steps of {one.batch} on {', '.join(one.train)}"
        for one in (learner.pretrain, learner.sft)
        if one is not None
    ]
    return f"fine-tunes on {cases:,} reports, {', then '.join(steps)}"
