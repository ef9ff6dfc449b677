"""Prints, as tables for docs/scale.md, what the policies in their papers' sizes take: bytes, operations, hours.

.venv/bin/python scripts/paper_scale.py --prompt-tokens 40 --report-tokens 250
.venv/bin/python scripts/paper_scale.py --prompt-tokens 40 --report-tokens 250 --split 24000 25000 1000 \
    --tokens-a-second 2000 --teraflops 100 --only argus/8b

Bytes and parameters are exact. Lengths are yours: tokens of a prompt without its visual tokens, and of a report. Hours
are printed where you give what your GPUs do: tokens that one engine writes a second, and operations that one rank
sustains, in teraFLOP a second.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from presets import configured

from rlaif.config import Config
from rlaif.features import feature_bytes
from rlaif.launch import CONFIGS
from rlaif.metrics.measured import duration, short
from rlaif.metrics.model_work import Lengths, Model, Speed, Taught, stage_seconds
from rlaif.metrics.scale import Counts, Training
from rlaif.models.settings import PolicySettings
from rlaif.models.size import PolicySize, policy_size
from rlaif.plan_memory import amount, width
from rlaif.plan_trainings import language_model_of, settings_of
from rlaif.reports.regions import REGIONS

STUDIES = 50_000
TERA = 1e12


@dataclass(frozen=True)
class Paper:
    """A policy in a paper's size, as it stands on a preset of 8 and on one of 64 GPUs."""

    name: str
    on_8: Config
    on_64: Config
    settings: PolicySettings
    size: PolicySize

    @property
    def model(self) -> Model:
        """Its language model in fine-tuning and alignment."""
        learner = self.on_8.learner
        return Model(self.size.language_model, learner.lora is not None, learner.gradient_checkpointing)

    def lengths(self, prompt: int, report: int) -> Lengths:
        """Its sequences, with all ten regions where it reads regions."""
        visual = self.settings.image_tokens + len(REGIONS) * self.settings.region_tokens
        return Lengths(visual, prompt, report)


def papers(only: Sequence[str]) -> Iterator[Paper]:
    """Every policy in every size of a paper, or those that are named."""
    for folder in sorted(path for path in (CONFIGS / "size").iterdir() if path.is_dir()):
        for size in sorted(path.stem for path in folder.glob("*.yaml") if path.stem != "tiny"):
            name, large = f"{folder.name}/{size}", "_large" if size.startswith("70b") else ""
            if only and name not in only:
                continue
            on_8, on_64 = (
                configured(f"policy={folder.name}", f"policy.size={size}", f"cluster=gpus_{gpus}{large}")
                for gpus in (8, 64)
            )
            settings = settings_of(on_8)
            sized = policy_size(language_model_of(on_8), settings, on_8.learner.lora)
            yield Paper(name, on_8, on_64, settings, sized)


def bytes_of(paper: Paper) -> list[str]:
    """A weight sync, what it comes to at all engines' GPUs, features, a policy's folder."""
    config, size = paper.on_8, paper.size
    trains = config.trains_encoder
    sync = size.on_board(encoder=trains) * width(config.learner.dtype)
    received = [sync * one.sampler.actors * one.sampler.tensor_parallel for one in (paper.on_8, paper.on_64)]
    features = "none: text only"
    if paper.settings.encoder is not None:
        one, every = feature_bytes(1, paper.settings), feature_bytes(STUDIES, paper.settings)
        features = f"{amount(one)}, {amount(every)}" + (" once the encoder is frozen" if trains else "")
    stored = sync + (0 if trains else size.encoder * 4) + size.adapters * 4
    parameters = f"{size.on_board(encoder=trains):,}"
    return [paper.name, parameters, amount(sync), *map(amount, received), features, amount(stored)]


def work_of(paper: Paper, given: argparse.Namespace) -> list[str]:
    """Positions, and teraFLOP a case or pair."""
    model, lengths = paper.model, paper.lengths(given.prompt_tokens, given.report_tokens)
    n = paper.on_8.sampler.n
    work = [
        model.sampled(lengths, n),
        model.read(lengths.pair),
        model.learnt(lengths.pair),
        model.learnt(lengths.taught),
    ]
    factor = f"{model.learning} a parameter"
    return [paper.name, f"{lengths.asked:,}", f"{lengths.pair:,}", factor, *(short(one / TERA) for one in work)]


def hours_of(paper: Paper, given: argparse.Namespace) -> Iterator[list[str]]:
    """The seconds of each stage on 8 and on 64 GPUs."""
    sft, align, heldout = given.split
    for gpus, config in ((8, paper.on_8), (64, paper.on_64)):
        learner, sampler = config.learner, config.sampler
        taught = [
            Taught(Training(one.epochs, one.batch), replace(paper.model, frozen=frozen))
            for one, frozen in ((learner.pretrain, True), (learner.sft, paper.model.frozen))
            if one is not None
        ]
        counts = Counts(sft, align, heldout, 1, sampler.n, given.pairs_a_case, 2.0)
        told = stage_seconds(
            paper.model,
            paper.lengths(given.prompt_tokens, given.report_tokens),
            counts,
            taught,
            Training(learner.dpo.epochs, learner.dpo.batch),
            engines=sampler.actors,
            ranks=learner.ranks,
            speed=Speed(given.tokens_a_second, given.teraflops * TERA),
        )
        stages = (told.fine_tuning, told.sample, told.reference, told.learn, told.evaluate)
        actors = f"{gpus}: engines {sampler.actors}, ranks at work {min(learner.ranks, learner.dpo.batch)}"
        yield [paper.name, actors, *map(duration, stages)]


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first row is its head."""
    lines = [rows[0], ["---", *["---:"] * (len(rows[0]) - 1)], *rows[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt-tokens", type=int, required=True)
    parser.add_argument("--report-tokens", type=int, required=True)
    parser.add_argument("--split", type=int, nargs=3, metavar=("SFT", "ALIGN", "HELDOUT"))
    parser.add_argument("--pairs-a-case", type=float, default=1.0)
    parser.add_argument("--tokens-a-second", type=float)
    parser.add_argument("--teraflops", type=float)
    parser.add_argument("--only", nargs="*", default=[], metavar="POLICY/SIZE")
    given = parser.parse_args()
    if len({one is None for one in (given.split, given.tokens_a_second, given.teraflops)}) > 1:
        parser.error("hours need all three: --split, --tokens-a-second and --teraflops, as measured on your GPUs")
    return given


def main() -> None:
    given = arguments()
    if not (every := list(papers(given.only))):
        raise SystemExit(f"error: no policy is called {', '.join(given.only)}: name them as argus/8b")
    weights = ["parameters that travel", "a weight sync", "received on gpus_8", "on gpus_64"]
    print(table([["Bytes", *weights, "features: a study, 50,000", "a policy's folder"], *map(bytes_of, every)]))
    work = ["a case sampled", "a pair's reference", "a pair learnt", "a report taught"]
    head = ["TeraFLOP", "positions asked", "of a pair", "a step", *work]
    print(table([head, *(work_of(one, given) for one in every)]))
    if given.split is not None:
        stages = ["fine-tuning", "sample, a round", "reference, a round", "learn, a round", "evaluate, a round"]
        print(table([["Time", "GPUs", *stages], *(row for one in every for row in hours_of(one, given))]))


if __name__ == "__main__":
    main()
