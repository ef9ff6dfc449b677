"""The learner's settings: what does not go together is an error that says what to change."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from rlaif.config import ConfigurationError

if TYPE_CHECKING:
    from rlaif.config import Config

LORA = "lora={rank: 2, alpha: 4, dropout: 0.0, targets: all-linear}"
OFF = "dpo.reference=adapters_off"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["zero_stage=0", "offload=optimizer"], "set learner.zero_stage=1 to 3, or learner.offload=none"),
        (["zero_stage=2", "offload=all"], "set learner.zero_stage=3, or learner.offload=optimizer"),
        (["zero_stage=0", "dtype=bfloat16"], "set learner.zero_stage=1, which on one rank takes the same memory"),
        (["zero_stage=4"], "learner.zero_stage: Input should be 0, 1, 2 or 3"),
        ([OFF], "lora=null gives it none: set learner.lora, or learner.dpo.reference=copy"),
        ([LORA, OFF, "dpo.reference_moves=true"], "set learner.dpo.reference_moves=false, or"),
        ([LORA, OFF, "dpo.train=[language_model,connector.2]"], "dpo.train names connector, which bears none: add it"),
    ],
)
def test_what_does_not_go_together_is_said(
    configured: Callable[..., "Config"], overrides: list[str], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        configured("experiment=smoke", *(f"learner.{one}" for one in overrides))


def test_what_goes_together_is_taken(configured: Callable[..., "Config"]) -> None:
    both = "lora={rank: 2, alpha: 4, dropout: 0.0, targets: all-linear, parts: [language_model, connector]}"
    for overrides in (
        ["zero_stage=1", "offload=optimizer"],
        ["zero_stage=3", "offload=all"],
        [LORA, OFF],
        [both, OFF, "dpo.train=[language_model,connector]"],
    ):
        assert configured("experiment=smoke", *(f"learner.{one}" for one in overrides)).learner.restarts == 2
