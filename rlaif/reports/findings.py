"""What a report can say of a patient: findings with their side, place, size and severity."""

from dataclasses import dataclass
from typing import Literal

Side = Literal["left", "right", "bilateral"]
Severity = Literal["mild", "moderate", "severe"]
Certainty = Literal["definite", "possible"]
Change = Literal["new", "increased", "decreased", "unchanged", "resolved"]

# The 18 abnormality labels of CT-RATE, spelled as the columns of its label table, in its order.
CT_RATE_LABELS = (
    "Medical material",
    "Arterial wall calcification",
    "Cardiomegaly",
    "Pericardial effusion",
    "Coronary artery wall calcification",
    "Hiatal hernia",
    "Lymphadenopathy",
    "Emphysema",
    "Atelectasis",
    "Lung nodule",
    "Lung opacity",
    "Pulmonary fibrotic sequela",
    "Pleural effusion",
    "Mosaic attenuation pattern",
    "Peribronchial thickening",
    "Consolidation",
    "Bronchiectasis",
    "Interlobular septal thickening",
)


@dataclass(frozen=True)
class Finding:
    """One finding that a report names, as present or as negated.

    `name` is a label in lower case ("pleural effusion"); `location` a lobe or region in lower case
    ("upper lobe", "mediastinum"); `size_mm` the largest diameter in millimetres; `certainty` says whether
    the report hedges it ("possible", "may represent", "versus"); `change` how it stands to an earlier
    examination, where the report says so (a resolved finding is not present).
    """

    name: str
    present: bool
    side: Side | None = None
    location: str | None = None
    size_mm: float | None = None
    severity: Severity | None = None
    sentence: str = ""
    certainty: Certainty = "definite"
    change: Change | None = None

    @property
    def label(self) -> str:
        """The finding as a study's label writes it: `name`, or `name/side`."""
        return f"{self.name}/{self.side}" if self.side else self.name
