"""Memory as a plan counts it: bytes of parts, with words for what they are, and the actors that hold them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

MIB, GIB = 2**20, 2**30
# What an actor takes before it holds anything of ours, measured on a CPU: interpreter, torch and the engine's code.
RUNTIME_BYTES = {"sampler": 950 * MIB, "learner": 560 * MIB, "judge": 130 * MIB, "ingest": 450 * MIB}
# A CUDA context, and the buffers of the libraries in it: not measured.
GPU_RUNTIME_BYTES = GIB


@dataclass(frozen=True)
class Need:
    """Bytes of something, with what they are made of."""

    what: str
    bytes: float
    made_of: str


@dataclass(frozen=True)
class Role:
    """Actors of one kind: how many, the CPUs and GPUs of each, and the memory of each with what it is made of."""

    name: str
    count: int
    cpus: float
    gpus: float
    bytes: float
    """The host's memory."""
    made_of: str
    lasting: bool = True
    """Whether it stands all the time; ingest ends before the others start."""
    gpu_bytes: float = 0.0
    """Of each GPU that an actor stands on, at least."""
    gpu_made_of: str = ""
    gpu_share: float | None = None
    """The share of a GPU's memory that an engine takes, whatever it needs."""
    advice: str = ""
    """What to change where it does not fit."""

    def gpu_taken(self, card: float) -> float:
        """Bytes that it takes of a GPU of `card` bytes."""
        return max(self.gpu_bytes, (self.gpu_share or 0.0) * card)


def summed(parts: Mapping[str, float]) -> tuple[float, str]:
    """The sum of named parts, and its words; parts of nothing are left out."""
    words = (f"{amount(size)} {what}" for what, size in parts.items() if size)
    return sum(parts.values()), " + ".join(words)


def on_both(role: Role, host: Mapping[str, float], gpu: Mapping[str, float]) -> Role:
    """A role with the memory that each of its actors takes of the host and of its GPU."""
    total, made_of = summed(host)
    on_gpu, gpu_made_of = summed(gpu)
    return replace(role, bytes=total, made_of=made_of, gpu_bytes=on_gpu, gpu_made_of=gpu_made_of)


def width(dtype: str) -> int:
    """Bytes of a value."""
    return 4 if dtype == "float32" else 2


def millions(parameters: float) -> str:
    """Numbers of parameters for people: `8,030.3 M`."""
    return f"{parameters / 1e6:,.1f} M"


def amount(size: float) -> str:
    """Bytes for people: `3.2 GiB`."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit in ("bytes", "KiB", "MiB") else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
