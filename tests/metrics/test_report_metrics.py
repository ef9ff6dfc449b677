import pytest

from rlaif.metrics.report_metrics import report_metrics


def test_known_numbers_against_a_reference():
    metrics = report_metrics("A nodule in the left lung. Emphysema.", None, "A nodule in the left lung. Consolidation.")
    assert metrics["finding_f1"] == pytest.approx(0.5)
    assert (metrics["hallucinated"], metrics["omitted"], metrics["report_words"]) == (1, 1, 7)
    assert metrics["rules_score"] == pytest.approx(1 / 3)


def test_labels_come_before_the_reference_and_their_sides_must_be_said():
    labels = ("lung nodule/left", "emphysema")
    right = report_metrics("Nothing.", labels, "A nodule in the left lung. Severe emphysema.")
    assert (right["finding_f1"], right["hallucinated"], right["omitted"]) == (1, 0, 0)
    wrong = report_metrics("Nothing.", labels, "A nodule in the right lung. Emphysema.")
    assert (wrong["finding_f1"], wrong["hallucinated"], wrong["omitted"]) == (0.5, 1, 1)
    silent = report_metrics("Nothing.", labels, "A nodule. Emphysema.")
    assert (silent["finding_f1"], silent["hallucinated"], silent["omitted"]) == (0.5, 1, 1)


def test_a_label_without_side_is_met_by_any_side():
    metrics = report_metrics(None, ("Lung nodule",), "A nodule in the left lung and a nodule in the right lung.")
    assert (metrics["finding_f1"], metrics["hallucinated"], metrics["omitted"]) == (1, 0, 0)
    assert "rules_score" not in metrics


def test_bilateral_is_left_and_right():
    both = ("pleural effusion/bilateral",)
    assert report_metrics(None, both, "Left pleural effusion. Right pleural effusion.")["finding_f1"] == 1
    one = report_metrics(None, both, "Left pleural effusion.")
    assert (one["hallucinated"], one["omitted"]) == (0, 1)
    more = report_metrics(None, ("pleural effusion/left",), "Bilateral pleural effusions.")
    assert (more["hallucinated"], more["omitted"]) == (1, 0)


def test_findings_outside_the_labels_vocabulary_do_not_count():
    metrics = report_metrics(None, ("emphysema",), "Emphysema. Rib fracture. Pneumothorax.")
    assert (metrics["finding_f1"], metrics["hallucinated"]) == (1, 0)
    against_text = report_metrics("Emphysema.", None, "Emphysema. Rib fracture.")
    assert against_text["hallucinated"] == 1


def test_negated_findings_are_not_said():
    metrics = report_metrics(None, ("emphysema",), "No emphysema. No nodule.")
    assert (metrics["finding_f1"], metrics["hallucinated"], metrics["omitted"]) == (0, 0, 1)


def test_normal_studies():
    assert report_metrics(None, (), "The lungs are clear.")["finding_f1"] == 1
    assert report_metrics("Normal.", None, "Normal.")["finding_f1"] == 1
    assert report_metrics("Normal.", None, "A nodule.")["finding_f1"] == 0


def test_metrics_that_do_not_apply_are_absent():
    assert report_metrics(None, None, "two words") == {"report_words": 2}
    assert "rules_score" not in report_metrics("A nodule.", None, "  ")
    assert "rules_score" not in report_metrics(" ", (), "A nodule.")


@pytest.mark.parametrize("labels", [None, ()])
def test_an_empty_report_of_a_normal_study_is_not_right(labels):
    metrics = report_metrics("The lungs are clear.", labels, " ")
    assert metrics == {"report_words": 0.0, "finding_f1": 0.0, "hallucinated": 0.0, "omitted": 0.0}
    assert report_metrics("The lungs are clear.", labels, "The lungs are clear.")["finding_f1"] == 1.0


def test_a_reference_in_another_language_is_no_normal_one():
    german = "Kein Pleuraerguss. Die Lunge ist frei, und das Herz ist nicht vergroessert."
    assert report_metrics(german, None, "Right pleural effusion.") == {"report_words": 3.0}
    assert report_metrics(german, ("pleural effusion/right",), "Right pleural effusion.") == {
        "report_words": 3.0,
        "finding_f1": 1.0,
        "hallucinated": 0.0,
        "omitted": 0.0,
    }
