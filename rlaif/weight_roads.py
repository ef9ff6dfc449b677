"""Which road new weights take from the learners to the samplers, as their devices allow."""

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from rlaif.config import Config

Road: TypeAlias = Literal["object_store", "nccl", "ipc"]


def road_of(config: "Config") -> Road:
    """The road of `sampler.weights`; `auto` takes the fastest that the devices allow."""
    wanted = config.sampler.weights
    if wanted != "auto":
        return wanted
    if not _on_gpus(config):
        return "object_store"
    if not _share_a_gpu(config):
        return "nccl"
    return "ipc" if _one_each(config) else "object_store"


def check_road(config: "Config") -> None:
    """Raises ValueError for a road that the devices of sampler and learner do not allow."""
    sampler, learner = config.sampler, config.learner
    devices = f"sampler.gpus={sampler.gpus:g} and learner.gpus={learner.gpus:g}"
    if sampler.weights == "nccl" and (not _on_gpus(config) or _share_a_gpu(config)):
        raise ValueError(
            f"sampler.weights=nccl goes between GPUs, each with one role alone, which {devices} do not give: set both "
            "to 1 or more, or sampler.weights=auto"
        )
    if sampler.weights == "ipc" and not (_on_gpus(config) and _share_a_gpu(config) and _one_each(config)):
        raise ValueError(
            f"sampler.weights=ipc goes within one GPU that one learner and one sampler share, which {devices}, "
            f"learner.ranks={learner.ranks}, sampler.actors={sampler.actors} and sampler.tensor_parallel="
            f"{sampler.tensor_parallel} do not give: set the three to 1 and both gpus to 0.5, or sampler.weights=auto"
        )


def _on_gpus(config: "Config") -> bool:
    return config.sampler.gpus > 0 and config.learner.gpus > 0


def _share_a_gpu(config: "Config") -> bool:
    return config.sampler.gpus < 1 or config.learner.gpus < 1


def _one_each(config: "Config") -> bool:
    return config.learner.ranks == config.sampler.actors == config.sampler.tensor_parallel == 1
