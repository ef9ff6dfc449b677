"""The learner groups that tests of trainings share."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from actors.fleet import Fleet
    from actors.learner_group import LearnerGroup


@pytest.fixture(scope="module")
def two(fleet: "Fleet", small: Any) -> Iterator["LearnerGroup"]:
    """The session's group of two ranks, which gets its own settings back."""
    from trainings import on_all

    assert len(fleet.learners.ranks) == 2
    yield fleet.learners
    settings = small.config().learner

    def take(learner: Any) -> None:
        learner.settings = settings

    on_all(fleet.learners, take)


@pytest.fixture(scope="session")
def one(cluster: None, small: Any) -> Iterator["LearnerGroup"]:
    """A group of one rank on the same settings."""
    from actors.learner_group import LearnerGroup
    from actors.outages import Outages
    from actors.placement import Placement
    from rlaif.vision import StoredFeatures

    config = small.config("learner.ranks=1")
    group = LearnerGroup(config, StoredFeatures(small.features), Placement(config), Outages())
    yield group
    group.close()
