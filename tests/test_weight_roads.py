"""The road of new weights, as the roles' devices allow."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from rlaif.config import ConfigurationError
from rlaif.weight_roads import road_of

if TYPE_CHECKING:
    from rlaif.config import Config

GPUS = ("sampler.gpus=1", "learner.gpus=1")
SHARED = ("sampler.gpus=0.5", "learner.gpus=0.5")
ONE = ("learner.ranks=1",)


@pytest.mark.parametrize(
    ("overrides", "road"),
    [
        ((), "object_store"),
        (("sampler.gpus=1",), "object_store"),
        (GPUS, "nccl"),
        ((*SHARED, *ONE), "ipc"),
        # Ranks that share GPUs with engines: NCCL refuses two on one GPU, and which rank lies where is not known.
        (SHARED, "object_store"),
        ((*GPUS, "sampler.weights=object_store"), "object_store"),
    ],
)
def test_auto_takes_the_fastest_road_that_the_devices_allow(
    configured: Callable[..., "Config"], overrides: tuple[str, ...], road: str
) -> None:
    assert road_of(configured("experiment=smoke", *overrides)) == road


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("sampler.weights=nccl",), "sampler.gpus=0 and learner.gpus=0 do not give: set both to 1 or more"),
        (("sampler.weights=nccl", *SHARED, *ONE), "each with one role alone"),
        (("sampler.weights=ipc", *GPUS, *ONE), "both gpus to 0.5"),
        (("sampler.weights=ipc", *SHARED), "learner.ranks=2.*set the three to 1"),
    ],
)
def test_a_road_that_the_devices_do_not_allow_is_refused_with_the_fix(
    configured: Callable[..., "Config"], overrides: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        configured("experiment=smoke", *overrides)
