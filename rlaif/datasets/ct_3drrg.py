"""CT-3DRRG: Argus' merge of CT-RATE, BIMCV-R and INSPECT, with its curation."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from rlaif.datasets import bimcv_r, ct_rate, inspect
from rlaif.datasets.ct_rate import VOLUME_NAME
from rlaif.datasets.layout import SplitSettings
from rlaif.datasets.settings import Ct3drrgSettings
from rlaif.datasets.splits import divide, divide_official, limited
from rlaif.datasets.study_table import READ_STAGE, StudyTable
from rlaif.records import Quarantined, Study
from rlaif.reports.curation import Curated, Removed, curate

# Of a source read with these, what is held out is its official test split.
_UNDIVIDED = SplitSettings(sft=1.0, align=0.0, heldout=0.0)
_ADAPTERS: dict[str, Callable[..., StudyTable]] = {
    "ct_rate": ct_rate.read_studies,
    "bimcv_r": bimcv_r.read_studies,
    "inspect": inspect.read_studies,
}


def read_studies(settings: Ct3drrgSettings) -> StudyTable:
    """Read the studies of the sources, each with its whole report in `findings`, curated, and ids unique in the merge.

    Of the reconstructions of a CT-RATE scan the one of the lowest number is taken, of those that can be used. Findings
    and impression are joined; sentences are taken out by rule, and reports that are then too short are quarantined,
    except in CT-RATE's official test split, which the paper keeps as it is. Ids are those of the source behind its
    name (`bimcv_r.1203`), and so are patients'; `source` tells the parts apart, which the paper evaluates each for
    itself. Where the paper drew its test split, at 20 % of INSPECT as well, here INSPECT's official one is kept.
    Raises DatasetError where a source cannot be used.
    """
    return read_curated(settings)[0]


def read_curated(settings: Ct3drrgSettings) -> tuple[StudyTable, dict[str, tuple[Removed, ...]]]:
    """What `read_studies` gives, and by id the sentences that were taken out of reports, of too short ones as well."""
    studies: list[Study] = []
    quarantined: list[Quarantined] = []
    removed: dict[str, tuple[Removed, ...]] = {}
    readable = 0
    for name, source in settings.sources.items():
        table = _ADAPTERS[name](
            source.model_copy(update={"split": _UNDIVIDED, "limit": None, "empty_reports": "quarantine"})
        )
        quarantined += [replace(one, study_id=f"{name}.{one.study_id}") for one in table.quarantined]
        good: list[Study] = []
        for study in _one_reconstruction(table.studies) if name == "ct_rate" else table.studies:
            study_id, whole = f"{name}.{study.study_id}", _whole_report(study)
            # The paper leaves this part of CT-RATE unfiltered.
            untouched = name == "ct_rate" and study.split == "heldout"
            curated = Curated(whole, ()) if untouched else _curate(whole, settings)
            if curated.removed:
                removed[study_id] = curated.removed
            reason = _too_short(curated, 1 if untouched else settings.min_words)
            if reason is not None:
                quarantined.append(Quarantined(study_id, str(study.volume), READ_STAGE, reason))
                continue
            patient_id = f"{name}.{study.patient_id}"
            good.append(
                replace(study, study_id=study_id, patient_id=patient_id, findings=curated.text, impression=None)
            )
        readable += len(good)
        studies += _divided(good, settings, official=name != "bimcv_r" or _has_split(settings))
    return StudyTable(limited(studies, settings.limit, settings.seed), quarantined, readable), removed


def _one_reconstruction(studies: Iterable[Study]) -> list[Study]:
    """For each scan of CT-RATE the study of its reconstruction with the lowest number."""
    first: dict[str, tuple[int, Study]] = {}
    for study in studies:
        match = VOLUME_NAME.fullmatch(study.study_id)
        assert match is not None, "the adapter lets no other names through"
        scan, number = f"{match[1]}_{match[3]}", int(match[4])
        if scan not in first or number < first[scan][0]:
            first[scan] = (number, study)
    return [study for _, study in first.values()]


def _whole_report(study: Study) -> str:
    return " ".join(text for text in (study.findings, study.impression) if text is not None)


def _curate(text: str, settings: Ct3drrgSettings) -> Curated:
    return curate(
        text,
        comparisons=settings.comparisons == "remove",
        clinical_values=settings.clinical_values == "remove",
        measurements=settings.measurements,
    )


def _too_short(curated: Curated, min_words: int) -> str | None:
    """Why a report is too short to be used; None where it is long enough."""
    words = len(curated.text.split())
    if words >= min_words:
        return None
    taken = f" (sentences taken out: {len(curated.removed)})" if curated.removed else ""
    return f"the report has {words} words{taken}, fewer than data.min_words={min_words}"


def _has_split(settings: Ct3drrgSettings) -> bool:
    return settings.bimcv_r is not None and settings.bimcv_r.columns.split is not None


def _divided(studies: list[Study], settings: Ct3drrgSettings, *, official: bool) -> list[Study]:
    if not official:
        return divide(studies, settings.split, settings.seed, None)
    heldout = {one.study_id for one in studies if one.split == "heldout"}
    return divide_official(studies, heldout, settings.split, settings.seed, None)
