import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaif.reports.extraction import extract, mentions_comparison
from rlaif.reports.findings import CT_RATE_LABELS
from rlaif.reports.lexicon import FINDING_PHRASES
from rlaif.reports.phrases import sentences_of


def said(text):
    """Findings as (name, side, location, size, severity), negated ones as "no <name>"."""
    return [(f.name, f.side, f.location, f.size_mm, f.severity) if f.present else f"no {f.name}" for f in extract(text)]


def plain(name, side=None, location=None, size=None, severity=None):
    return (name, side, location, size, severity)


ATTRIBUTES = {
    "A 12 mm nodule in the right upper lobe and a small left pleural effusion.": [
        plain("lung nodule", "right", "upper lobe", 12.0),
        plain("pleural effusion", "left", severity="mild"),
    ],
    "Nodule in the LLL measuring 1.2 cm.": [plain("lung nodule", "left", "lower lobe", 12.0)],
    "A 12 x 9 mm nodular lesion is seen in the lingula.": [plain("lung nodule", "left", "lingula", 12.0)],
    "Mass in the middle lobe, 3.4 x 2.1 x 4.0 cm.": [plain("lung nodule", "right", "middle lobe", 40.0)],
    "Ground-glass opacities in the left lung and right lung.": [plain("lung opacity", "bilateral")],
    "Mild to moderate emphysema in both upper lobes.": [
        plain("emphysema", "bilateral", "upper lobe", None, "moderate")
    ],
    "Bibasilar atelectasis.": [plain("atelectasis", "bilateral", "base")],
    "Large right pleural effusion with adjacent atelectasis of the right lower lobe.": [
        plain("pleural effusion", "right", severity="severe"),
        plain("atelectasis", "right", "lower lobe"),
    ],
    "Left upper lobe nodule of 8 mm; mild bronchiectasis on the right.": [
        plain("lung nodule", "left", "upper lobe", 8.0),
        plain("bronchiectasis", "right", severity="mild"),
    ],
    "Consolidation and pleural effusion in the left lung.": [
        plain("consolidation", "left"),
        plain("pleural effusion", "left"),
    ],
    "In the left lower lobe, there is a nodule with a diameter of 9 mm.": [
        plain("lung nodule", "left", "lower lobe", 9.0)
    ],
    "There is cardiomegaly and a nodule in the left lung.": [plain("cardiomegaly"), plain("lung nodule", "left")],
    "The ascending aorta measures 45 mm and a nodule is seen on the right.": [plain("lung nodule", "right")],
    "A nodule is seen in the right upper lobe. It measures 12 mm.": [plain("lung nodule", "right", "upper lobe", 12.0)],
    "There is a nodule. The nodule measures 9 mm and lies in the left lung.": [plain("lung nodule", "left", size=9.0)],
    "Nodules in the right lung, the largest nodule 14 mm.": [plain("lung nodule", "right", size=14.0)],
    "Calcific plaques are observed in the aorta and coronary arteries.": [
        plain("arterial wall calcification", location="aorta"),
        plain("coronary artery wall calcification"),
    ],
    "Both lower lobes show bronchiectasis.": [plain("bronchiectasis", "bilateral", "lower lobe")],
    "Central venous catheter with its tip 3 cm above the carina.": [plain("medical material")],
    "Nodules in the upper and lower lobes of the right lung.": [
        plain("lung nodule", "right", "upper lobe and lower lobe")
    ],
    "Lung opacity of ground-glass density in the right upper lobe.": [plain("lung opacity", "right", "upper lobe")],
    "The aorta is tortuous and calcified.": [plain("arterial wall calcification", location="aorta")],
    "Hydropneumothorax on the left.": [plain("pneumothorax", "left"), plain("pleural effusion", "left")],
    "Linear density in the right middle lobe.": [plain("lung opacity", "right", "middle lobe")],
    "Rounded density in the lingula.": [plain("lung nodule", "left", "lingula")],
    "Sequela of old granulomatous disease.": [plain("granuloma")],
    "Left pleural effusion, dilated left ventricle.": [plain("pleural effusion", "left")],
    "Right paratracheal lymph nodes measuring up to 14 mm.": [plain("lymphadenopathy", "right", "mediastinum", 14.0)],
}


@pytest.mark.parametrize("text", ATTRIBUTES)
def test_findings_get_their_own_attributes(text):
    assert said(text) == ATTRIBUTES[text]


