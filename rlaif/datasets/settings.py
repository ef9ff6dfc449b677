"""What a configuration says of a data set: one frozen model for each layout, told apart by `name`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rlaif.datasets.layout import Frozen, Layout, SplitSettings, VolumeLayout
from rlaif.datasets.phantom_settings import PhantomSettings
from rlaif.reports.regions import REGIONS
from rlaif.volumes.region_labels import Segmenter


class CtRateColumns(Frozen):
    """The columns of CT-RATE's report tables, and of its metadata tables, which the original release needs."""

    volume: str = "VolumeName"
    findings: str = "Findings_EN"
    impression: str = "Impressions_EN"
    slope: str = "RescaleSlope"
    intercept: str = "RescaleIntercept"
    xy_spacing: str = "XYSpacing"
    z_spacing: str = "ZSpacing"


class CtRateSettings(VolumeLayout):
    """A folder in the layout of CT-RATE.

    The `valid` volumes are held out; `split.sft` and `split.align` divide the patients of `train`
    in their proportion (or by number), in the seed's order or in that of the patients' numbers.
    `release` says what the volumes hold: HU (`fixed`), or stored values (`original`), whose slope,
    intercept and spacing are then taken from the metadata tables.
    """

    name: Literal["ct_rate"] = "ct_rate"
    columns: CtRateColumns = CtRateColumns()
    order: Literal["seed", "number"] = "seed"
    release: Literal["fixed", "original"] = "fixed"


class FolderColumns(Frozen):
    """The columns of a folder's table; `findings`, `impression` or `segmentation` is null where the table has none."""

    study_id: str = "study_id"
    path: str = "path"
    patient_id: str = "patient_id"
    findings: str | None = "findings"
    impression: str | None = "impression"
    split: str = "split"
    segmentation: str | None = None


class FolderSettings(VolumeLayout):
    """A folder of NIfTI files and DICOM series, with a table of reports.

    `table` is the CSV file's path within the folder; null takes `studies.csv` where it is there, and
    otherwise every CT below the folder as a study without report.

    `columns.segmentation` names the label map of a study, or the folder of its masks, one for each structure.
    `segmenter` made them. `label_names` is a file within the folder that says what the numbers of label maps mean
    (CSV with `number,name`, or a JSON object of numbers and names); TotalSegmentator's `total` task, version 2, needs
    none. `structures` gives further structures their region, or null for none of the ten.
    """

    name: Literal["folder"] = "folder"
    # CTs of one's own may have no reports yet: the policy writes them all the same.
    empty_reports: Literal["quarantine", "keep"] = "keep"
    table: str | None = None
    columns: FolderColumns = FolderColumns()
    segmenter: Segmenter | None = None
    label_names: str | None = None
    structures: dict[str, str | None] | None = Field(default=None, max_length=10_000)

    @model_validator(mode="after")
    def _segmentations(self) -> "FolderSettings":
        if (self.columns.segmentation is None) != (self.segmenter is None):
            raise ValueError(
                "columns.segmentation and segmenter belong together: the one names the masks, the other what made them"
            )
        unknown = sorted({region for region in (self.structures or {}).values() if region is not None} - set(REGIONS))
        if unknown:
            raise ValueError(f"structures: {', '.join(unknown)} is none of the regions {', '.join(REGIONS)}")
        return self


class OpeniColumns(Frozen):
    """The columns of the Open-I report table in its CSV form."""

    study_id: str = "uid"
    findings: str = "findings"
    impression: str = "impression"


class OpeniSettings(Layout):
    """The Open-I chest X-ray reports (text only): a folder of XML files, or the CSV form."""

    name: Literal["openi"] = "openi"
    columns: OpeniColumns = OpeniColumns()


class RadgenomeColumns(Frozen):
    """The columns of RadGenome-ChestCT's tables of region sentences."""

    volume: str = "Volumename"
    anatomy: str = "Anatomy"
    sentence: str = "Sentence"


