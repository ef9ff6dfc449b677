"""Reports that are scored on a data set: how they are written, and what they are held against."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from actors import written_reports
from actors.scoring import scoring
from actors.written_reports import check_references, has_reference, write_reports
from rlaif.config import ConfigurationError
from rlaif.ledger import RunFolder
from rlaif.records import Study

if TYPE_CHECKING:
    from rlaif.config import Config


def test_nothing_is_written_twice_for_being_empty_or_cut_off(configured: Callable[..., "Config"]) -> None:
    config = configured("experiment=smoke", "sampler.attempts=3")
    assert scoring(config).sampler.attempts == 1


def test_a_target_that_no_study_has_is_told_with_those_that_they_have(
    configured: Callable[..., "Config"], tmp_path: Path
) -> None:
    config = configured("experiment=smoke", "run.target=both", "score.split=heldout")
    with RunFolder.open(tmp_path, "run", {}) as run:
        run.replace("studies", Study, [Study("a", "p", "s", "heldout", findings="Clear lungs.")])
        check_references(run, config, [True, False])
        words = r"heldout of data=phantom has a reference for run\.target=both: set run\.target=findings, under"
        with pytest.raises(ConfigurationError, match=words):
            check_references(run, config, [False])
        # Without any report there is no target to set.
        run.replace("studies", Study, [Study("a", "p", "s", "heldout")])
        check_references(run, config, [False])


def test_a_policy_that_writes_one_text_alone_is_not_told_to_write_another(
    configured: Callable[..., "Config"], tmp_path: Path
) -> None:
    config, regions = configured("experiment=smoke"), configured("policy=reg2rg").policy.settings()
    with RunFolder.open(tmp_path, "run", {}) as run:
        run.replace("studies", Study, [Study("a", "p", "s", "heldout", impression="Normal.")])
        words = r"run\.target=findings: policy=reg2rg writes nothing else, so take another data set or another policy"
        with pytest.raises(ConfigurationError, match=words):
            check_references(run, config, [False], regions)


def test_a_missing_reference_is_told_before_any_ct_is_read(
    configured: Callable[..., "Config"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured("experiment=smoke", "run.target=both")
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "policy.json").write_text(config.policy.settings().model_dump_json())
    policy = config.policy.model_copy(update={"path": tmp_path / "policy"})

    def no_ct(*_: object) -> None:
        raise AssertionError("a CT was read")

    monkeypatch.setattr(written_reports, "ingest_studies", no_ct)
    monkeypatch.setattr(written_reports, "prepare_studies", lambda *_, **__: None)
    with RunFolder.open(tmp_path, "run", {}) as run:
        run.replace("studies", Study, [Study("a", "p", "s", "heldout", findings="Clear lungs.")])
        with pytest.raises(ConfigurationError, match=r"set run\.target=findings"):
            write_reports(run, config.model_copy(update={"policy": policy}))


def test_sentences_of_regions_stand_in_for_a_report_region_by_region(configured: Callable[..., "Config"]) -> None:
    config, study = configured("experiment=smoke"), Study("a", "p", "s", "heldout", region_reports={"heart": "Normal."})
    assert has_reference(study, config, configured("policy=reg2rg").policy.settings())
    assert not has_reference(study, config, config.policy.settings())
