"""Reports that are scored on a data set: how they are written, and what they are held against."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from actors.scoring import scoring
from actors.written_reports import check_references
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
        check_references(run, config, ["Clear lungs.", None])
        words = r"heldout of data=phantom has a reference for run\.target=both: set run\.target=findings, under"
        with pytest.raises(ConfigurationError, match=words):
            check_references(run, config, [None])
        # Without any report there is no target to set.
        run.replace("studies", Study, [Study("a", "p", "s", "heldout")])
        check_references(run, config, [None])
