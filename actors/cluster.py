"""Joining the Ray cluster: the running head, else one that this job starts; and the check that all roles fit."""

import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray

from actors.head import object_store_bytes, private_folder
from actors.head_token import guard_own_token
from actors.quiet import QUIET
from actors.running_head import answers, named_head, started_head
from rlaif.config import Config, ConfigurationError
from rlaif.judges.settings import LeafJudge
from rlaif.plan_placement import Actors, placed


@contextmanager
def joined(config: Config, *, ingest_alone: bool = False, learners: bool = True) -> Iterator[None]:
    """Within this context the job is part of a cluster; what it started itself ends with it.

    Raises ConfigurationError where the cluster does not answer, where it has fewer GPUs than its preset is made for,
    or where the roles (`ingest_alone`: readers and encoders; without `learners`: the others) need more than it has.
    """
    with cluster_at(config.cluster.address):
        nodes = gpus_of_nodes()
        check_preset(config, nodes)
        if ingest_alone:
            check_ingest_fits(config, ray.cluster_resources())
        else:
            check_fits(config, ray.cluster_resources(), learners=learners)
            check_placement(config, nodes, learners=learners)
        yield


@contextmanager
def cluster_at(setting: str) -> Iterator[None]:
    """Within this context the process is part of the cluster that `cluster.address` stands for; a head that it had to
    start ends with it. Raises ConfigurationError where the cluster does not answer.
    """
    os.environ |= QUIET
    options: dict[str, Any] = {"runtime_env": {"env_vars": QUIET}, "logging_level": logging.WARNING}
    address = head_address(setting)
    folder = None
    if address == "local":
        guard_own_token()
        folder = private_folder()
        options |= {
            "_temp_dir": str(folder / "ray"),
            "include_dashboard": False,
            "object_store_memory": object_store_bytes(),
        }
    try:
        ray.init(address=address, **options)
        yield
    finally:
        ray.shutdown()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def head_address(setting: str) -> str:
    """What `cluster.address` stands for: `auto` is the head of a submitted job, of RAY_ADDRESS or of `ray start`.

    `local` where none of them is there. Raises ConfigurationError where the one that is named does not answer.
    """
    address = setting
    if setting == "auto":
        address = named_head() or started_head() or "local"
    if address.startswith("http"):
        raise ConfigurationError(f"RAY_ADDRESS={address} takes submitted jobs: use `ray job submit`, or unset it")
    if address != "local" and not answers(address):
        raise ConfigurationError(
            f"no Ray head answers at {address}: start it, or unset RAY_ADDRESS, or set cluster.address=local"
        )
    return address


def gpus_of_nodes() -> list[float]:
    """The GPUs of each node that is alive."""
    return [node["Resources"].get("GPU", 0.0) for node in ray.nodes() if node["Alive"]]


def check_preset(config: Config, nodes: Sequence[float]) -> None:
    """Raises ConfigurationError where nodes of so many GPUs are fewer than the preset is made for."""
    cluster, has = config.cluster, sum(nodes)
    if cluster.gpus is not None and cluster.nodes * cluster.gpus > has:
        raise ConfigurationError(
            f"cluster={cluster.name} is made for {cluster.nodes * cluster.gpus} GPUs, the cluster has {has:g}: take a "
            "smaller preset, or add nodes"
        )


def check_placement(config: Config, nodes: Sequence[float], *, learners: bool = True) -> None:
    """Raises ConfigurationError where an actor finds no node with as many free GPUs, as none spans two of them."""
    learner, sampler = config.learner, config.sampler
    ranks = learner.ranks if learners else 0
    # Where roles share places, one node must hold what stands on a place.
    shared = min(ranks, sampler.actors) if config.cluster.placement == "colocated" else 0
    actors = [
        Actors("learner with a sampler", shared, learner.gpus + sampler.gpus),
        Actors("sampler", sampler.actors - shared, sampler.gpus),
        *(Actors(f"judge {judge.name}", judge.actors, judge.gpus) for judge in config.leaf_judges.values()),
        Actors("learner", ranks - shared, learner.gpus),
    ]
    homeless = placed(actors, nodes).homeless
    if homeless is not None:
        has = ", ".join(f"{gpus:g}" for gpus in sorted(nodes, reverse=True) if gpus) or "no GPUs"
        raise ConfigurationError(
            f"a {homeless.name} needs {homeless.gpus:g} GPUs of one node, and the nodes' {has} leave no room for all: "
            "lower sampler.tensor_parallel and sampler.gpus, sampler.actors or learner.ranks"
        )


