from rlaif.reports.sections import split_sections


def test_headed_report_is_split_and_other_sections_left_out():
    text = "TECHNIQUE: Helical CT.\nFINDINGS: A nodule.\nNo effusion.\n\nIMPRESSION:\n1. Nodule.\n2. No effusion."
    assert split_sections(text) == {
        "findings": "A nodule.\nNo effusion.",
        "impression": "1. Nodule.\n2. No effusion.",
    }


def test_headers_in_any_case_and_on_one_line():
    text = "Findings: the heart is normal. impression : Normal. Comparison: None."
    assert split_sections(text) == {"findings": "the heart is normal.", "impression": "Normal."}


def test_text_without_headers_is_findings():
    assert split_sections("  A nodule. ") == {"findings": "A nodule."}
    assert split_sections(" \n ") == {}


def test_empty_section_is_absent_and_a_repeated_one_joined():
    assert split_sections("FINDINGS:\nIMPRESSION: Normal.") == {"impression": "Normal."}
    assert split_sections("Impression: One.\nConclusion: Two.") == {"impression": "One.\nTwo."}


def test_the_word_in_running_text_is_no_header():
    text = "FINDINGS: These findings: a nodule. The impression of the disc is mild."
    assert split_sections(text) == {"findings": "These findings: a nodule. The impression of the disc is mild."}