NEGATION = {
    "No effusion, nodule or consolidation.": ["no pleural effusion", "no lung nodule", "no consolidation"],
    "There is no evidence of pleural effusion, but a nodule is seen.": ["no pleural effusion", plain("lung nodule")],
    "Pleural effusion is not seen.": ["no pleural effusion"],
    "Pleural effusion, pneumothorax and consolidation are not seen.": [
        "no pleural effusion",
        "no pneumothorax",
        "no consolidation",
    ],
    "A nodule in the left lung, effusion not seen.": [plain("lung nodule", "left"), "no pleural effusion"],
    "The lungs are free of focal consolidation.": ["no consolidation"],
    "No pleural or pericardial effusion.": ["no pleural effusion", "no pericardial effusion"],
    "Pericardial effusion-thickening was not observed.": ["no pericardial effusion"],
    "No pneumothorax and the heart is enlarged.": ["no pneumothorax", plain("cardiomegaly")],
    "No pleural effusion, a 5 mm nodule on the left.": ["no pleural effusion", plain("lung nodule", "left", size=5.0)],
    "Without effusion; small nodule.": ["no pleural effusion", plain("lung nodule", severity="mild")],
    "No significant change in the left nodule.": [plain("lung nodule", "left")],
    "Atelectasis cannot be excluded.": [plain("atelectasis")],
    "The effusion has resolved.": ["no pleural effusion"],
    "No acute cardiopulmonary abnormality.": ["no acute cardiopulmonary disease"],
    "The lungs are clear.": ["no lung opacity"],
    "The lungs are clear of airspace disease, effusion, or pneumothorax.": [
        "no lung opacity",
        "no pleural effusion",
        "no pneumothorax",
    ],
    "No visible pneumothorax, focal opacity, or effusion is seen.": [
        "no pneumothorax",
        "no lung opacity",
        "no pleural effusion",
    ],
    "Large pericardial effusion around the heart.": [plain("pericardial effusion", severity="severe")],
    "No enlarged lymph nodes in pathological dimensions were detected.": ["no lymphadenopathy"],
    "Lymph nodes are not enlarged.": ["no lymphadenopathy"],
    "Atelectasis rather than pneumonia.": [plain("atelectasis"), "no pneumonia"],
    "Negative for effusion or pneumothorax.": ["no pleural effusion", "no pneumothorax"],
    "Not without effusion.": [plain("pleural effusion")],
    "The chest tube has been removed.": ["no medical material"],
    "Interval removal of the central line.": ["no medical material"],
    "The nodule is not well seen.": ["no lung nodule"],
    "No change in the left nodule or effusion.": [
        plain("lung nodule", "left"),
        plain("pleural effusion", "left"),
    ],
    "Neither effusion nor pneumothorax.": ["no pleural effusion", "no pneumothorax"],
    "Trachea and both main bronchi are patent.": [],
    "Nodule in the liver. Thyroid nodule.": [],
    "Subcutaneous edema. Cystic fibrosis. Kyphotic curvature. Low density lesion of the kidney.": [],
    "Mediastinal lymph nodes with a short axis of 5 mm.": [],
}


@pytest.mark.parametrize("text", NEGATION)
def test_negation_reaches_as_far_as_a_reader_takes_it(text):
    assert said(text) == NEGATION[text]


@pytest.mark.parametrize(
    "text",
    [
        "Cardiomegaly.",
        "The heart is enlarged.",
        "Enlarged heart.",
        "Cardiac enlargement is noted.",
        "Heart size is increased.",
        "The heart size has increased.",
        "The cardiac silhouette is enlarged.",
        "Enlargement of the cardiac silhouette.",
        "The heart appears large.",
        "Heart size remains slightly large.",
        "Borderline heart size.",
    ],
)
def test_the_many_words_for_a_large_heart(text):
    assert [(f.name, f.present) for f in extract(text)] == [("cardiomegaly", True)]


@pytest.mark.parametrize(
    "text",
    [
        "Heart size is normal.",
        "Normal heart size.",
        "The heart is normal in size.",
        "The heart is not enlarged.",
        "Heart contour and size are normal.",
        "The cardiomediastinal silhouette is within normal limits.",
        "The heart and great vessels are unremarkable.",
        "No cardiomegaly.",
    ],
)
def test_the_many_words_for_a_normal_heart(text):
    assert [(f.name, f.present) for f in extract(text)] == [("cardiomegaly", False)]


