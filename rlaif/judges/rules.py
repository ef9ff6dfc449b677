"""The offline judge: compares the findings of two reports and counts GREEN's six error classes.

Score = matched / (matched + significant errors), as in GREEN (Ostmeier et al. 2024, equation 1),
on findings extracted by rules instead of by a language model. Only present findings count, so that
a report cannot raise its score by listing what is absent.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product

from rlaif.judges.verdict import Verdict
from rlaif.reports.extraction import extract, mentions_comparison
from rlaif.reports.findings import Finding

VERSION = "rules-1"
SCALE = (0.0, 1.0)
SIGNIFICANT = (
    "false_finding",
    "missing_finding",
    "wrong_location",
    "wrong_severity",
    "false_comparison",
    "omitted_comparison",
)
# Sizes may differ by a quarter before it is worth a word, by a half before it is an error.
_SIZE_NOTED = 0.25
_SIZE_WRONG = 0.5
_SEVERITY_STEP = {"mild": 0, "moderate": 1, "severe": 2}
_ZONES = {
    "upper lobe": {"upper"},
    "lingula": {"upper", "mid"},
    "apex": {"upper"},
    "upper zone": {"upper"},
    "middle lobe": {"mid", "lower"},
    "mid zone": {"mid"},
    "lower lobe": {"lower", "mid"},
    "lower zone": {"lower"},
    "base": {"lower"},
}
# Two lobes by name conflict even where their zones overlap.
_LOBES = frozenset({"upper lobe", "middle lobe", "lower lobe"})


@dataclass(frozen=True)
class _Comparison:
    """How a candidate's finding stands to one of the reference: error class or None, and the lesser differences."""

    error: str | None
    notes: tuple[str, ...]

    @property
    def cost(self) -> tuple[int, int]:
        return ({None: 0, "wrong_severity": 1, "wrong_location": 2}[self.error], len(self.notes))


def describe(finding: Finding) -> str:
    """A finding in words: "12 mm lung nodule, right upper lobe"."""
    size = f"{finding.size_mm:g} mm" if finding.size_mm is not None else None
    place = " ".join(part for part in (finding.side, finding.location) if part)
    text = " ".join(part for part in (finding.severity, size, finding.name) if part)
    return f"{text}, {place}" if place else text


def distinct(findings: Iterable[Finding]) -> list[Finding]:
    """The present findings, each once: repetitions, and mentions that a fuller one contains, fall away."""
    unique = list(dict.fromkeys(replace(finding, sentence="") for finding in findings if finding.present))
    contained = set()
    for finding in unique:
        values = (finding.side, finding.location, finding.size_mm, finding.severity)
        known = [(value, None) if value is not None else (None,) for value in values]
        shorter = {(finding.name, *masked) for masked in product(*known)}
        contained |= shorter - {(finding.name, *values)}
    return [f for f in unique if (f.name, f.side, f.location, f.size_mm, f.severity) not in contained]


def _places_conflict(reference: str | None, candidate: str | None) -> bool:
    if reference is None or candidate is None:
        return False
    first, second = set(reference.split(" and ")), set(candidate.split(" and "))
    if first & second:
        return False
    if first <= _LOBES and second <= _LOBES:
        return True
    zones = [set().union(*(_ZONES.get(name, set()) for name in names)) for names in (first, second)]
    return bool(zones[0] and zones[1]) and not zones[0] & zones[1]


def _compare(reference: Finding, candidate: Finding) -> _Comparison:
    """Compare two findings of the same name."""
    notes: list[str] = []
    if reference.side and candidate.side and reference.side != candidate.side:
        return _Comparison("wrong_location", ())
    if _places_conflict(reference.location, candidate.location):
        return _Comparison("wrong_location", ())
    if (reference.side is None) != (candidate.side is None):
        notes.append("side given in one report only")
    if reference.severity and candidate.severity:
        steps = abs(_SEVERITY_STEP[reference.severity] - _SEVERITY_STEP[candidate.severity])
        if steps == 2:
            return _Comparison("wrong_severity", ())
        if steps == 1:
            notes.append(f"severity {candidate.severity} instead of {reference.severity}")
    if reference.size_mm and candidate.size_mm:
        difference = abs(candidate.size_mm - reference.size_mm) / reference.size_mm
        if difference > _SIZE_WRONG:
            return _Comparison("wrong_severity", ())
        if difference > _SIZE_NOTED:
            notes.append(f"size {candidate.size_mm:g} mm instead of {reference.size_mm:g} mm")
    return _Comparison(None, tuple(notes))


