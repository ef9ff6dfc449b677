"""What is looked at before a report is sent to a model: its length, and whether it seems to name a patient."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from rlaif.judges.case import JudgedCase, JudgedReport
from rlaif.judges.verdict import Verdict
from rlaif.reports.identifiers import Identifier, describe, find_identifiers


@dataclass(frozen=True)
class Screening:
    """Bounds the characters of a report; `identifiers` says what happens to one that seems to name a patient."""

    most_characters: int
    identifiers: Literal["block", "warn", "ignore"] = "ignore"

    def failure(self, case: JudgedCase, report: JudgedReport) -> Verdict | None:
        """The failure of a report that must not be sent; None for one that may. Never names what it found."""
        texts = (case.reference or "", report.text or "")
        if max(map(len, texts)) > self.most_characters:
            words = f"The candidate or its reference is longer than {self.most_characters} characters."
            return Verdict(None, "invalid_candidate", explanation=words)
        if self.identifiers == "block" and (found := self.found(case, report)):
            words = f"Not sent: the candidate or its reference seems to hold {found} (identifiers=block)."
            return Verdict(None, "blocked", explanation=words)
        return None

    def found(self, case: JudgedCase, report: JudgedReport) -> str:
        """The kinds and numbers of identifiers in a report and its reference; empty where there are none."""
        found = _identifiers_of(case.reference or "") + find_identifiers(report.text or "")
        return describe(found) if found else ""


@lru_cache(maxsize=64)
def _identifiers_of(reference: str) -> tuple[Identifier, ...]:
    # All candidates of a case stand beside one reference: it is searched once, for the cases that are judged at a time.
    return find_identifiers(reference)