def demands(config: Config) -> dict[str, tuple[float, float]]:
    """CPUs and GPUs of the roles that stand at the same time."""
    return {
        "sampler": (config.sampler.actors * config.sampler.cpus, config.sampler.actors * config.sampler.gpus),
        "judge": (
            sum(judge.actors * judge.cpus for judge in config.leaf_judges.values()),
            sum(judge.actors * judge.gpus for judge in config.leaf_judges.values()),
        ),
        "learner": (config.learner.ranks * config.learner.cpus, config.learner.ranks * config.learner.gpus),
    }


def check_fits(config: Config, cluster: dict[str, float], *, learners: bool = True) -> None:
    """Raises ConfigurationError where the roles' sum, or the ingest, needs more than the cluster's CPUs or GPUs."""
    standing = {role: demand for role, demand in demands(config).items() if learners or role != "learner"}
    for number, kind in enumerate(("CPU", "GPU")):
        needs = {role: demand[number] for role, demand in standing.items()}
        if sum(needs.values()) > cluster.get(kind, 0.0) + 1e-6:
            parts = " + ".join(f"{role} {need:g}" for role, need in needs.items() if need)
            has = cluster.get(kind, 0.0)
            raise ConfigurationError(
                f"the roles need {sum(needs.values()):g} {kind}s ({parts}), the cluster has {has:g}: "
                f"lower sampler.{kind.lower()}s, judge.{kind.lower()}s or learner.{kind.lower()}s, or add nodes"
            )
    check_ingest_fits(config, cluster)


def check_judges_fit(judges: Iterable[LeafJudge], cluster: dict[str, float]) -> None:
    """Raises ConfigurationError where judges alone need more than the cluster's CPUs or GPUs."""
    parts = [(one.name, (one.actors * one.cpus, one.actors * one.gpus)) for one in judges]
    for number, kind in enumerate(("CPU", "GPU")):
        needed, has = sum(demand[number] for _, demand in parts), cluster.get(kind, 0.0)
        if needed > has + 1e-6:
            words = " + ".join(f"{name} {demand[number]:g}" for name, demand in parts if demand[number])
            raise ConfigurationError(
                f"the judges need {needed:g} {kind}s ({words}), the cluster has {has:g}: lower their actors or "
                f"{kind.lower()}s, or add nodes"
            )


def check_ingest_fits(config: Config, cluster: dict[str, float]) -> None:
    """Raises ConfigurationError where readers and encoders need more than the cluster's CPUs or GPUs."""
    ingest = config.ingest
    if not ingest.encode:
        ingest = ingest.model_copy(update={"encoders": 0})
    reading, cpus = ingest.cpus * (ingest.encoders + 1), cluster.get("CPU", 0.0)
    if reading > cpus + 1e-6:
        raise ConfigurationError(
            f"the ingest needs {reading:g} CPUs, {ingest.cpus:g} for each of {ingest.encoders} encoders and a reader, "
            f"the cluster has {cpus:g}: lower ingest.encoders or ingest.cpus"
        )
    encoding, gpus = ingest.gpus * ingest.encoders, cluster.get("GPU", 0.0)
    if encoding > gpus + 1e-6:
        raise ConfigurationError(
            f"the ingest needs {encoding:g} GPUs, {ingest.gpus:g} for each of {ingest.encoders} encoders, the cluster "
            f"has {gpus:g}: lower ingest.encoders or ingest.gpus"
        )
