"""How much of everything a run would make, from its configuration and the tables of its data set."""

from dataclasses import dataclass

from rlaif.config import Config, ConfigurationError
from rlaif.datasets import registry
from rlaif.datasets.settings import PhantomDataSettings
from rlaif.records import Split
from rlaif.reports.prompts import target_text

NOTHING_TO_ALIGN = (
    "no study is in the split align, so there is nothing to align on: see data.split, or data.align of the phantom"
)
NOTHING_TO_FINE_TUNE = (
    "the data has no reports to fine-tune on (split sft): start from a policy with policy=folder policy.path=…"
)


@dataclass(frozen=True)
class Counts:
    """How much of everything a run makes; `cases` are the studies of a split that can be used."""

    studies: dict[Split, int]
    imaged: int
    """Studies whose CT is encoded; none for a text-only policy."""
    quarantined: int
    cases: dict[Split, int]
    candidates: int
    """Of one round."""
    heldout_reports: int
    """Of one evaluation, those of the blind control included."""
    rounds: int


def counts_of(config: Config, *, image: bool) -> Counts:
    """The counts of a run: from the phantom's settings, or from the tables of a data set on disk."""
    data = config.data
    cases: dict[Split, int]
    if isinstance(data, PhantomDataSettings):
        studies: dict[Split, int] = {"sft": data.sft, "align": data.align, "heldout": data.heldout}
        imaged, quarantined, cases, patients = sum(studies.values()), 0, dict(studies), data.heldout
    else:
        table = registry.load(data)
        usable = [one for one in table.studies if (one.volume if image else one.findings)]
        studies = {"sft": 0, "align": 0, "heldout": 0}
        cases = dict(studies)
        for study in table.studies:
            studies[study.split] += 1
        for study in usable:
            # Fine-tuning needs a text to learn; alignment and evaluation also write where there is none.
            cases[study.split] += study.split != "sft" or target_text(study, config.run.target) is not None
        imaged, quarantined = sum(study.volume is not None for study in table.studies), len(table.quarantined)
        patients = len({study.patient_id for study in usable if study.split == "heldout"})
    if config.heldout.limit is not None:
        cases["heldout"] = min(cases["heldout"], config.heldout.limit)
    blind = config.run.blind_control and image and min(patients, cases["heldout"]) > 1
    return Counts(
        studies=studies,
        imaged=imaged if image else 0,
        quarantined=quarantined,
        cases=cases,
        candidates=cases["align"] * config.sampler.n,
        heldout_reports=cases["heldout"] * (2 if blind else 1),
        rounds=config.run.rounds,
    )


def check_counts(config: Config, counts: Counts) -> None:
    """Raises ConfigurationError where the run itself would: nothing is there to align on, or to fine-tune on."""
    if config.run.rounds and not counts.studies["align"]:
        raise ConfigurationError(NOTHING_TO_ALIGN)
    if config.policy.path is None and not counts.studies["sft"]:
        raise ConfigurationError(NOTHING_TO_FINE_TUNE)
