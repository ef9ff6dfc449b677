"""Where learners and samplers stand on several nodes, and where they stand again once a node was lost."""

import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from actors.placement import Placement
from actors.remote import ActorLost, StartFailed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
# Half a node each.
ROLES = ("learner.ranks=2", "learner.cpus=1", "sampler.actors=2", "sampler.cpus=1", "judge.cpus=0.5")


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster of three nodes of two CPUs, and a head without any; this process is part of it."""
    monkeypatch.setenv("RAY_health_check_period_ms", "500")
    monkeypatch.setenv("RAY_health_check_failure_threshold", "3")
    monkeypatch.setenv("RAY_health_check_initial_delay_ms", "500")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with tempfile.TemporaryDirectory(prefix="rlaif-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": folder}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(3):
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


def wait_until(true: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what} took more than {seconds:.0f} s"
        time.sleep(0.1)


def nodes_of(config: Any, placement: Placement) -> dict[str, list[str]]:
    """On which nodes learners and samplers stand that are started at their places."""
    roles: dict[str, list[Any]] = {}
    for role, settings in (("sampler", config.sampler), ("learner", config.learner)):
        places = [placement.options(role, number, settings) for number in range(2)]
        roles[role] = [Stander.options(**place).remote() for place in places]
    found = {role: ray.get([one.node.remote() for one in actors], timeout=120) for role, actors in roles.items()}
    for actors in roles.values():
        for one in actors:
            ray.kill(one)
    return found


def test_roles_apart_or_together_and_where_they_stand_after_a_node_was_lost(
    nodes: Cluster, configured: Callable[..., Any]
) -> None:
    config = configured(*ROLES, "cluster.placement=apart")
    apart = Placement(config)
    found = nodes_of(config, apart)
    # The ranks speak to each other at every step; the engines never do, and share a node with nobody here.
    assert len({*found["learner"]}) == 1 and len({*found["sampler"], *found["learner"]}) == 3
    rules = config.leaf_judges["rules"]
    assert "scheduling_strategy" in apart.options("judge rules", 0, rules)
    assert "scheduling_strategy" not in apart.options("judge other", 0, rules)
    apart.close()
    with pytest.raises(ActorLost, match="the run's places were given back"):
        apart.options("learner", 0, config.learner)

    config = configured(*ROLES, "judge.cpus=0", "cluster.placement=colocated")
    together = Placement(config)
    found = nodes_of(config, together)
    assert found["learner"] == found["sampler"]

    # The places of a lost node are given another one.
    lost = next(iter(nodes.worker_nodes))
    nodes.remove_node(lost, allow_graceful=False)
    wait_until(lambda: sum(node["Alive"] for node in ray.nodes()) == 3, 60, "the loss of a node")
    again = nodes_of(config, together)
    assert again["learner"] == again["sampler"]
    assert {*again["learner"]} <= {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    together.close()

    # What does not fit is said at once, with what the nodes have, and is tried no second time.
    large = configured("learner.ranks=3", "learner.cpus=2", "learner.timeout_s=3", "cluster.placement=apart")
    with pytest.raises(StartFailed, match=r"cluster\.placement=apart: no room for .*'CPU': 2.* in 3 s: the nodes have"):
        Placement(large).options("learner", 0, large.learner)
    plain = configured("cluster.placement=anywhere")
    assert Placement(plain).options("learner", 0, plain.learner) == {"num_cpus": 0.5, "num_gpus": 0}
