"""What an ingest says that it needs, before anything is read."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from actors.ingest_stage import tell_needs

if TYPE_CHECKING:
    from rlaif.config import Config


def test_features_are_told_only_where_some_are_made(
    configured: Callable[..., "Config"], capsys: pytest.CaptureFixture[str]
) -> None:
    tell_needs(configured("experiment=smoke"))
    assert "features: at most " in capsys.readouterr().out
    tell_needs(configured("experiment=smoke", "learner.sft.train=[encoder,connector]"))
    told = capsys.readouterr().out
    assert "features: none, for the encoder trains" in told and "at most" not in told
    assert "volumes: 120, recipe phantom" in told