class RadgenomeSettings(VolumeLayout):
    """A folder in the layout of RadGenome-ChestCT; the `valid` volumes are held out.

    `findings`, `impression` and labels come from CT-RATE's tables where these lie in the folder too; `ct_rate` names
    their columns.
    """

    name: Literal["radgenome"] = "radgenome"
    columns: RadgenomeColumns = RadgenomeColumns()
    ct_rate: CtRateColumns = CtRateColumns()


class BimcvRColumns(Frozen):
    """The columns of BIMCV-R's table.

    `path` names the volume, by a path or by its file's name; null takes the one volume of the session's folder.
    `split` is null where the table has none (the original has none); `test` is then held out of it.
    """

    patient_id: str = "PatientID"
    report_id: str = "ReportID"
    report: str = "Report_en"
    path: str | None = "ct_path"
    split: str | None = None


class BimcvRSettings(VolumeLayout):
    """A folder in the layout of BIMCV-R: `sub-…/ses-…/mod-rx/*_chest_ct.nii.gz` and a table.

    `table` is the CSV file's path within the folder; null takes the only one that is there. `clean` takes what the
    hospital's information system left in the reports out of them.
    """

    name: Literal["bimcv_r"] = "bimcv_r"
    table: str | None = None
    clean: bool = True
    columns: BimcvRColumns = BimcvRColumns()


class InspectTables(Frozen):
    """The tables of INSPECT, in its release of June 2025: CSV files, or tab-separated ones ending in `.tsv`."""

    metadata: str = "study_mapping_20250611.tsv"
    impressions: str = "impressions_20250611.tsv"
    splits: str = "splits_20250611.tsv"


class InspectColumns(Frozen):
    """The columns of INSPECT's tables: `image_id` and `patient_id` stand in `metadata`, `impression_id` in all."""

    image_id: str = "image_id"
    patient_id: str = "person_id"
    impression_id: str = "impression_id"
    impression: str = "impressions"
    split: str = "split"


class InspectSettings(VolumeLayout):
    """A folder in the layout of INSPECT: CTPA volumes and the impressions of their reports; `test` is held out."""

    name: Literal["inspect"] = "inspect"
    tables: InspectTables = InspectTables()
    columns: InspectColumns = InspectColumns()


class CtrgKeys(Frozen):
    """The keys of an entry of CTRG's annotation file; of `findings` the first that an entry has is taken.

    `path` names a volume within the folder; null, or an entry that names none, goes by the id.
    """

    study_id: str = "id"
    findings: tuple[str, ...] = ("findings", "finding")
    impression: str = "impression"
    path: str | None = "image_path"


class CtrgSettings(VolumeLayout):
    """A folder in the layout of CTRG-Chest-548K: `{id}.nii.gz` and an annotation file.

    Its `test` entries are held out; without any, `split` divides all. `labels` is the table of CheXbert's labels, or
    null: it knows five of the 18 findings, so that metrics would count a report's other findings as hallucinated.
    """

    name: Literal["ctrg"] = "ctrg"
    annotation: str = "annotation.json"
    labels: str | None = None
    keys: CtrgKeys = CtrgKeys()


class MimicCxrColumns(Frozen):
    """The columns of MIMIC-CXR's sectioned table."""

    study_id: str = "study"
    findings: str = "findings"
    impression: str = "impression"
    last_paragraph: str = "last_paragraph"


class MimicCxrSettings(Layout):
    """The sectioned reports of MIMIC-CXR (text only); its `test` studies are held out.

    `patients` says where they come from: the official split table, or (unsafe: reports of one patient can then stand
    on both sides of the split) each study for itself. `last_paragraph` may stand for an impression that has no
    section of its own. `incomplete` says what becomes of reports without findings or impression, which are many.
    """

    name: Literal["mimic_cxr"] = "mimic_cxr"
    table: str = "mimic_cxr_sectioned.csv"
    split_table: str = "mimic-cxr-2.0.0-split.csv"
    patients: Literal["split_table", "study"] = "split_table"
    last_paragraph: Literal["ignore", "impression"] = "ignore"
    incomplete: Literal["quarantine", "skip"] = "quarantine"
    columns: MimicCxrColumns = MimicCxrColumns()


