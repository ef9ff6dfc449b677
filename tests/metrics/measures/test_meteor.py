"""METEOR against NLTK's own example and numbers computed by hand."""

from pathlib import Path

import numpy as np
import pytest

from rlaif.metrics.measures.measured import ReportPair
from rlaif.metrics.measures.meteor import measure, meteor_words
from rlaif.metrics.measures.settings import MetricSettings, NotAvailable
from rlaif.metrics.measures.wordnet import FILES, lexnames, synonyms, wordnet_folder, wordnet_version


def _missing() -> str | None:
    try:
        wordnet_folder(None)
    except NotAvailable as reason:
        return str(reason)
    return None


with_wordnet = pytest.mark.skipif(_missing() is not None, reason=str(_missing()))


@with_wordnet
def test_the_example_of_nltks_documentation(metric_settings: MetricSettings) -> None:
    pair = ReportPair(
        "It is a guide to action that ensures that the military will forever heed Party commands",
        "It is a guide to action which ensures that the military always obeys the commands of the party",
    )
    (meteor,) = measure(metric_settings)([pair])
    assert meteor.values is not None
    assert round(float(meteor.values[0]), 4) == 0.6944
    assert "WordNet 3.0" in str(meteor.signature)


@with_wordnet
def test_by_hand_and_at_the_edges(metric_settings: MetricSettings) -> None:
    pairs = [
        ReportPair("clear lungs", ""),
        ReportPair("", "clear lungs"),
        ReportPair("clear", "Clear"),
        # Four words in one chunk.
        ReportPair("no nodule . clear", "no nodule . clear"),
        # A stem, and a word that WordNet puts beside it; NLTK looks up stems, so it misses "nodule" beside "tubercle".
        ReportPair("nodules", "nodule"),
        ReportPair("tumour", "tumor"),
        ReportPair("tubercle", "nodule"),
        ReportPair("肺 清晰 ü", "肺 清晰 ü"),
        # 1 of 2 and 1 of 1: fmean is P R / (0.9 P + 0.1 R), half of which the one chunk leaves.
        ReportPair("clear", "clear zygote"),
    ]
    (meteor,) = measure(metric_settings)(pairs)
    expected = [0, np.nan, 0.5, 1 - 0.5 / 4**3, 0.5, 0.5, 0, 1 - 0.5 / 3**3, 0.5 * 0.5 / 0.55]
    assert meteor.values == pytest.approx(expected, nan_ok=True)
    assert meteor.n == 8


@with_wordnet
def test_synonyms_are_those_of_wordnet() -> None:
    known = synonyms(wordnet_folder(None))
    (sense,) = known.synsets("nodule")
    assert {one.name() for one in sense.lemmas()} == {"nodule", "tubercle"}
    assert known.synsets("qzxv") == ()


def test_words_of_sentences() -> None:
    assert meteor_words("No nodule of 4.5 mm. Heart: normal (see above)!") == [
        "No", "nodule", "of", "4.5", "mm", ".", "Heart", ":", "normal", "(", "see", "above", ")", "!",
    ]  # fmt: skip
    assert meteor_words(" \n") == []


def test_lexnames_has_the_45_files_of_the_manual_page() -> None:
    lines = lexnames().splitlines()
    assert len(lines) == 45
    assert (lines[0], lines[3], lines[29], lines[44]) == (
        "00\tadj.all\t3", "03\tnoun.Tops\t1", "29\tverb.body\t2", "44\tadj.ppl\t3",
    )  # fmt: skip


def test_a_folder_that_is_no_wordnet(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match=r"index\.adj.*wordnet-base") as raised:
        wordnet_folder(tmp_path)
    assert "\n" not in str(raised.value)


def test_without_wordnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nltk.data.path", [str(tmp_path)])
    monkeypatch.setattr("rlaif.metrics.measures.wordnet.DEBIAN", tmp_path)
    with pytest.raises(NotAvailable, match=r"METEOR needs WordNet.*install Debian's wordnet-base"):
        wordnet_folder(None)
    nltks = tmp_path / "corpora" / "wordnet"
    nltks.mkdir(parents=True)
    for name in FILES:
        (nltks / name).write_text("  1 This software and database is being provided\n  2 WordNet 3.1 Copyright 2011\n")
    assert Path(wordnet_folder(None)) == nltks
    assert wordnet_version(str(nltks)) == "3.1"
