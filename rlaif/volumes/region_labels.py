"""Which of RadGenome-ChestCT's ten regions the structures of TotalSegmentator and SAT belong to.

A structure's region is where a chest CT report speaks of it. The great vessels of the chest and the arteries that
leave the arch are mediastinum, with the thymus; the aorta is one label from the valve to its fork, and goes with them
whole. The heart keeps its chambers and its left auricle. Abdomen holds the organs and vessels of the upper abdomen
and the bowel. Muscle, fat, skin, the spinal cord, the neck's vessels and the pelvis' organs lie in none of the ten.
TotalSegmentator's `total` task has neither breast nor pleura: those regions are then absent.
"""

import re
from collections.abc import Mapping
from typing import Literal, TypeVar

from rlaif.reports.regions import REGIONS

Key = TypeVar("Key")
Segmenter = Literal["totalsegmentator", "sat", "radgenome"]

_ORGANS = (
    "spleen kidney_right kidney_left gallbladder liver stomach pancreas adrenal_gland_right adrenal_gland_left "
    "lung_upper_lobe_left lung_lower_lobe_left lung_upper_lobe_right lung_middle_lobe_right lung_lower_lobe_right "
    "esophagus trachea thyroid_gland small_bowel duodenum colon urinary_bladder prostate kidney_cyst_left "
    "kidney_cyst_right sacrum"
)
_VERTEBRAE = "S1 L5 L4 L3 L2 L1 T12 T11 T10 T9 T8 T7 T6 T5 T4 T3 T2 T1 C7 C6 C5 C4 C3 C2 C1"
_VESSELS_LIMBS_MUSCLES = (
    "heart aorta pulmonary_vein brachiocephalic_trunk subclavian_artery_right subclavian_artery_left "
    "common_carotid_artery_right common_carotid_artery_left brachiocephalic_vein_left brachiocephalic_vein_right "
    "atrial_appendage_left superior_vena_cava inferior_vena_cava portal_vein_and_splenic_vein iliac_artery_left "
    "iliac_artery_right iliac_vena_left iliac_vena_right humerus_left humerus_right scapula_left scapula_right "
    "clavicula_left clavicula_right femur_left femur_right hip_left hip_right spinal_cord gluteus_maximus_left "
    "gluteus_maximus_right gluteus_medius_left gluteus_medius_right gluteus_minimus_left gluteus_minimus_right "
    "autochthon_left autochthon_right iliopsoas_left iliopsoas_right brain skull"
)
# The classes of task `total`, version 2, by number from 1 on. Version 1 numbers 104 classes in another order.
TOTALSEGMENTATOR = (
    *_ORGANS.split(),
    *(f"vertebrae_{name}" for name in _VERTEBRAE.split()),
    *_VESSELS_LIMBS_MUSCLES.split(),
    *(f"rib_{side}_{number}" for side in ("left", "right") for number in range(1, 13)),
    "sternum",
    "costal_cartilages",
)

# Without sides and numbers, so that "rib_left_4" and "left rib 4" are one entry.
_STRUCTURES = {
    "abdomen": (
        "abdominal tissue, adrenal gland, caudate lobe, celiac trunk, colon, duodenum, gallbladder, "
        "inferior vena cava, intestine, kidney, kidney cyst, kidney tumor, liver, liver tumor, liver vessel, "
        "lobe of liver, lateral inferior segment of liver, lateral superior segment of liver, "
        "medial segment of liver, anterior inferior segment of liver, anterior superior segment of liver, "
        "posterior inferior segment of liver, posterior superior segment of liver, pancreas, pancreas tumor, "
        "portal vein and splenic vein, renal artery, renal vein, small bowel, spleen, stomach"
    ),
    "bone": (
        "cervical vertebrae, clavicle, clavicula, costal cartilage, costal cartilages, femur, head of femur, hip, "
        "humerus, lumbar vertebrae, mandible, manubrium of sternum, rib, rib cartilage, sacral vertebrae, sacrum, "
        "scapula, skull, sternum, thoracic vertebrae, vertebrae"
    ),
    "esophagus": "cervical esophagus",
    "heart": (
        "atrial appendage, auricle of heart, coronary arteries, heart atrium, heart myocardium, heart tissue, "
        "heart ventricle, myocardium, pericardial effusion"
    ),
    "lung": "lung lower lobe, lung middle lobe, lung nodule, lung nodules, lung tumor, lung upper lobe, lung vessels",
    "mediastinum": (
        "aorta, brachiocephalic trunk, brachiocephalic vein, common carotid artery, heart ascending aorta, "
        "mediastinal tissue, pulmonary artery, pulmonary vein, subclavian artery, superior vena cava, thymus"
    ),
    "pleura": "lung effusion, pleural effusion",
    "thyroid": "thyroid gland",
    "trachea and bronchie": "bronchie, lung trachea bronchia, trachea",
}
_IN_NO_REGION = (
    "autochthon, brain, buccal mucosa, carotid artery, cheek, cricopharyngeal inlet, eustachian tube bone, eyeball, "
    "face, fat, gluteus maximus, gluteus medius, gluteus minimus, gonad, iliac artery, iliac vena, iliopsoas, "
    "internal carotid artery, internal jugular vein, larynx, larynx glottis, larynx supraglottis, muscle, "
    "nasal cavity, prostate, pulmonary embolism, rectum, skin, spinal canal, spinal cord, thoracic cavity, "
    "urinary bladder, uterocervix, uterus"
)
_REGIONS: dict[str, str | None] = {region: region for region in REGIONS}
_REGION_OF: dict[str, str | None] = {
    **dict.fromkeys(_IN_NO_REGION.split(", ")),
    **{structure: region for region, names in _STRUCTURES.items() for structure in names.split(", ")},
    **_REGIONS,
}
_NUMBERED = re.compile(r"\b(rib|vertebrae) [ctls]?\d{1,2}(?: \([ctls]\d{1,2}\))?$")


class UnknownStructures(ValueError):
    """Structures of a segmenter whose region nobody has said: `names` are they."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        super().__init__(f"no region is known for {', '.join(repr(name[:80]) for name in names)}")


def by_region(
    structures: Mapping[Key, str], segmenter: Segmenter, own: Mapping[str, str | None] | None = None
) -> dict[str, tuple[Key, ...]]:
    """The keys of a segmenter's structures (label numbers or files) by the region that each structure lies in.

    `structures` maps each key to the structure's name; case, underscores, sides and the numbers of ribs and vertebrae
    do not matter. RadGenome's structures are the ten regions themselves. `own` adds names, or overrules them: name to
    region, or to None for none. Regions come in the order of `REGIONS`; structures in no region are left out. Raises
    UnknownStructures, with all of them.
    """
    table = _REGIONS if segmenter == "radgenome" else _REGION_OF
    table = table | {_plain(name): region for name, region in (own or {}).items()}
    plain = {key: _plain(name) for key, name in structures.items()}
    unknown = [structures[key] for key, name in plain.items() if name not in table]
    if unknown:
        raise UnknownStructures(unknown)
    found = {region: tuple(key for key, name in plain.items() if table[name] == region) for region in REGIONS}
    return {region: keys for region, keys in found.items() if keys}


def _plain(name: str) -> str:
    words = name.lower().replace("_", " ").split()
    return _NUMBERED.sub(r"\1", " ".join(word for word in words if word not in ("left", "right")))
