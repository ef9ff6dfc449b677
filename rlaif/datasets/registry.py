"""One way in to every data set that is read from disk."""

from dataclasses import replace
from pathlib import Path

from rlaif.datasets import (
    abdomen_atlas,
    amos_mm,
    bimcv_r,
    ct_3drrg,
    ct_rate,
    ctrg,
    folder,
    inspect,
    mimic_cxr,
    openi,
    radgenome,
)
from rlaif.datasets.layout import SplitSettings
from rlaif.datasets.phantom import labels_of
from rlaif.datasets.settings import (
    AbdomenAtlasSettings,
    AmosMmSettings,
    BimcvRSettings,
    Ct3drrgSettings,
    CtRateSettings,
    CtrgSettings,
    FolderSettings,
    InspectSettings,
    MimicCxrSettings,
    OpeniSettings,
    PhantomDataSettings,
    RadgenomeSettings,
    StoredDataSettings,
)
from rlaif.datasets.study_table import DatasetError, StudyTable


def load(settings: StoredDataSettings) -> StudyTable:
    """Read the studies of the data set that the settings describe; raises DatasetError where it cannot be used."""
    match settings:
        case CtRateSettings():
            return ct_rate.read_studies(settings)
        case RadgenomeSettings():
            return radgenome.read_studies(settings)
        case BimcvRSettings():
            return bimcv_r.read_studies(settings)
        case InspectSettings():
            return inspect.read_studies(settings)
        case CtrgSettings():
            return ctrg.read_studies(settings)
        case FolderSettings():
            return folder.read_studies(settings)
        case OpeniSettings():
            return openi.read_studies(settings)
        case MimicCxrSettings():
            return mimic_cxr.read_studies(settings)
        case AmosMmSettings():
            return amos_mm.read_studies(settings)
        case AbdomenAtlasSettings():
            return abdomen_atlas.read_studies(settings)
        case Ct3drrgSettings():
            return ct_3drrg.read_studies(settings)


def load_phantom(settings: PhantomDataSettings, root: Path) -> StudyTable:
    """Read the phantom that `rlaif.datasets.phantom.generate` wrote to `root`, through the adapters for CT-RATE and,
    where it has regions, for RadGenome-ChestCT.

    Splits are those of the generator (`phantom.split_of`); labels are its truth, with sides. Raises
    DatasetError where the folder does not hold all of it.
    """
    split = SplitSettings(sft=settings.sft, align=settings.align, heldout=settings.heldout)
    table = ct_rate.read_studies(CtRateSettings(path=str(root), split=split, order="number"), source="phantom")
    labels = labels_of(root)
    studies = [replace(one, labels=labels[one.study_id]) for one in table.studies]
    if settings.regions:
        with_regions = radgenome.read_studies(RadgenomeSettings(path=str(root), split=split))
        guided = {one.study_id: one for one in with_regions.studies}
        if missing := [one.study_id for one in studies if one.study_id not in guided]:
            raise DatasetError(
                f"{root} lacks the region sentences of {len(missing)} studies, the first {missing[0]}; "
                "delete the folder, so that it is generated anew"
            )
        studies = [
            replace(one, regions=guided[one.study_id].regions, region_reports=guided[one.study_id].region_reports)
            for one in studies
        ]
    return replace(table, studies=studies)
