"""What may point to a patient is found, and ordinary report text is not."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.datasets.phantom import PhantomSettings, plan_study
from rlaif.reports.identifiers import Identifier, describe, find_identifiers

# Each part between guillemets is one identifier.
DATES = """
    Comparison: CT of «12/03/2021».
    CT «2021-03-12», no change.
    Untersuchung «12.03.2021».
    Compared to «3/7/19» and «12-11-2018».
    Seen on «March 12, 2021».
    Seen on «12 Mar 2021»; stable.
    SEEN ON «12 MAR 2021».
    Seen «12-Mar-21». Seen «12-Mar-21» and «12MAR2021».
    Study of «12th of March 2021».
    Study of «March 12th, 2021», «Sept. 3, 2020» and «Mar 2019».
    No change since «March 2020».
    No change since «May 5».
    Seen on «5 October».
    Seen on «may 5, 2021».
    Signed «12/03/2021 14:30».
    Signed «12/03/2021 at 2:30 PM».
    Signed «2021-03-12T14:30:05.123Z».
    Admitted «12/03/2021»-«14/03/2021».
    Date «12 / 03 / 2021».
    Study date «20210312».
    CT dated «3/12», unchanged.
    Compared to CT from «11/28».
    CT of «03/2021».
    The nodule was 12 mm on «12/03/2021», now 15 mm.
    Date «12\u201103\u20112021».
    Date «\u0661\u0662/\u0660\u0663/\u0662\u0660\u0662\u0661».
"""
NAMES = """
    Discussed with Dr. «Smith».
    Discussed with Dr «Jane A. O'Neill» by telephone.
    Discussed with Dr.«Smith» at noon.
    discussed with dr. «smith» at noon.
    DISCUSSED WITH DR «SMITH» BY TELEPHONE.
    Seen by Prof. «van der Berg» today.
    Mr. «Jones» has a nodule. Mrs «Müller-Lüdenscheidt» has none. Ms. «Şahin» neither.
    Dr. «Núñez», Dr. «O\u2019Brien» and Dr. «王芳» agree.
    Nurse «Miller» was told.
    Patient: «SMITH, JOHN A»
    Patient: «Smith», 45 years
    Patient name: «John Smith»
    PATIENT NAME:   «DOE,JANE»
    Attending: «Smith, John»
    Dictated: «John Smith»
    patient name: «john smith»
    Name: «Doe, Jane»
    Referring physician: «Jane Doe», MD
    REFERRING PHYSICIAN: «DOE, JANE»
    Radiologist: «J. Smith»
    Dictated by «John Smith» on a Monday.
    Electronically signed by: «John Smith», MD.
    ELECTRONICALLY SIGNED BY «JOHN SMITH».
    Signed: «Jane Doe»
    /s/ «Jane Doe»
    Findings were discussed with «Jane Doe» in person.
    Results given to «Amy Lee», RN.
    Read and agreed. «Robert Brown», M.D.
    Patient «John Smith» was scanned.
"""
RECORD_NUMBERS = """
    MRN: «12345».
    MRN «0012-345»
    mrn#«AB12345»
    Medical record number «4711-08»
    Medical record no. «123 456»
    Accession number: «CT-21-00123»
    Accession «9912345»
    Acc. no. «12345», acc: «12346»
    Patient ID: «P00123»
    PatientID «00123»
    ID: «99871»
    Case number «2231»
    NHS number «943 476 5919»
    SSN «123-45-6789»
    Social security number: «123456789»
    See «123-45-6789».
    Compare with «1234567».
    Compare with «A12345678» and «CT2021031201».
    Series «1.2.840.113619.2.55.3.604688119.971.1»
