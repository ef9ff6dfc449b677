"""Supervision of a vision encoder by what its reports name: one bit for each finding, side, place and grade."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlaif.reports.extraction import extract


def bits_of(report: str) -> set[str]:
    """What a report says is present, as bits: `name`, `name/side`, `name@place`, `name:severity`."""
    bits: set[str] = set()
    for finding in extract(report):
        if not finding.present:
            continue
        bits.add(finding.name)
        sides = ("left", "right") if finding.side == "bilateral" else (finding.side,)
        bits |= {f"{finding.name}/{side}" for side in sides if side}
        if finding.location:
            bits.add(f"{finding.name}@{finding.location}")
        if finding.severity:
            bits.add(f"{finding.name}:{finding.severity}")
    return bits


def bit_vocabulary(reports: Sequence[str], least: int) -> list[str]:
    """The bits that at least so many reports have, in order."""
    counts = Counter(bit for report in reports for bit in bits_of(report))
    return sorted(bit for bit, count in counts.items() if count >= least)


def bit_targets(reports: Sequence[str], vocabulary: Sequence[str]) -> Tensor:
    """The reports' bits `[reports, bits]` float32, 1 where a report has the bit."""
    return torch.tensor([[float(bit in bits) for bit in vocabulary] for bits in map(bits_of, reports)])


class FindingHead(nn.Linear):
    """Reads the bits' logits from all features of a study; it is thrown away once the encoder is trained."""

    def __init__(self, tokens: int, hidden: int, bits: int) -> None:
        super().__init__(tokens * hidden, bits)
        nn.init.zeros_(self.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Logits `[studies, bits]` from features `[studies, tokens, hidden]`."""
        return super().forward(features.flatten(1))


def finding_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean binary cross-entropy over all bits."""
    return functional.binary_cross_entropy_with_logits(logits, targets)