class AmosMmSettings(VolumeLayout):
    """A folder in the layout of AMOS-MM, or of its challenge; the `validation` studies are held out.

    `table` is the JSON file's path within the folder, such as `report_generation_train_val.json`.
    """

    name: Literal["amos_mm"] = "amos_mm"
    table: str = "dataset.json"


class AbdomenAtlasColumns(Frozen):
    """The columns of AbdomenAtlas 3.0's tables; `report` may be any of its report columns."""

    study_id: str = "BDMAP ID"
    report: str = "narrative report"


class AbdomenAtlasSettings(VolumeLayout):
    """A folder in the layout of AbdomenAtlas 3.0.

    `table` is the CSV file's path within the folder; null takes the one that the release brings. `official` is the
    official split that is kept; null divides all scans.
    """

    name: Literal["abdomen_atlas"] = "abdomen_atlas"
    table: str | None = None
    official: Literal["IID", "OOD"] | None = "IID"
    columns: AbdomenAtlasColumns = AbdomenAtlasColumns()


class Ct3drrgSettings(Frozen):
    """CT-RATE, BIMCV-R and INSPECT as one data set, curated as Argus' CT-3DRRG; a source that is null is left out.

    `split` divides the patients of each source (numbers are of each), with its official test split kept where it has
    one; `limit` is the most studies taken for each split of the whole. A report needs `min_words` words after
    curation. `comparisons`, `clinical_values` and `measurements` say which sentences go
    (`rlaif.reports.curation.curate`).
    """

    name: Literal["ct_3drrg"] = "ct_3drrg"
    ct_rate: CtRateSettings | None = None
    bimcv_r: BimcvRSettings | None = None
    inspect: InspectSettings | None = None
    split: SplitSettings = SplitSettings(sft=0.6, align=0.2, heldout=0.2)
    limit: int | None = Field(default=None, ge=1)
    seed: int = 0
    min_words: int = Field(default=10, ge=1)
    comparisons: Literal["remove", "keep"] = "remove"
    clinical_values: Literal["remove", "keep"] = "remove"
    measurements: Literal["keep", "calibres", "all"] = "calibres"

    @model_validator(mode="after")
    def _sources(self) -> "Ct3drrgSettings":
        if not self.sources:
            raise ValueError("no source: set data.ct_rate.path, data.bimcv_r.path or data.inspect.path")
        for name, source in self.sources.items():
            own = source.model_fields_set & {"split", "limit", "seed", "order"}
            divided = sorted(key for key in own if getattr(source, key) != type(source).model_fields[key].default)
            if divided:
                raise ValueError(f"data.{name}.{divided[0]} has no effect, the merge divides its sources: leave it out")
        return self

    @property
    def sources(self) -> dict[str, CtRateSettings | BimcvRSettings | InspectSettings]:
        """The sources that are there, by name."""
        given = {"ct_rate": self.ct_rate, "bimcv_r": self.bimcv_r, "inspect": self.inspect}
        return {name: source for name, source in given.items() if source is not None}

    @property
    def path(self) -> str:
        """The folders of all sources, for people to read."""
        return " and ".join(source.path for source in self.sources.values())


class PhantomDataSettings(PhantomSettings):
    """The built-in data: what the generator draws, under the name that configurations choose it by."""

    name: Literal["phantom"] = "phantom"

    @property
    def generator(self) -> PhantomSettings:
        """The generator's own settings, which its fingerprint is taken of."""
        return PhantomSettings(**self.model_dump(exclude={"name"}))


# Every layout that is read from disk.
StoredDataSettings = (
    CtRateSettings
    | RadgenomeSettings
    | BimcvRSettings
    | InspectSettings
    | CtrgSettings
    | FolderSettings
    | OpeniSettings
    | MimicCxrSettings
    | AmosMmSettings
    | AbdomenAtlasSettings
    | Ct3drrgSettings
)
DataSettings = Annotated[PhantomDataSettings | StoredDataSettings, Field(discriminator="name")]
