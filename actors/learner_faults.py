"""How a training can fail that is no mistake of the program, and what to change then."""

from collections.abc import Iterator
from contextlib import contextmanager

from rlaif.learner_settings import LearnerSettings

# What a torch.distributed collective says when the process at its other end is gone.
_PEER_GONE = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "ncclRemoteError",
    "ncclSystemError",
    "watchdog",
    "NCCL communicator was aborted",
)


class LearningFailed(RuntimeError):
    """A training whose loss or weights are no numbers any more, or that ran away; nothing of it was saved."""


class LearnerOutOfMemory(RuntimeError):
    """A rank that has not enough memory for its training."""


class PeerLost(RuntimeError):
    """A rank that can no longer reach the others."""


def memory_advice(settings: LearnerSettings) -> str:
    """What makes a training smaller, from the settings that it has."""
    ways = ["give the learners more ranks or memory"]
    if settings.zero_stage < 3:
        ways.insert(0, f"raise learner.zero_stage above {settings.zero_stage} (3 shares the weights out, too)")
    if settings.offload != "all":
        ways.insert(0, f"set learner.offload={'optimizer' if settings.offload == 'none' else 'all'}")
    if not settings.gradient_checkpointing:
        ways.insert(0, "set learner.gradient_checkpointing=true")
    if settings.micro_batch > 1:
        ways.insert(0, f"lower learner.micro_batch={settings.micro_batch} (the result stays the same)")
    return "; ".join(ways)


@contextmanager
def told_plainly(rank: int, settings: LearnerSettings) -> Iterator[None]:
    """Turns torch's errors of memory and of lost connections into ours."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in text:
            first = text.strip().splitlines()[0]
            raise LearnerOutOfMemory(
                f"learner {rank} has not enough memory ({first}): {memory_advice(settings)}"
            ) from error
        if type(error).__name__.startswith("Dist") or any(one in text for one in _PEER_GONE):
            raise PeerLost(f"learner {rank} lost the other ranks: {text.strip().splitlines()[0]}") from error
        raise
