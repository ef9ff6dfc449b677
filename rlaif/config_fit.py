"""What of a configuration must fit together across its sections, before anything starts."""

from pathlib import Path
from typing import TYPE_CHECKING

from rlaif.datasets.settings import MimicCxrSettings, OpeniSettings
from rlaif.judges.prompts import load_prompt
from rlaif.judges.settings import (
    AnyJudge,
    Gpt4JudgeSettings,
    GreenJudgeSettings,
    LlmParserJudgeSettings,
    leaves_of,
)
from rlaif.models.settings import PolicySettings
from rlaif.reports.regions import REGIONS

if TYPE_CHECKING:
    from rlaif.config import Config


def check_lengths(config: "Config") -> None:
    """Raises ValueError where reports leave no room for prompts, or both do not fit a new language model."""
    language, sampler = config.policy.language_model, config.sampler
    if sampler.max_tokens >= sampler.max_length:
        raise ValueError(
            f"sampler.max_tokens={sampler.max_tokens} leaves no room for a prompt in "
            f"sampler.max_length={sampler.max_length}: lower the first or raise the second"
        )
    if language is not None and sampler.max_length > language.positions:
        raise ValueError(
            f"sampler.max_length={sampler.max_length} is more than policy.language_model.positions="
            f"{language.positions}: lower the first or raise the second"
        )


def check_judges(config: "Config") -> None:
    """Raises ValueError for judges that cannot be asked, and where one name stands for two whose verdicts could not be
    told apart."""
    for judge in (config.judge, *config.heldout.judges, *config.score.judges):
        check_judge(judge)
    for judges in ((config.judge, *config.heldout.judges), config.score.judges):
        named: dict[str, object] = {}
        for one in (one for judge in judges for one in (judge, *leaves_of(judge))):
            if named.setdefault(one.name, one) != one:
                raise ValueError(
                    f"two judges with other settings are called {one.name}: give one of them another name, such as "
                    f"{{judge: {one.kind}, name: {one.name}-2, ...}}"
                )


def scale_of(judge: AnyJudge) -> tuple[float, float]:
    """The ends of a judge's scale."""
    return (1.0, 5.0) if judge.kind == "gpt4" else (0.0, 1.0)


def check_judge(judge: AnyJudge) -> None:
    """Raises ValueError for a threshold off the judge's scale, a prompt of another judge, a model that is not there."""
    low, high = scale_of(judge)
    if not low <= judge.threshold <= high:
        raise ValueError(f"judge {judge.name}: threshold={judge.threshold:g} is off its scale, {low:g} to {high:g}")
    if judge.name == "rules" and judge.kind != "rules":
        raise ValueError(f"a judge of kind {judge.kind} may not be called rules, as rules_score is a metric of its own")
    for leaf in leaves_of(judge):
        if leaf is not judge:
            check_judge(leaf)
    if isinstance(judge, Gpt4JudgeSettings | LlmParserJudgeSettings):
        wanted = {"reference", "candidate"} if judge.kind == "gpt4" else {"reference", "first", "second"}
        if load_prompt(judge.prompt).texts != wanted:
            raise ValueError(f"judge {judge.name}: prompt={judge.prompt} is not for a judge of kind {judge.kind}")
    if isinstance(judge, GreenJudgeSettings) and not Path(judge.model).expanduser().is_dir():
        raise ValueError(f"judge {judge.name}: model={judge.model} is no folder: name that of a model's weights")


def check_start(config: "Config") -> None:
    """Raises ValueError where a file to start from would never be learnt."""
    if config.start.file is not None and not config.run.rounds:
        raise ValueError(f"{config.start.key} is what round 0 starts from, and run.rounds=0 has none: set run.rounds=1")


def check_adapters(config: "Config") -> None:
    """Raises ValueError where adapters stand on a part in which neither fine-tuning nor alignment trains anything."""
    lora, sft, alignment = config.learner.lora, config.learner.sft, config.run.alignment
    trained = {name.partition(".")[0] for training in (sft, config.aligning) for name in training.train}
    if lora is not None and (idle := [part for part in lora.parts if part not in trained]):
        raise ValueError(
            f"learner.lora.parts puts adapters on {' and '.join(idle)}, of which neither sft.train nor "
            f"{alignment}.train names anything: name it there, or leave it out of lora.parts"
        )


def check_reinforcement(config: "Config") -> None:
    """Raises ValueError where PPO would not learn from what the policy itself writes."""
    if config.run.alignment != "ppo":
        return
    sampler = config.sampler
    for key, value in (("temperature", sampler.temperature), ("top_p", sampler.top_p), ("attempts", sampler.attempts)):
        if value != 1:
            raise ValueError(
                f"sampler.{key}={value:g}: PPO learns from reports as likely as the policy makes them, so it must be 1"
            )
    if config.run.staleness:
        raise ValueError("run.staleness=1: PPO learns from the reports of the policy that trains: set it to 0")
    if config.start.file is not None:
        raise ValueError(
            f"{config.start.key}: PPO learns from what the policy itself samples; jobs/dpo_loop.py starts from files"
        )


def check_growth(config: "Config") -> None:
    """Raises ValueError where further actors might take the room of those that stand for the whole run."""
    roles = [("sampler", config.sampler), *((f"judge {name}", one) for name, one in config.leaf_judges.items())]
    growing = [role for role, one in roles if one.max_actors not in (None, one.actors)]
    if growing and config.cluster.placement == "anywhere":
        raise ValueError(
            f"max_actors of {' and '.join(growing)}: with cluster.placement=anywhere further actors may take the room "
            "of learners that start later: set cluster.placement=apart, which keeps it for them"
        )


def check_policy(config: "Config", settings: PolicySettings) -> None:
    """Raises ValueError where data, target or learner are not for a policy that says this of itself."""
    name, target = config.policy.name, config.run.target
    # Prompts of region by region name up to all of them.
    visual, sampler = settings.image_tokens + settings.region_tokens * len(REGIONS), config.sampler
    if visual + sampler.max_tokens >= sampler.max_length:
        raise ValueError(
            f"policy={name} puts {visual} visual tokens into a prompt, which with sampler.max_tokens="
            f"{sampler.max_tokens} leaves no room in sampler.max_length={sampler.max_length}: raise the last"
        )
    if settings.reads == "findings" and target != "impression":
        raise ValueError(f"policy={name} writes the impression from the findings: set run.target=impression")
    if settings.reads == "regions" and target != "findings":
        raise ValueError(f"policy={name} writes the findings of each region: set run.target=findings")
    if settings.reads != "findings" and isinstance(config.data, OpeniSettings | MimicCxrSettings):
        raise ValueError(f"data={config.data.name} holds reports alone, and policy={name} reads CTs: use policy=rgro")
    if settings.reads == "regions" and config.trains_encoder and config.learner.zero_stage == 3:
        # ZeRO 3 gathers weights whenever a rank calls a module, and the ranks' studies have unequal numbers of regions.
        raise ValueError(
            f"policy={name} encodes each region, and with learner.zero_stage=3 ranks whose studies have fewer regions "
            "would wait for ever while the encoder trains: set learner.zero_stage=2, or leave encoder out of train"
        )
