"""What every part of the configuration is."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the configuration: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def check_most(section: str, actors: int, most: int | None) -> None:
    """Raises ValueError where the most actors are fewer than those that always stand."""
    if most is not None and most < actors:
        raise ValueError(f"{section}.max_actors={most} is less than {section}.actors={actors}: raise it, or set null")
