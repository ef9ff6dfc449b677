"""What is put to the samplers: apart from them, so that whoever asks need not import their engines."""

from dataclasses import dataclass

from rlaif.records import Case


@dataclass(frozen=True)
class Request:
    """What to sample for one case: how many candidates, at which temperature, from whose features."""

    case: Case
    feature_key: str | None
    n: int
    temperature: float
