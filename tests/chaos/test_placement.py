"""Where learners and samplers stand on several nodes, and where they stand again once a node was lost."""

import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from actors.placement import Placement
from actors.remote import ActorLost

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
# Half a node each.
ROLES = ("learner.ranks=2", "learner.cpus=1", "sampler.actors=2", "sampler.cpus=1")


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster of two nodes of two CPUs, and a head without any; this process is part of it."""
    monkeypatch.setenv("RAY_health_check_period_ms", "500")
    monkeypatch.setenv("RAY_health_check_failure_threshold", "3")
    monkeypatch.setenv("RAY_health_check_initial_delay_ms", "500")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with tempfile.TemporaryDirectory(prefix="rlaif-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": folder}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            cluster.add_node(num_cpus=2)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="warning")
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@ray.remote
class Stander:
    """An actor that says on which node it stands."""

    def node(self) -> str:
        return ray.get_runtime_context().get_node_id()


def nodes_of(placement: Placement) -> dict[str, list[str]]:
    """On which nodes learners and samplers stand that are started at their places."""
    roles: dict[str, list[Any]] = {
        role: [Stander.options(**placement.options(role, number)).remote() for number in range(2)]  # type: ignore[arg-type]
        for role in ("sampler", "learner")
    }
    found = {role: ray.get([one.node.remote() for one in actors], timeout=120) for role, actors in roles.items()}
    for actors in roles.values():
        for one in actors:
            ray.kill(one)
    return found


def test_roles_apart_or_together_and_where_they_stand_after_a_node_was_lost(
    two_nodes: Cluster, configured: Callable[..., Any]
) -> None:
    apart = Placement(configured(*ROLES, "cluster.placement=apart"))
    found = nodes_of(apart)
    # The ranks speak to each other at every step.
    assert len(set(found["learner"])) == 1
    apart.close()

    together = Placement(configured(*ROLES, "cluster.placement=colocated"))
    found = nodes_of(together)
    assert found["learner"] == found["sampler"]

    # The places of the lost node are given to the one that comes.
    before = {node["NodeID"] for node in ray.nodes()}
    two_nodes.remove_node(next(iter(two_nodes.worker_nodes)), allow_graceful=False)
    two_nodes.add_node(num_cpus=2)
    (new,) = {node["NodeID"] for node in ray.nodes() if node["Alive"]} - before
    again = nodes_of(together)
    assert again["learner"] == again["sampler"] and new in again["learner"]
    together.close()

    # What does not fit is said, with what the nodes have.
    large = configured("learner.ranks=3", "learner.cpus=2", "learner.timeout_s=3", "cluster.placement=apart")
    with pytest.raises(ActorLost, match=r"cluster\.placement=apart: no room for .*'CPU': 2.* in 3 s: the nodes have"):
        Placement(large).options("learner", 0)
    assert Placement(configured("cluster.placement=anywhere")).options("learner", 0) == {"num_cpus": 0.5, "num_gpus": 0}
