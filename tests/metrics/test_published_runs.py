"""Held-out reports of runs as rows beside a published table, from run folders written by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rlaif.config import Config
from rlaif.launch import CONFIGS
from rlaif.ledger import RunFolder
from rlaif.metrics.ablation import AblationRun
from rlaif.metrics.measures.settings import NotAvailable
from rlaif.metrics.published import read_table
from rlaif.metrics.published_rows import comma_separated, markdown
from rlaif.metrics.published_runs import ablation_rows, check_metrics, regime_rows
from rlaif.metrics.regimes import MeasuredPolicy, regime_table
from rlaif.metrics.report_sets import ScoredReport, measured_set, summary_of
from rlaif.records import HeldoutReport, Judgement, Study

TRUTH = {"a": "clear lungs", "b": "small effusion"}


@pytest.fixture(scope="module")
def plain(configured: Callable[..., Config]) -> Config:
    return configured("heldout.resamples=100", "score.metrics.names=[rouge,bleu]")


def beside(config: Config, name: str) -> Config:
    return config.model_copy(update={"table": read_table(CONFIGS / "table" / f"{name}.yaml")})


def judgement(case: str, stage: str, score: float) -> Judgement:
    return Judgement(
        f"{case}.{stage}", f"{case}.{stage}", case, 0, "gpt4", "1", score, 1.0, 5.0, None, "", None, None, None, False,
        0.0, 0, 0, 0.0,
    )  # fmt: skip


def write(root: Path, name: str, texts: dict[str, dict[str, str]]) -> Path:
    """A run whose policies wrote these texts, graded 3 by gpt4, with a blind control that says something else."""
    with RunFolder.open(root, name, {}) as run:
        for stage, by_case in texts.items():
            reports = [
                HeldoutReport(
                    case, case, f"p{case}", control, TRUTH[case], "nothing" if control else text, "stop", 0, {}
                )
                for case, text in by_case.items()
                for control in (False, True)
            ]
            run.append(f"heldout/{stage}", HeldoutReport, reports)
            grades = [judgement(case, stage, 3.0) for case in by_case]
            run.append(f"heldout-judging/{stage}/judgements", Judgement, grades)
    return root / name


def test_an_ablations_base_and_last_policies_stand_beside_the_table(tmp_path: Path, plain: Config) -> None:
    half = TRUTH | {"b": "clear lungs"}
    first = write(tmp_path, "first", {"base": half, "round-000": half, "round-001": TRUTH})
    second = write(tmp_path, "second", {"base": half, "round-000": half})
    config = beside(plain, "ct_gpt_pp_6")
    runs = [AblationRun("gpt4", "strategy1", 0, first), AblationRun("gpt4", "strategy2", 3, second)]
    rows = ablation_rows(runs, config)
    assert [row.label for row in rows] == ["base", "gpt4, strategy1, seed 0", "gpt4, strategy2, seed 3"]
    assert [row.metrics["rouge1"]["mean"] for row in rows] == [0.5, 1.0, 0.5]
    assert [row.metrics["gpt4_score"] for row in rows] == [{"mean": 3.0, "low": 3.0, "high": 3.0, "n": 2}] * 3
    assert {row.data for row in rows} == {"phantom"}
    assert config.table is not None
    text = markdown(config.table, rows)
    assert "| gpt4, strategy1, seed 0 (phantom, n = 2) | 100.00 [100.00, 100.00] |" in text
    # BLEU-4 has no runs of four words to count, ROUGE-1 is half, METEOR was not asked for.
    assert "| 0.5000 [0.0000, 1.0000] |" in text and text.count("| not measured |") == 3


def test_policies_of_a_comparison_stand_in_the_columns_of_their_data_set(tmp_path: Path, plain: Config) -> None:
    run = write(tmp_path, "rgro-50-dpo", {"base": TRUTH})
    other = write(tmp_path, "rgro-50-base-on-mimic_cxr-0", {"base": {"a": "clear", "b": "effusion"}})
    config = beside(plain, "rgro_2")
    tables = {
        "openi, held out": [MeasuredPolicy("SFT-50", None, run / "heldout" / "base")],
        "mimic_cxr (path: m), not seen in training": [MeasuredPolicy("SFT-50", None, other / "heldout" / "base")],
    }
    rows = regime_rows(tables, config)
    assert [row.data for row in rows] == ["openi", "mimic_cxr"]
    assert config.table is not None
    own, unseen = markdown(config.table, rows).partition("| Measured here |")[2].splitlines()[1:3]
    assert own.startswith("| SFT-50 (openi, n = 2) | 100.000 [") and own.count("not measured") == 9
    # One word of two: precision 1, recall 1/2.
    assert unseen.startswith("| SFT-50 (mimic_cxr, n = 2) | not measured |")
    assert "66.667 [66.667, 66.667]" in unseen


def test_one_patients_values_stand_without_an_interval(tmp_path: Path, plain: Config) -> None:
    run = write(tmp_path, "alone", {"base": {"a": "clear lungs"}})
    config = beside(plain, "rgro_2")
    rows = regime_rows({"openi, held out": [MeasuredPolicy("SFT-50", None, run / "heldout" / "base")]}, config)
    assert config.table is not None
    own = markdown(config.table, rows).partition("| Measured here |")[2].splitlines()[1]
    assert own.startswith("| SFT-50 (openi, n = 1) | 100.000 | 100.000 | 100.000 |")
    (line,) = (
        one for one in comma_separated(config.table, rows).splitlines() if "measured,openi,SFT-50,OPENI R1," in one
    )
    assert line.endswith(",rouge1,100.0,,,1,,")


def test_prompts_without_room_for_a_report_do_not_count(tmp_path: Path, plain: Config) -> None:
    run = write(tmp_path, "long", {"base": {"b": "small effusion"}})
    with RunFolder.open(tmp_path, "long", {}) as opened:
        row = HeldoutReport("a", "a", "pa", False, TRUTH["a"], "", "prompt_too_long", 0, {})
        opened.append("heldout/base", HeldoutReport, [row])
    policy = MeasuredPolicy("SFT-50", None, run / "heldout" / "base")
    (beside_table,) = regime_rows({"openi, held out": [policy]}, beside(plain, "rgro_2"))
    assert (beside_table.metrics["rouge1"]["mean"], beside_table.metrics["rouge1"]["n"]) == (1.0, 1)
    own = regime_table([policy], resamples=50)["policies"]["SFT-50"]
    assert (own["rouge1"]["mean"], own["rouge1"]["n"]) == (1.0, 1)


def test_no_held_out_reports_have_no_values(tmp_path: Path, plain: Config) -> None:
    run = write(tmp_path, "none", {"base": {}, "round-000": {}})
    rows = ablation_rows([AblationRun("gpt4", "strategy1", 0, run)], beside(plain, "ct_gpt_pp_6"))
    assert [row.metrics for row in rows] == [{}] * len(rows)


def test_the_data_sets_labels_are_the_truth_as_in_jobs_score(
    tmp_path: Path, configured: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured("heldout.resamples=100", "score.metrics.names=[clinical_efficacy]")
    run = write(tmp_path, "labelled", {"base": TRUTH})
    # The labels know of a nodule that neither report names; of a third study there is no report.
    labels = {"a": (), "b": ("pleural effusion", "lung nodule/left"), "c": ("emphysema",)}
    with RunFolder.open(tmp_path, "labelled", {}) as folder:
        studies = [Study(case, f"p{case}", "made up", "heldout", labels=own) for case, own in labels.items()]
        folder.append("studies", Study, studies)
    (row,) = ablation_rows([AblationRun("gpt4", "strategy1", 0, run)], config)
    reports = [ScoredReport(case, case, f"p{case}", TRUTH[case], TRUTH[case], labels[case], (), "") for case in TRUTH]
    scored = summary_of(measured_set(reports, (), config.score.metrics, processes=1), resamples=100)["metrics"]
    assert row.metrics["ce_micro_recall"]["mean"] == scored["ce_micro_recall"]["mean"] == 0.5


def test_a_metric_that_cannot_run_is_told_before_the_runs(plain: Config) -> None:
    metrics = plain.score.metrics.model_copy(update={"names": ("radgraph",)})
    config = plain.model_copy(update={"score": plain.score.model_copy(update={"metrics": metrics})})
    check_metrics(config)
    with pytest.raises(NotAvailable, match="radgraph"):
        check_metrics(beside(config, "argus_2"))
