"""Prints, as tables for docs/scale.md, what the policies in their papers' sizes take: bytes, and operations.

.venv/bin/python scripts/paper_scale.py --prompt-tokens 40 --report-tokens 250
.venv/bin/python scripts/paper_scale.py --prompt-tokens 40 --report-tokens 250 --only argus/8b

Bytes and parameters are exact. Lengths are yours: tokens of a prompt without its visual tokens, and of a report.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from argument_types import counted, positive
from presets import configured

from rlaif.config import Config
from rlaif.features import feature_bytes
from rlaif.launch import CONFIGS
from rlaif.metrics.scale import markdown_table, short
from rlaif.models.settings import PolicySettings
from rlaif.models.size import PolicySize, policy_size
from rlaif.plan_memory import amount, width
from rlaif.plan_needs import policy_bytes
from rlaif.plan_trainings import language_model_of, settings_of
from rlaif.reports.regions import REGIONS

SIZES = sorted(f"{path.parent.name}/{path.stem}" for path in (CONFIGS / "size").glob("*/*.yaml") if path.stem != "tiny")
STUDIES = 50_000
TERA = 1e12
# Operations a parameter and position: of a forward pass, of the gradients of activations, and of those of weights. The
# attention's own products are left out: they grow with the length, and come on top.
FORWARD = 2


@dataclass(frozen=True)
class Paper:
    """A policy in a paper's size, as it stands on a preset of 8 and on one of 64 GPUs."""

    name: str
    on_8: Config
    on_64: Config
    settings: PolicySettings
    size: PolicySize


def papers(only: Sequence[str]) -> Iterator[Paper]:
    """Every policy in every size of a paper, or those that are named."""
    for name in SIZES:
        if only and name not in only:
            continue
        policy, size = name.split("/")
        large = "_large" if size.startswith("70b") else ""
        on_8, on_64 = (
            configured(f"policy={policy}", f"policy.size={size}", f"cluster=gpus_{gpus}{large}") for gpus in (8, 64)
        )
        settings = settings_of(on_8)
        sized = policy_size(language_model_of(on_8), settings, on_8.learner.lora)
        yield Paper(name, on_8, on_64, settings, sized)


def bytes_of(paper: Paper) -> list[str]:
    """A weight sync, what it comes to at all engines' GPUs, features, a policy's folder."""
    config, trains = paper.on_8, paper.on_8.trains_encoder
    travelling = paper.size.on_board(encoder=trains)
    sync = travelling * width(config.learner.dtype)
    received = [sync * one.sampler.actors * one.sampler.tensor_parallel for one in (paper.on_8, paper.on_64)]
    features = "none: text only"
    if paper.settings.encoder is not None:
        one, every = feature_bytes(1, paper.settings), feature_bytes(STUDIES, paper.settings)
        features = f"{amount(one)}, {amount(every)}" + (" once the encoder is frozen" if trains else "")
    folder = amount(policy_bytes(config, paper.size))
    return [paper.name, f"{travelling:,}", amount(sync), *map(amount, received), features, folder]


def work_of(paper: Paper, prompt: int, report: int) -> list[str]:
    """Positions, and teraFLOP a case or pair; with all ten regions where the policy reads regions."""
    learner, parameters, n = paper.on_8.learner, paper.size.language_model, paper.on_8.sampler.n
    asked = paper.settings.image_tokens + len(REGIONS) * paper.settings.region_tokens + prompt
    # The two reports of a pair share their prompt, as the candidates of a case do.
    pair = asked + 2 * report
    # Without adapters also the weights' gradients; with checkpointing the activations are computed anew.
    step = FORWARD * (2 + (learner.lora is None) + learner.gradient_checkpointing)
    work = (FORWARD * (asked + n * report), FORWARD * pair, step * pair, step * (asked + report))
    told = [f"{n}", f"{asked:,}", f"{pair:,}", f"{step} a parameter"]
    return [paper.name, *told, *(short(one * parameters / TERA) for one in work)]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt-tokens", type=counted, required=True)
    parser.add_argument("--report-tokens", type=positive, required=True)
    parser.add_argument("--only", nargs="*", default=[], choices=SIZES, metavar="POLICY/SIZE")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    every = list(papers(given.only))
    weights = ["parameters that travel", "a weight sync", "received on gpus_8", "on gpus_64"]
    head = ["Bytes", *weights, "features: a study, 50,000", "a policy's folder"]
    print(markdown_table([head, *map(bytes_of, every)]))
    work = ["a case sampled", "a pair's reference", "a pair learnt", "a report taught"]
    head = ["TeraFLOP", "n", "positions asked", "of a pair", "a step", *work]
    print(markdown_table([head, *(work_of(one, given.prompt_tokens, given.report_tokens) for one in every)]))


if __name__ == "__main__":
    main()
