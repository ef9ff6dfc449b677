"""CIDEr against numbers computed by hand, and against pycocoevalcap's own class."""

from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

from rlaif.metrics.measures import cider
from rlaif.metrics.measures.measured import ReportPair
from rlaif.metrics.measures.settings import MetricSettings, NotAvailable


def test_by_hand(metric_settings: MetricSettings) -> None:
    # Words and pairs of words agree wholly, longer n-grams there are none: 10 * 2 / 4.
    pairs = [ReportPair("clear lungs", "clear lungs"), ReportPair("left effusion", "left effusion")]
    (found,) = cider.measure(metric_settings)(pairs)
    assert found.values == pytest.approx([5.0, 5.0])
    # "lungs" in both references says nothing; a candidate that is a pair of words longer has exp(-1 / 72) of it.
    pairs = [ReportPair("clear lungs", "clear lungs today"), ReportPair("dense lungs", "")]
    (found,) = cider.measure(metric_settings)(pairs)
    share = np.exp(-1 / 72)
    assert found.values == pytest.approx([10 / 4 * share * (2**-0.5 + 2**-0.5), 0.0])
    assert "0 to 10" in str(found.signature)


def test_the_same_numbers_as_the_librarys_own_class(metric_settings: MetricSettings) -> None:
    from pycocoevalcap.cider.cider import Cider

    dice = np.random.default_rng(7)
    words = np.array(["no", "nodule", "effusion", "in", "the", "left", "right", "lobe", ",", "mild", "4.5", "mm", "Öd"])
    pairs = [
        ReportPair(*(" ".join(dice.choice(words, size=int(dice.integers(1, 40)))) for _ in "12")) for _ in range(25)
    ]
    references = {place: [pair.reference] for place, pair in enumerate(pairs)}
    candidates = {place: [pair.candidate] for place, pair in enumerate(pairs)}
    mean, values = Cider().compute_score(references, candidates)
    (found,) = cider.measure(metric_settings)(pairs)
    assert found.values == pytest.approx(values, abs=1e-12)
    assert found.over(np.ones((1, 25))) == pytest.approx([mean])
    # Drawn sets keep the document frequencies.
    assert found.over(np.eye(25)) == pytest.approx(values)


def test_numbers_of_other_references_have_another_signature(metric_settings: MetricSettings) -> None:
    measure = cider.measure(metric_settings)
    pairs = [ReportPair("clear lungs", "clear"), ReportPair("left effusion", "effusion"), ReportPair("", "clear")]
    (found,), (turned,) = measure(pairs), measure([ReportPair(one.reference, "nodule") for one in reversed(pairs)])
    (fewer,), (other,) = measure(pairs[:1]), measure([pairs[0], ReportPair("right effusion", "effusion")])
    assert found.signature == turned.signature and "of all 2 references (xxh3 " in str(found.signature)
    assert len({found.signature, fewer.signature, other.signature}) == 3


def test_empty_texts_and_one_report(metric_settings: MetricSettings) -> None:
    measure = cider.measure(metric_settings)
    pairs = [ReportPair("clear lungs", "clear lungs"), ReportPair("", "clear"), ReportPair("肺 清晰", "肺 清晰")]
    (found,) = measure(pairs)
    assert found.values == pytest.approx([5.0, np.nan, 5.0], nan_ok=True)
    assert found.n == 2
    (alone,) = measure(pairs[:1])
    assert alone.values == pytest.approx([0.0])
    (none,) = measure([ReportPair("", "clear")])
    assert none.n == 0
    assert np.isnan(none.over(np.ones((1, 1)))).all()


def test_without_the_package(metric_settings: MetricSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(cider, "version", version)
    with pytest.raises(NotAvailable, match="pip install pycocoevalcap"):
        cider.measure(metric_settings)