"""
OTHERS = {
    "phone": """
        Call «(555) 123-4567».
        Call «555-123-4567» or «+1 555 123 4567».
        Call «+49 30 1234567» or «+44 (0)20 7946 0958».
        Tel. «030 123456», fax: «030-123457»
        Pager «12345»
        Phone: «555-1234»
    """,
    "email": """
        Write to «jane.doe+ct@radiology.example.org».
        <«j_doe@example.com»>
        «müller@example.de»
    """,
    "url": """
        See «https://pacs.example.org/view?id=7»
        See «www.example.org/images/7» for images.
    """,
    "address": """
        Lives at «12 Old Mill Road», Springfield.
        «221B Baker Street», London
        «P.O. Box 123»
    """,
    "age": """
        «93-year-old» man.
        A «101 year old» woman.
        «95 y/o» female, «90yo» male
        Aged «92», with cough.
        Age: «91»
    """,
}
TEXTS = [
    (kind, line.strip())
    for kind, lines in {"date": DATES, "name": NAMES, "record_number": RECORD_NUMBERS, **OTHERS}.items()
    for line in lines.splitlines()
    if line.strip()
]


def marked(line):
    """The text without its guillemets, and the parts that stood between them."""
    pieces = line.replace("»", "«").split("«")
    return "".join(pieces), pieces[1::2]


@pytest.mark.parametrize(("kind", "line"), TEXTS)
def test_identifiers_of_every_kind_with_their_places(kind, line):
    text, parts = marked(line)
    found = find_identifiers(text)
    assert [text[one.start : one.end] for one in found] == parts
    assert {one.kind for one in found} == {kind}


@pytest.mark.parametrize(
    "text",
    [
        "A 12 x 8 mm nodule, previously 1.5-2.0 cm, and a 10 x 11 x 12 mm cyst.",
        "Measures 12/10/11 mm or 3.2 \u00d7 2.1 \u00d7 1.8 cm.",
        "Density 35 HU, -100 to -50 HU, +10-20 HU, from -1000 to 3071 HU.",
        "Series 4, image 123. Series 3, images 45/120; image 10/1920; im. 12/11/10.",
        "Se 2 im 45, slice 7/12.",
        "T12, L1-L2, T4/5, C5-6-7 and L5-S1.",
        "Fractures of ribs 4-5-6, of ribs 9-10-11 and of the 10-11-12 ribs.",
        "Segments 8-9-10, S1/2/3, segments VII and VIII, segment 8/9/10.",
        "COVID-19, SARS-CoV-2, CO-RADS 5, Lung-RADS 4B, TI-RADS 3, LR-5, BI-RADS 4a, Fleischner 2017.",
        "Kerley B lines, Morgagni hernia, Bochdalek hernia, Swan-Ganz catheter, Hampton hump, Hounsfield units.",
        "Azygos vein, Chilaiditi sign, Ghon complex, Pancoast tumour, Port-A-Cath, Hickman line, Dobhoff tube.",
        "No change since XXXX. Discussed with Dr. XXXX at XXXX. Patient: XXXX. MRN: XXXX. Name: XXXX XXXX.",
        "Dr. ___ on ___ at ___. Patient name: ___. MRN ___. [DATE] [NAME] Dr. [NAME] <DATE> [**Name**] ##/##/####",
        "An 89-year-old woman, aged 62, 64 y/o. Aged 90 mm. Over 95 % of the lung. 100 ml of contrast.",
        "3/12 lymph nodes, 2/6 murmur, 1/3 of the lung, 24/7, SpO2 95 %, 120/80 mmHg, 12:30.",
        "Since 2019 and 2020 unchanged; CT of 2018. In March it was smaller. It may 2 or 3 times be seen.",
        "Nodule 2 may be new. NODULE 2 MAY BE NEW. SEGMENT 5 MAY 3 MM NODULES.",
        "Ratio 0.1234567; dose 1,234,567; DLP 1234.56 mGy cm; CTDIvol 12.5.",
        "MR Angiography and MS Plaques. Compared with MR. The liver is normal. DR Chest. DR. Findings follow.",
        "Patient: Male, 45. Patient: 58 years. Patient name: N/A. Name: Unknown. Sex: F. Patient: F",
        "Radiologist:\nFINDINGS: clear. Referring physician: not given. Signed: electronically. Physician: None",
        "Discussed with the referring physician. Discussed with Emergency Department. Reviewed with Radiology Team.",
        "DISCUSSED WITH PATIENT FAMILY. Performed by Radiology. Reported to Oncology Service. The patient was told.",
        "Patient Positioning. Chest Radiograph, PA and lateral. Please call. Notified by phone.",
        "Exam number one. Study no acute findings. Hospital day 3. Case discussed. Order placed. MRN not given.",
        "Patient: Obese male. Patient: Smoker, 20 pack-years. Signed: yes. Attn: sternum. Patient: Denies fever.",
        "Since 2/3 of the lung are opaque. CT of 3/4 of the chest. Extension 1200 mm.",
        "1. Nodule. 2. Effusion. 3. Cyst. Section 1.2.3.",
        "Medical material: Dr-shaped? Ms. Mr. Prof.",
        "Findings @ the left base; a/b/c; 12-lead; 4-chamber view; T1/T2; 18F-FDG; SUV 4.5-6.0.",
        "",
        " \n\t",
    ],
)
def test_ordinary_report_text_has_none(text):
    assert find_identifiers(text) == ()


def test_reports_of_the_phantom_have_none():
    settings = PhantomSettings(sft=300, align=0, heldout=0, prevalence=4.0)
    for number in range(1, 301):
        report = plan_study(settings, f"train_{number}_a_1").report
        assert find_identifiers(report.findings) == (), report.findings
        assert find_identifiers(report.impression) == (), report.impression


def test_of_two_that_overlap_the_first_and_longest_stays():
    text = "https://pacs.example.org/2021-03-12/12345678 jane@123-45-6789.org MRN 555-123-4567 ID: 12/03/2021"
    found = find_identifiers(text)
    assert [one.kind for one in found] == ["url", "email", "record_number", "record_number"]
    assert [text[one.start : one.end] for one in found] == [
        "https://pacs.example.org/2021-03-12/12345678",
        "jane@123-45-6789.org",
        "555-123-4567",
        "12/03/2021",
    ]


def test_places_are_those_of_the_text_as_it_was_given():
    text = "\U0001fac1\u00a0Été: Dr.\u00a0Évrard\u2009, 12\u201303\u20132021."
    assert find_identifiers(text) == (
        Identifier("name", text.index("Évrard"), text.index("Évrard") + 6),
        Identifier("date", text.index("12"), len(text) - 1),
    )


def test_a_report_with_a_head_and_a_signature():
    text = (
        "Patient: DOE, JANE\nMRN: 0012345\nDOB: 01.02.1930 (age 91)\nReferring physician: Dr. A. Miller\n"
        "CT of the chest, 12 March 2021\nFINDINGS: A 12 x 8 mm nodule in segment 6 (series 4, image 123).\n"
        "Discussed with Dr. Miller (555-123-4567, a.miller@example.org).\nElectronically signed by John Smith, MD"
    )
    found = find_identifiers(text)
    assert describe(found) == "2 dates, 4 names, 1 record number, 1 phone number, 1 e-mail address, 1 age over 89"


def test_a_message_holds_kinds_and_counts_and_no_text():
    assert describe(()) == "no identifiers"
    assert describe(find_identifiers("Dr. Smith, 12/03/2021 and 13/03/2021")) == "2 dates, 1 name"
    everything = tuple(Identifier(kind, 0, 1) for kind in ("url", "date", "address", "url", "name", "age", "age"))
    assert describe(everything) == "1 date, 1 name, 1 postal address, 2 ages over 89, 2 web addresses"
    assert "Smith" not in repr(find_identifiers("Dr. Smith"))


PIECES = (
    "a", "A", "1", " ", "a@", "a.", "1.", "1.2.840.", "12/03/", "+1 ", "(555) ", "Dr. ", "Dr. A ", "Smith ", "SMITH, ",
    "A. ", "van ", "Patient: ", "Name: ", "MRN: A", "accession no. ", "March ", "12 March ", "www.", "tel. 1 ",
    "12 Old ", "12 Main Mill ", ", MD", " MD", "Smith, MD", "discussed with ", "XXXX ", "\u00e9", "1 2 ",
)  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
def test_hostile_text_takes_linear_time(piece):
    text = piece * (50_000 // len(piece))
    began = time.perf_counter()
    find_identifiers(text)
    # Half a second on a busy core; with a quadratic pattern it would be minutes.
    assert time.perf_counter() - began < 5.0


@given(st.text(alphabet=st.sampled_from("aA1209 ./-@:,+()\nDr. MRNPatientx\u00e9\u0661")))
def test_any_text_gives_places_in_order_within_it(text):
    found = find_identifiers(text)
    assert all(0 <= one.start < one.end <= len(text) for one in found)
    assert all(first.end <= second.start for first, second in pairwise(found))
