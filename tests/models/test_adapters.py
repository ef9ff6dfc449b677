"""Adapters: where they cannot stand, and in which words that is said."""

import pytest
from torch import nn

from rlaif.models.adapters import add_adapters
from rlaif.models.settings import LoraSettings, PolicyError


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ("(", r"learner\.lora\.targets=\( is no pattern \(missing \), .*\): name modules in a list"),
        (["absent"], r"learner\.lora\.targets=\['absent'\]: .*not found"),
    ],
)
def test_targets_that_name_nothing_or_are_no_pattern_are_refused(targets: str | list[str], words: str) -> None:
    lora = LoraSettings(rank=1, alpha=1, dropout=0.0, targets=targets)
    with pytest.raises(PolicyError, match=words):
        add_adapters(nn.Sequential(nn.Linear(2, 2)), lora, targets)
