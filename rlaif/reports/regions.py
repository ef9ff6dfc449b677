"""The regions of a chest CT that RadGenome-ChestCT divides reports and volumes into."""

# Spelled as the data set spells them, which is what published checkpoints were trained on ("bronchie" included).
REGIONS = (
    "abdomen",
    "bone",
    "breast",
    "esophagus",
    "heart",
    "lung",
    "mediastinum",
    "pleura",
    "thyroid",
    "trachea and bronchie",
)


def region_of(anatomy: str) -> str | None:
    """The region that an anatomy lies in ("lung/right lung" in "lung"); None where it lies in none of the ten."""
    name = " ".join(anatomy.partition("/")[0].lower().split())
    return name if name in REGIONS else None
