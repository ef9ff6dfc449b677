"""Clinical efficacy over CT-RATE's 18 labels, with numbers worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from rlaif.metrics.measures import clinical_efficacy
from rlaif.metrics.measures.clinical_efficacy import labeling, measure
from rlaif.metrics.measures.measured import Measured, ReportPair
from rlaif.metrics.measures.settings import MetricSettings, NotAvailable
from rlaif.reports.lexicon import CT_RATE_NAMES

NOTHING = MetricSettings(**dict.fromkeys(MetricSettings.model_fields))
# Cardiomegaly: right, missed. Pleural effusion: right, wrong. Emphysema: wrong. Lung nodule: missed.
PAIRS = (
    ReportPair("The heart is enlarged. There is a right pleural effusion.", "Cardiomegaly. Right pleural effusion."),
    ReportPair("Cardiomegaly is seen. There is a nodule in the left lung.", "There is a left pleural effusion."),
    ReportPair("No pleural effusion. The lungs are clear.", "There is emphysema in both lungs."),
)


def figures(found: list[Measured], weights: list[float]) -> dict[str, float]:
    return {one.name.removeprefix("ce_"): float(one.over(np.array([weights]))[0]) for one in found}


def test_micro_and_macro_are_those_of_the_counted_labels() -> None:
    found = measure(NOTHING)(PAIRS)
    assert [one.n for one in found] == [3] * 6 and all(one.values is None for one in found)
    # 2 right, 2 wrong, 2 missed; of the four labels that occur or are said cardiomegaly has P 1, R 1/2, F1 2/3 and
    # pleural effusion P 1/2, R 1, F1 2/3; the nodule, and emphysema, which no report has, have 0.
    assert figures(found, [1, 1, 1]) == pytest.approx(
        {
            "micro_precision": 1 / 2, "micro_recall": 1 / 2, "micro_f1": 1 / 2,
            "macro_precision": 3 / 8, "macro_recall": 3 / 8, "macro_f1": 1 / 3,
        }
    )  # fmt: skip
    assert set(figures(found, [2, 0, 0]).values()) == {1.0}
    assert set(figures(found, [0, 0, 1]).values()) == {0.0}
    assert np.isnan(list(figures(found, [0, 0, 0]).values())).all()
    assert str(found[0].signature) == (
        "rules-2; tokens: rlaif.reports; micro; labeler rules; truth: references, same labeler; 18 CT-RATE labels"
    )
    assert str(found[5].signature).endswith("18 CT-RATE labels; over labels that occur or are said")


def test_labels_of_the_data_set_are_the_truth_where_there_are_any() -> None:
    pairs = [
        ReportPair("", "Cardiomegaly.", labels=("Cardiomegaly", "lung nodule/left", "scoliosis")),
        ReportPair("There is emphysema.", "There is emphysema.", labels=()),
        ReportPair("There is emphysema.", "There is emphysema.", labels=None),
    ]
    found = measure(NOTHING)(pairs)
    assert found[0].counted is not None and found[0].counted.tolist() == [True, True, False]
    assert found[0].n == 2 and "labeler rules; truth: data set's labels" in str(found[0].signature)
    assert figures(found, [1, 1, 5])["micro_precision"] == 0.5
    assert figures(found, [1, 1, 5])["micro_recall"] == 0.5


def test_reports_at_the_edges_say_nothing_or_do_not_count() -> None:
    pairs = [
        ReportPair("Cardiomegaly.", ""), ReportPair("  ", "Cardiomegaly."), ReportPair("Emphysema", "Emphysema"),
        ReportPair("Es zeigt sich eine Kardiomegalie mit der Emphysem und die Lunge ist groß.", "Emphysema."),
        ReportPair("Cardiomegaly. " * 3000, "Cardiomegaly. " * 3000), ReportPair("心臓", "Größe"),
    ]  # fmt: skip
    found = measure(NOTHING)(pairs)
    assert found[0].n == 4
    assert figures(found, [1] * 6)["micro_recall"] == pytest.approx(2 / 3)
    assert figures(found, [1] * 6)["micro_precision"] == 1.0
    assert [one.n for one in measure(NOTHING)([])] == [0] * 6


def test_region_prefixes_are_taken_out_where_regions_were_asked_for() -> None:
    told = "The region 0 is heart: No effusion The region 1 is bone: The region 2 is lung: Moderate cardiomegaly"

    def reading(pair: ReportPair) -> list[str]:
        labelled = labeling(NOTHING)([pair])
        assert (labelled.said == labelled.truth).all()
        return [name for name, said in zip(CT_RATE_NAMES, labelled.said[0], strict=True) if said]

    assert reading(ReportPair(told, told, regions=("heart", "bone", "lung"))) == ["cardiomegaly"]
    assert reading(ReportPair(told, told)) == []


def test_figures_agree_with_scikit_learn() -> None:
    random = np.random.default_rng(11)
    said, truth = random.random((2, 60, 18)) < np.linspace(0.05, 0.6, 18)
    found = clinical_efficacy.Labelled(said.astype(float), truth.astype(float), "labeler rules", "")
    for kind in ("micro", "macro"):
        expected = precision_recall_fscore_support(truth, said, average=kind, zero_division=0)[:3]
        sums = clinical_efficacy.counts(found).sum(axis=0, keepdims=True)
        got = [clinical_efficacy._figure(kind, figure, sums)[0] for figure in range(3)]
        assert got == pytest.approx(list(expected))


def test_radbert_reads_both_sides_where_it_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The labeler itself is tested in test_radbert.py; here only that nothing else reads."""

    class Reader:
        def __init__(self, folder: Path) -> None:
            assert folder == tmp_path

        def __call__(self, texts: list[str]) -> np.ndarray:
            return np.array([[text.startswith("A")] + [False] * 17 for text in texts])

    for name in ("config.json", "tokenizer.json", "RadBertClassifier.pth"):
        (tmp_path / name).write_text("{}")
    monkeypatch.setattr(clinical_efficacy, "RadBert", Reader)
    found = measure(NOTHING.model_copy(update={"radbert": tmp_path}))(
        [ReportPair("A", "A"), ReportPair("A", "Cardiomegaly")]
    )
    assert figures(found, [1, 1])["micro_recall"] == 0.5
    signature = str(found[0].signature)
    assert "labeler radbert, " in signature and "rules" not in signature


def test_a_radbert_folder_that_lacks_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match=r"score\.metrics\.radbert=.* lacks config\.json"):
        measure(NOTHING.model_copy(update={"radbert": tmp_path}))
