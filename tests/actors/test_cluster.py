"""What a cluster is asked before anything starts: as many GPUs as its preset is made for, and nodes with room."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from actors.cluster import check_placement, check_preset
from rlaif.config import ConfigurationError

if TYPE_CHECKING:
    from rlaif.config import Config

Configured = Callable[..., "Config"]


def test_a_preset_larger_than_the_cluster_is_refused(configured: Configured) -> None:
    config = configured("cluster=gpus_8")
    check_preset(config, [8.0])
    check_preset(config, [4.0, 4.0])
    with pytest.raises(
        ConfigurationError, match="cluster=gpus_8 is made for 8 GPUs, the cluster has 1: take a smaller"
    ):
        check_preset(config, [1.0, 0.0])
    check_preset(configured(), [])


def test_an_engine_finds_a_node_with_all_its_gpus(configured: Configured) -> None:
    config = configured("sampler.tensor_parallel=4", "sampler.gpus=4", "learner.gpus=1", "learner.ranks=4")
    check_placement(config, [8.0])
    check_placement(config, [4.0, 2.0, 2.0])
    with pytest.raises(ConfigurationError, match=r"a sampler needs 4 GPUs of one node, and the nodes' 3, 3, 2 leave"):
        check_placement(config, [3.0, 2.0, 3.0])
    with pytest.raises(ConfigurationError, match=r"a learner needs 1 GPUs of one node"):
        check_placement(config, [7.0, 0.0])
    with pytest.raises(ConfigurationError, match=r"no GPUs leave no room"):
        check_placement(config, [0.0])


def test_roles_without_gpus_stand_anywhere(configured: Configured) -> None:
    check_placement(configured(), [0.0])
