"""Joining the Ray cluster: the running head, else one that this job starts; and the check that all roles fit."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from actors.quiet import QUIET
from rlaif.config import Config, ConfigurationError


@contextmanager
def joined(config: Config) -> Iterator[None]:
    """Within this context the job is part of a cluster; what it started itself ends with it.

    Raises ConfigurationError where the roles need more than the cluster has.
    """
    os.environ |= QUIET
    address = config.cluster.address
    environment = {"env_vars": QUIET}
    if address == "auto" and not _head_runs():
        address = "local"
    ray.init(address=address, runtime_env=environment, log_to_driver=True, logging_level="warning")
    try:
        check_fits(config, ray.cluster_resources())
        yield
    finally:
        ray.shutdown()


def _head_runs() -> bool:
    if os.environ.get("RAY_ADDRESS"):
        return True
    # Where `ray start` leaves the address of this machine's head.
    return Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster").is_file()


def demands(config: Config) -> dict[str, tuple[float, float]]:
    """CPUs and GPUs of the roles that stand at the same time."""
    return {
        "sampler": (config.sampler.actors * config.sampler.cpus, config.sampler.actors * config.sampler.gpus),
        "judge": (config.judge.actors * config.judge.cpus, 0.0),
        "learner": (config.learner.ranks * config.learner.cpus, config.learner.ranks * config.learner.gpus),
    }


def check_fits(config: Config, cluster: dict[str, float]) -> None:
    """Raises ConfigurationError where the roles' sum exceeds the cluster's CPUs or GPUs."""
    for number, kind in enumerate(("CPU", "GPU")):
        needs = {role: demand[number] for role, demand in demands(config).items()}
        if sum(needs.values()) > cluster.get(kind, 0.0) + 1e-6:
            parts = " + ".join(f"{role} {need:g}" for role, need in needs.items() if need)
            raise ConfigurationError(
                f"the roles need {sum(needs.values()):g} {kind}s ({parts}), the cluster has {cluster.get(kind, 0.0):g}: "
                f"lower sampler.{kind.lower()}s, judge.{kind.lower()}s or learner.{kind.lower()}s, or add nodes"
            )
