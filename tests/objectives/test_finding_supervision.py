"""What the encoder is trained on: the bits that reports name."""

import math

import pytest
import torch

from rlaif.objectives.finding_supervision import FindingHead, bit_targets, bit_vocabulary, bits_of, finding_loss

EFFUSION = "There is a small left pleural effusion."
BOTH_SIDES = "Bilateral pleural effusion."
NORMAL = "No pleural effusion. The lungs are clear."


def test_a_report_gives_name_side_and_grade() -> None:
    bits = bits_of(EFFUSION)
    assert {"pleural effusion", "pleural effusion/left"} <= bits
    assert "pleural effusion/right" not in bits


def test_both_sides_are_left_and_right() -> None:
    assert {"pleural effusion", "pleural effusion/left", "pleural effusion/right"} <= bits_of(BOTH_SIDES)


def test_what_is_denied_is_no_bit() -> None:
    assert bits_of(NORMAL) == set()


def test_the_vocabulary_leaves_out_what_is_rare() -> None:
    reports = [EFFUSION, BOTH_SIDES, NORMAL, "Cardiomegaly."]
    assert bit_vocabulary(reports, least=2) == ["pleural effusion", "pleural effusion/left"]
    assert "cardiomegaly" in bit_vocabulary(reports, least=1)


def test_targets_are_ones_where_the_report_has_the_bit() -> None:
    vocabulary = ["pleural effusion", "pleural effusion/left", "pleural effusion/right"]
    targets = bit_targets([EFFUSION, BOTH_SIDES, NORMAL], vocabulary)
    assert targets.tolist() == [[1, 1, 0], [1, 1, 1], [0, 0, 0]]
    assert targets.dtype == torch.float32


def test_a_fresh_head_knows_nothing_and_can_learn_a_bit() -> None:
    torch.manual_seed(0)
    features, targets = torch.randn(16, 3, 4), torch.zeros(16, 1)
    targets[features[:, 0, 0] > 0] = 1.0
    head = FindingHead(3, 4, 1)
    assert finding_loss(head(features) - head.bias, targets).item() == pytest.approx(math.log(2))
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        loss = finding_loss(head(features), targets)
        loss.backward()
        optimizer.step()
    assert ((head(features) > 0) == targets.bool()).all()