def _pair_up(
    reference: list[Finding], candidate: list[Finding]
) -> tuple[list[tuple[Finding, Finding, _Comparison]], list[Finding], list[Finding]]:
    """Pair findings of the same name one to one, the best agreement first; also what is left on either side."""
    possible = [
        (_compare(ours, theirs), i, j)
        for i, ours in enumerate(reference)
        for j, theirs in enumerate(candidate)
        if ours.name == theirs.name
    ]
    possible.sort(key=lambda entry: (entry[0].cost, entry[1], entry[2]))
    used_reference: set[int] = set()
    used_candidate: set[int] = set()
    pairs = []
    for comparison, i, j in possible:
        if i not in used_reference and j not in used_candidate:
            used_reference.add(i)
            used_candidate.add(j)
            pairs.append((reference[i], candidate[j], comparison))
    missing = [finding for i, finding in enumerate(reference) if i not in used_reference]
    false = [finding for j, finding in enumerate(candidate) if j not in used_candidate]
    return pairs, missing, false


def _explain_pair(ours: Finding, theirs: Finding, comparison: _Comparison) -> str:
    if comparison.error == "wrong_location":
        return f"Wrong location: {describe(theirs)} (reference: {describe(ours)})."
    if comparison.error == "wrong_severity":
        return f"Wrong severity or size: {describe(theirs)} (reference: {describe(ours)})."
    noted = f" ({'; '.join(comparison.notes)}; not significant)" if comparison.notes else ""
    return f"Matched: {describe(ours)}{noted}."


def judge(reference: str | None, candidate: str | None) -> Verdict:
    """Score a candidate report against the reference report, 0 to 1, with counts and an explanation.

    An empty reference or candidate gives the failure `no_reference` or `invalid_candidate`. Where
    neither report names an abnormality the candidate agrees (1.0).
    """
    if reference is None or not reference.strip():
        return Verdict(None, "no_reference", explanation="The case has no reference report to compare with.")
    if candidate is None or not candidate.strip():
        return Verdict(None, "invalid_candidate", explanation="The candidate report is empty.")
    candidate_findings = extract(candidate)
    pairs, missing, false = _pair_up(distinct(extract(reference)), distinct(candidate_findings))
    counts = dict.fromkeys((*SIGNIFICANT, "insignificant", "matched"), 0)
    lines: list[str] = []
    for ours, theirs, comparison in pairs:
        counts[comparison.error or "matched"] += 1
        counts["insignificant"] += len(comparison.notes)
        lines.append(_explain_pair(ours, theirs, comparison))
    negated = {finding.name for finding in candidate_findings if not finding.present}
    counts["missing_finding"] += len(missing)
    lines += [f"Missing: {describe(f)}{' (the candidate denies it)' if f.name in negated else ''}." for f in missing]
    counts["false_finding"] += len(false)
    lines += [f"Not in the reference: {describe(f)}." for f in false]
    if not (pairs or missing or false):
        counts["matched"] = 1
        lines.append("Matched: no abnormality in either report.")
    compares = mentions_comparison(reference), mentions_comparison(candidate)
    if compares == (False, True):
        counts["false_comparison"] = 1
        lines.append("Compares with an earlier examination; the reference does not.")
    elif compares == (True, False):
        counts["omitted_comparison"] = 1
        lines.append("Leaves out the reference's comparison with an earlier examination.")
    # Matches first, then errors, as a reader expects them.
    lines.sort(key=lambda line: not line.startswith("Matched"))
    errors = sum(counts[name] for name in SIGNIFICANT)
    return Verdict(counts["matched"] / (counts["matched"] + errors), counts=counts, explanation="\n".join(lines))
