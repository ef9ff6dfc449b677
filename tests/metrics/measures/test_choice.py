"""All metrics at once: which can be computed, and that their numbers depend on the reports alone."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from rlaif.metrics.measures import choice
from rlaif.metrics.measures.choice import OFFLINE, chosen, measure_all
from rlaif.metrics.measures.measured import ReportPair
from rlaif.metrics.measures.settings import MetricError, MetricSettings, NotAvailable

EDGES = [
    ReportPair("No pleural effusion. The heart is not enlarged.", "No pleural effusion. The heart is enlarged."),
    ReportPair("There is a 4 mm nodule.", ""),
    ReportPair("", "There is a 4 mm nodule."),
    ReportPair("Clear.", "Clear."),
    ReportPair("Ödem yok, akciğerler doğal.", "Ödem yok, akciğerler doğal."),
    ReportPair("肺清晰。", "两肺清晰。"),
    ReportPair("There is a left pleural effusion.", "There is a left pleural effusion.", ("pleural effusion/left",)),
    ReportPair("Lungs are clear.", "The region 0 is lung: Lungs are clear.", regions=("lung",)),
]


def offline(settings: MetricSettings, names: Sequence[str] = OFFLINE) -> MetricSettings:
    """The settings with the offline families that can run here."""
    able = []
    for name in names:
        try:
            chosen(settings.model_copy(update={"names": (name,)}))
        except NotAvailable:
            continue
        able.append(name)
    return settings.model_copy(update={"names": tuple(able)})


def test_same_numbers_on_every_run_and_in_every_order(metric_settings: MetricSettings) -> None:
    settings = offline(metric_settings)
    first, missing = measure_all(EDGES, settings)
    again, _ = measure_all(EDGES, settings)
    order = np.random.default_rng(1).permutation(len(EDGES))
    moved, _ = measure_all([EDGES[place] for place in order], settings)
    assert missing == {}
    assert list(first) == list(again) == list(moved)
    everything = np.ones((1, len(EDGES)))
    for name, one in first.items():
        assert np.array_equal(one.over(everything), again[name].over(everything), equal_nan=True)
        assert one.over(everything) == pytest.approx(moved[name].over(everything), rel=1e-12, nan_ok=True)
        assert one.n == moved[name].n
        assert one.signature == again[name].signature
        if one.values is not None:
            other = moved[name].values
            assert other is not None
            assert np.array_equal(one.values[order], other, equal_nan=True)


def test_processes_change_no_number(metric_settings: MetricSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_WORTH_A_PROCESS", 20)
    settings = offline(metric_settings, ("bleu", "lengths", "findings"))
    pairs = EDGES * 10
    alone, _ = measure_all(pairs, settings)
    shared, _ = measure_all(pairs, settings, processes=2)
    assert list(alone) == list(shared)
    weights = np.random.default_rng(1).multinomial(80, np.full(80, 1 / 80), size=3).astype(np.float64)
    for name, one in alone.items():
        assert np.array_equal(one.over(weights), shared[name].over(weights), equal_nan=True)


def test_names_of_regions_are_no_words_of_the_report(metric_settings: MetricSettings) -> None:
    found, _ = measure_all([EDGES[-1]], offline(metric_settings, ("bleu", "lengths", "findings")))
    assert found["bleu_4"].over(np.ones((1, 1))) == pytest.approx([1.0])
    assert found["report_words"].over(np.ones((1, 1))) == pytest.approx([3.0])
    assert found["region_recognition"].over(np.ones((1, 1))) == pytest.approx([1.0])


def test_reports_of_20000_words(metric_settings: MetricSettings) -> None:
    dice = np.random.default_rng(4)
    words = np.array(["no", "nodule", "effusion.", "in", "the", "Left", "lobe", ",", "mild", "4.5", "mm", "."])
    texts = [" ".join(dice.choice(words, size=20_000)) for _ in "12"]
    started = time.process_time()
    found, _ = measure_all([ReportPair(*texts)], offline(metric_settings))
    assert time.process_time() - started < 60
    assert 0 < float(found["rougeL"].over(np.ones((1, 1)))[0]) < 1


def test_without_reports(metric_settings: MetricSettings) -> None:
    found, _ = measure_all([], offline(metric_settings))
    assert {one.n for one in found.values()} == {0}
    assert all(np.isnan(one.over(np.ones((2, 0)))).all() for one in found.values())


def test_a_metric_that_cannot_run_says_why(
    metric_settings: MetricSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "MEASURES", {name: choice.MEASURES[name] for name in ("meteor", "lengths")})
    settings = metric_settings.model_copy(update={"wordnet": tmp_path})
    measures, missing = chosen(settings)
    assert list(measures) == ["lengths"]
    assert list(missing) == ["meteor"]
    assert "score.metrics.wordnet=" in missing["meteor"]
    assert "\n" not in missing["meteor"]
    with pytest.raises(NotAvailable, match=r"^score\.metrics\.names has 'meteor'.*index\.adj"):
        chosen(settings.model_copy(update={"names": ("meteor",)}))


def test_a_name_that_is_none(metric_settings: MetricSettings) -> None:
    with pytest.raises(
        MetricError, match=r"^score\.metrics\.names has 'rogue', which is no metric: did you mean 'rouge'"
    ):
        chosen(metric_settings.model_copy(update={"names": ("bleu", "rogue")}))
    with pytest.raises(MetricError, match="there are bleu, rouge, meteor"):
        chosen(metric_settings.model_copy(update={"names": ("xyz",)}))


@pytest.mark.parametrize(
    ("ends", "words"),
    [("time.sleep(600)", "more than 2 s to measure 32 reports"), ("os._exit(1)", "ended from outside")],
)
def test_a_process_that_hangs_or_ends_is_an_error_and_not_waited_for(tmp_path: Path, ends: str, words: str) -> None:
    script = tmp_path / "hangs.py"
    # As long as reports get: what waits to be sent to the process does not fit a pipe.
    script.write_text(
        "import multiprocessing, os, time\n"
        "from rlaif.metrics.measures import choice\n"
        "from rlaif.metrics.measures.by_report import ByReport, as_rows\n"
        "from rlaif.metrics.measures.measured import ReportPair\n"
        "from rlaif.metrics.measures.settings import MetricSettings\n"
        "def rows(pairs):\n"
        "    if multiprocessing.parent_process() is not None:\n"
        f"        {ends}\n"
        "    return as_rows([[1.0]] * len(pairs), 1)\n"
        "if __name__ == '__main__':\n"
        "    choice._LONGEST_S = 2.0\n"
        "    choice.MEASURES = {'stuck': lambda settings: ByReport(rows, lambda found: [])}\n"
        "    settings = MetricSettings(**dict.fromkeys(MetricSettings.model_fields))\n"
        "    choice.measure_all([ReportPair('clear ' * 20_000, '')] * 400, settings, processes=2)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith("rlaif.metrics.measures.settings.MetricError: ") and words in error


def test_importing_the_choice_imports_no_library() -> None:
    code = (
        "import sys, rlaif.metrics.measures.choice\n"
        "print(*{'torch', 'nltk', 'sacrebleu', 'scipy', 'pycocoevalcap'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == ""


def test_nltk_is_imported_without_the_libraries_that_it_is_not_asked_to_use() -> None:
    code = (
        "import sys\n"
        "from rlaif.metrics.measures import choice\n"
        "choice._import_nltk_alone()\n"
        "print('nltk' in sys.modules, *{'sklearn', 'scipy', 'norm'} & set(sys.modules))\n"
        "import scipy.stats, sklearn.svm\n"
        "print(scipy.stats.norm.cdf(0.0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["True", "0.5"], done.stderr
