"""Prints, as Markdown, what a finished run took for a unit of its work, and what that makes of more studies and actors.

.venv/bin/python scripts/scale.py RUN --studies 50000 --scale-to gpus_8 gpus_64 --readers 32
.venv/bin/python scripts/scale.py RUN --split 24000 25000 1000 --samplers 4 --ranks 4 --readers 16 --rounds 3
.venv/bin/python scripts/scale.py RUN --judge gpt4 531 21 --usd-per-million 2.5 10 --requests-per-minute 500

RUN is a run's folder. Studies are in its own shares of fine-tuning, alignment and held-out, unless --split gives the
three. --scale-to takes presets of `cluster`. An actor is taken to be as fast as one of the run: make the run with your
policy on your GPUs. --judge adds a judge that the run has not, with the tokens of prompt and answer that one question
takes.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from argument_types import above_zero, amount, counted, positive
from hydra import compose, initialize_config_dir

from rlaif.files import RunError
from rlaif.launch import CONFIGS, sized
from rlaif.metrics.run_rates import JudgeRates, RunRates, assumed_judge, rates_of
from rlaif.metrics.scale import Actors, Counts
from rlaif.metrics.scale_tables import scale_tables
from rlaif.models.settings import PolicyError

PRESETS = sorted(path.stem for path in (CONFIGS / "cluster").glob("gpus_*.yaml"))


def preset(name: str, readers: int) -> Actors:
    """The actors of a preset, with so many readers on each of its nodes."""
    overrides = [f"cluster={name}"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        values = sized(compose("config", overrides), overrides)
    sampler, learner, ingest = values["sampler"], values["learner"], values["ingest"]
    return Actors(name, sampler["actors"], learner["ranks"], readers * values["cluster"]["nodes"], ingest["encoders"])


def fleets_of(rates: RunRates, given: argparse.Namespace) -> tuple[Actors, ...]:
    """The run's actors with what the command line sets, then those of presets."""
    own = replace(rates.actors, readers=given.readers * rates.config.cluster.nodes)
    changed = {name: value for name in ("samplers", "ranks", "encoders") if (value := getattr(given, name))}
    if changed:
        own = replace(own, name="as given", **changed)
    return own, *(preset(name, given.readers) for name in given.scale_to)


def counts_of(rates: RunRates, given: argparse.Namespace) -> Counts:
    """The run's counts at the size that the command line asks for."""
    counts = rates.counts
    counts = replace(
        counts, rounds=given.rounds or counts.rounds, heldout_limit=given.heldout_limit or counts.heldout_limit
    )
    if given.split is None:
        return counts.of(given.studies)
    sft, align, heldout = given.split
    return replace(counts, sft=sft, align=align, heldout=heldout)


def judges_of(rates: RunRates, given: argparse.Namespace) -> list[JudgeRates]:
    """The run's judges and those of the command line, at its prices."""
    each = rates.counts.candidates_a_case
    asked = [assumed_judge(name, prompt, completion, each) for name, prompt, completion in given.judge]
    judges = [*rates.judges, *asked]
    return [one.priced(*given.usd_per_million) for one in judges] if given.usd_per_million else judges


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--studies", type=positive, default=50_000)
    parser.add_argument("--split", type=counted, nargs=3, metavar=("SFT", "ALIGN", "HELDOUT"))
    parser.add_argument("--rounds", type=positive)
    parser.add_argument("--heldout-limit", type=positive, help="held-out cases that are evaluated, at most")
    parser.add_argument("--scale-to", nargs="*", default=[], choices=PRESETS, metavar="PRESET")
    for name in ("samplers", "ranks", "encoders"):
        parser.add_argument(f"--{name}", type=positive, help="in the place of the run's own")
    parser.add_argument("--readers", type=positive, default=1, help="of the ingest, on each node")
    parser.add_argument("--judge", nargs=3, action="append", default=[], metavar=("NAME", "PROMPT", "ANSWER"))
    parser.add_argument("--usd-per-million", type=amount, nargs=2, metavar=("PROMPT", "ANSWER"))
    parser.add_argument("--requests-per-minute", type=above_zero)
    given = parser.parse_args()
    # Argparse has one type for the three: a name is no number.
    for judge in given.judge:
        try:
            judge[1:] = map(above_zero, judge[1:])
        except argparse.ArgumentTypeError as error:
            parser.error(f"argument --judge {judge[0]}: {error}")
    return given


def main() -> None:
    given = arguments()
    try:
        rates = rates_of(given.run)
        judges = judges_of(rates, given)
        print(scale_tables(rates, counts_of(rates, given), fleets_of(rates, given), judges, given.requests_per_minute))
    except (RunError, PolicyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