SYNONYMS = {
    "medical material": [
        "Pacemaker in place.",
        "Surgical clips.",
        "Central line.",
        "Prosthetic valve.",
        "Port-A-Cath.",
    ],
    "arterial wall calcification": ["Atherosclerosis of the aorta.", "Calcified plaques in the aortic arch."],
    "coronary artery wall calcification": ["Coronary calcifications.", "Calcific atheroma in the coronary arteries."],
    "pericardial effusion": ["Pericardial fluid.", "Fluid in the pericardial space."],
    "hiatal hernia": ["Sliding hiatus hernia."],
    "lymphadenopathy": ["Adenopathy.", "Pathologically enlarged lymph nodes."],
    "emphysema": ["Emphysematous changes.", "Bullae."],
    "atelectasis": ["Atelectatic bands.", "Lobar collapse."],
    "lung nodule": ["Micronodules.", "A mass lesion.", "Pulmonary metastases."],
    "lung opacity": ["Infiltrates.", "Airspace disease.", "Frosted glass densities."],
    "pulmonary fibrotic sequela": ["Fibrosis.", "Sequelae fibrotic changes.", "Scarring.", "Honeycombing."],
    "pleural effusion": ["Pleural fluid.", "Hydrothorax."],
    "mosaic attenuation pattern": ["Mosaic perfusion."],
    "peribronchial thickening": ["Bronchial wall thickening.", "The bronchial walls are thickened."],
    "consolidation": ["Consolidative opacity.", "Pneumonic infiltration."],
    "bronchiectasis": ["Dilated bronchi.", "Bronchial dilatation."],
    "interlobular septal thickening": [
        "Septal thickening.",
        "The interlobular septa are thickened.",
        "Kerley B lines.",
    ],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in SYNONYMS.items() for text in texts])
def test_synonyms_name_the_label(name, text):
    assert [(f.name, f.present) for f in extract(text)] == [(name, True)]


def test_every_label_of_ct_rate_is_read_from_its_own_name():
    for label in CT_RATE_LABELS:
        assert [f.name for f in extract(f"{label} is seen.")] == [label.lower()]


def test_every_phrase_of_the_lexicon_names_its_finding():
    for name, phrases in FINDING_PHRASES.items():
        for phrase in phrases:
            assert name in {f.name for f in extract(phrase)}, phrase


def test_a_finding_keeps_its_sentence():
    findings = extract("Heart size is normal. A nodule in the left lung.")
    assert [f.sentence for f in findings] == ["Heart size is normal.", "A nodule in the left lung."]


def test_sentences_of_lists_headed_lines_and_decimals():
    text = "1. Nodule of 1.2 cm\n2. No effusion\nLungs: clear.Heart: normal, approx. 4 cm wide\nand round."
    assert sentences_of(text) == [
        "1.",
        "Nodule of 1.2 cm",
        "2.",
        "No effusion",
        "Lungs: clear.",
        "Heart: normal, approx 4 cm wide\nand round.",
    ]


def test_garbage_of_a_tiny_model_is_read_without_a_fuss():
    assert said("the the nodule nodule right") == [plain("lung nodule", "right")]
    assert said("") == said("   \n ") == said("!!! ... ;;") == []
    assert said("12 mm mm x x 9 left left") == []
    assert said("nodule of 99999999999999999999 mm, 0 mm") == [plain("lung nodule")]


def test_findings_do_not_depend_on_case_or_spacing():
    text = "a 12 mm nodule  in the RIGHT upper\nlobe and a small left pleural effusion"
    assert said(text) == said(text.upper().replace("\n", " ")) == said(text.lower())


@given(st.text(max_size=300))
@settings(max_examples=150)
def test_any_text_gives_findings_with_sane_attributes(text):
    for finding in extract(text):
        assert finding.size_mm is None or 0 < finding.size_mm <= 500
    mentions_comparison(text)


@pytest.mark.parametrize(
    "piece",
    [
        "nodule ",
        "left ",
        "no ",
        "the nodule. ",
        "1 ",
        "nodule, not seen ",
        "heart enlarged and ",
        "1 mm x ",
        "\n ",
        "- \n",
    ],
)
def test_a_hundred_kilobytes_of_anything_take_seconds_at_most(piece):
    text = piece * (100_000 // len(piece))
    start = time.perf_counter()
    extract(text)
    mentions_comparison(text)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    "text",
    [
        "Compared with the prior examination, the nodule is unchanged.",
        "New left pleural effusion.",
        "The effusion has increased.",
        "Interval resolution of the consolidation.",
        "Stable appearance of the nodule.",
        "Previously described nodule.",
        "Worsening opacities.",
        "No interval change.",
    ],
)
def test_comparisons_are_noticed(text):
    assert mentions_comparison(text)


@pytest.mark.parametrize(
    "text",
    [
        "A nodule in the left lung.",
        "The heart size is increased.",
        "Increased density in the right lung.",
        "No prior examination is available for comparison.",
        "Status post prior sternotomy.",
        "High resolution images.",
        "",
    ],
)
def test_words_that_compare_nothing_are_not_taken_for_comparisons(text):
    assert not mentions_comparison(text)
