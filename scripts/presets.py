"""Prints, as a table for docs/cluster.md, which policy in which size fits which preset of `cluster`, or what is short.

.venv/bin/python scripts/presets.py
"""

from collections.abc import Iterator

from hydra import compose, initialize_config_dir

from rlaif.config import Config, load_config
from rlaif.launch import CONFIGS, PROJECT, sized
from rlaif.models.size import PolicySize, policy_size
from rlaif.plan import trained_at_once
from rlaif.plan_engines import sequences_that_fit
from rlaif.plan_fits import shortages
from rlaif.plan_memory import GIB, Role, amount
from rlaif.plan_needs import roles_of
from rlaif.plan_trainings import language_model_of, settings_of

PRESETS = sorted(
    (path.stem for path in (CONFIGS / "cluster").glob("gpus_*.yaml")), key=lambda name: (int(name.split("_")[1]), name)
)


def configured(*overrides: str) -> Config:
    """The configuration of a command line."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return load_config(sized(compose("config", [*overrides]), overrides), PROJECT)


def rows(policy: str, size: str) -> Iterator[str]:
    """The table's lines of one policy in one size."""
    known: tuple[PolicySize, int] | None = None
    for preset in PRESETS:
        if preset.endswith("_large") and not size.startswith("70b"):
            continue
        config = configured(f"policy={policy}", f"policy.size={size}", f"cluster={preset}")
        settings = settings_of(config)
        # What trains does not follow the preset, and takes seconds to count.
        known = known or (
            policy_size(language_model_of(config), settings, config.learner.lora),
            trained_at_once(config),
        )
        roles = roles_of(config, settings, *known)
        told = "; ".join(" ".join(one.split(": ")[:2]) for one in shortages(config, roles)) or "fits"
        cells = [f"`{policy}`", f"`{size}`", f"`{preset}`", *_numbers(config, roles, known[0]), told]
        yield f"| {' | '.join(cells)} |"


def _numbers(config: Config, roles: tuple[Role, ...], size: PolicySize) -> tuple[str, str, str, str]:
    card = (config.cluster.gpu_memory_gib or 0) * GIB
    by_name = {role.name: role for role in roles}
    sampler, learner = by_name["sampler"], by_name["learner"]
    engine = f"{amount(sampler.gpu_bytes)} of {amount(sampler.gpu_taken(card))}"
    host = f"{amount(learner.bytes)}, {amount(sampler.bytes)}"
    return amount(learner.gpu_bytes), engine, str(sequences_that_fit(config, size, sampler, card)), host


def main() -> None:
    titles = ("policy", "size", "preset", "learner, a GPU", "sampler, a GPU", "reports at once", "host, each", "")
    print(f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}")
    for folder in sorted(path for path in (CONFIGS / "size").iterdir() if path.is_dir()):
        for size in sorted(path.stem for path in folder.glob("*.yaml") if path.stem != "tiny"):
            for line in rows(folder.name, size):
                print(line, flush=True)


if __name__ == "__main__":
    main()
