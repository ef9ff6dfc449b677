"""The settings of pair building."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

StrategyName = Literal["strategy1", "strategy2", "best_worst", "reference_chosen"]


class PairSettings(BaseModel):
    """How scored candidates become a preference pair.

    `threshold` is on the judge's scale (3 on the papers' 1-5; configured on 0-1 scales) and parts good
    from bad for `strategy1` and `strategy2`. `minimum_margin` is the least difference of the two scores,
    where both have one. `mode` belongs to `reference_chosen`: the reference report against the
    candidate that the judge did not prefer, or preferred against not preferred.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: StrategyName = "strategy1"
    threshold: float = Field(default=3.0, allow_inf_nan=False)
    minimum_margin: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    mode: Literal["reference", "preferred"] = "reference"
