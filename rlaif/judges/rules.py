"""The offline judge: compares the findings of two reports and counts GREEN's six error classes.

Score = matched / (matched + significant errors), as in GREEN (Ostmeier et al. 2024, equation 1),
on findings extracted by rules instead of by a language model. Only present findings count, so that
a report cannot raise its score by listing what is absent. What the reference only thinks possible may
be stated, hedged or left out: none of it is a significant error. A hedge excuses no finding that the
reference lacks.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product

from rlaif.judges.verdict import Verdict
from rlaif.reports.extraction import extract, mentions_comparison
from rlaif.reports.findings import Finding

VERSION = "rules-2"
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
# Findings of one name that are compared with each other; no report has more, garbage may.
_MOST_COMPARED = 100
# Which way a finding goes since the earlier examination; one that has resolved is not present.
_DIRECTION = {"new": "up", "increased": "up", "decreased": "down", "unchanged": "same", "resolved": "down"}
# Two lobes by name conflict even where their zones overlap.
_LOBES = frozenset({"upper lobe", "middle lobe", "lower lobe"})


@dataclass(frozen=True)
class _Comparison:
    """How a candidate's finding stands to one of the reference: error class or None, and the lesser differences.

    The error is "possible" where the finding differs from one that the reference only thinks possible.
    """

    error: str | None
    notes: tuple[str, ...]

    @property
    def cost(self) -> tuple[int, int]:
        costs = {None: 0, "wrong_severity": 1, "false_comparison": 1, "wrong_location": 2}
        return costs[self.error], len(self.notes)


def describe(finding: Finding) -> str:
    """A finding in words: "possible 12 mm lung nodule, right upper lobe"."""
    certainty = "possible" if finding.certainty == "possible" else None
    size = f"{finding.size_mm:g} mm" if finding.size_mm is not None else None
    place = " ".join(part for part in (finding.side, finding.location) if part)
    text = " ".join(part for part in (certainty, finding.severity, size, finding.name) if part)
    return f"{text}, {place}" if place else text


def _said(finding: Finding) -> tuple[object, ...]:
    """What a mention says of its finding beyond the name; None where it says nothing."""
    definite = True if finding.certainty == "definite" else None
    return (finding.side, finding.location, finding.size_mm, finding.severity, finding.change, definite)


def distinct(findings: Iterable[Finding]) -> list[Finding]:
    """The present findings, each once: repetitions, and mentions that a fuller one contains, fall away.

    A possible finding falls away where the report elsewhere states the same for certain.
    """
    unique = list(dict.fromkeys(replace(finding, sentence="") for finding in findings if finding.present))
    if len(unique) == 1:
        return unique
    contained = set()
    for finding in unique:
        said = _said(finding)
        known = [(value, None) if value is not None else (None,) for value in said]
        shorter = {(finding.name, *masked) for masked in product(*known)}
        contained |= shorter - {(finding.name, *said)}
    return [finding for finding in unique if (finding.name, *_said(finding)) not in contained]


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
    if reference.change and candidate.change and _DIRECTION[reference.change] != _DIRECTION[candidate.change]:
        return _Comparison("false_comparison", ())
    if reference.certainty != candidate.certainty:
        notes.append(f"{candidate.certainty} instead of {reference.certainty}")
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


def _by_name(findings: list[Finding]) -> dict[str, list[int]]:
    """The indices of the findings of each name, as many as are compared."""
    indices: dict[str, list[int]] = {}
    for index, finding in enumerate(findings):
        of_name = indices.setdefault(finding.name, [])
        if len(of_name) < _MOST_COMPARED:
            of_name.append(index)
    return indices


def _pair_up(
    reference: list[Finding], candidate: list[Finding]
) -> tuple[list[tuple[Finding, Finding, _Comparison]], list[Finding], list[Finding]]:
    """Pair findings of the same name one to one, the best agreement first; also what is left on either side."""
    ours_by_name, theirs_by_name = _by_name(reference), _by_name(candidate)
    possible = [
        (_compare(reference[i], candidate[j]), i, j)
        for name, indices in ours_by_name.items()
        for i in indices
        for j in theirs_by_name.get(name, ())
    ]
    # What the reference is sure of comes first, so that a possible finding takes nothing from it.
    possible.sort(
        key=lambda entry: (
            entry[0].cost[0], reference[entry[1]].certainty == "possible", entry[0].cost[1], entry[1], entry[2]
        )
    )  # fmt: skip
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


@dataclass(frozen=True)
class FindingMatches:
    """How the present findings of two reports stand to each other, each finding without its sentence.

    `pairs` are (reference's, candidate's, error class or None); `missing` are only in the reference, `false` only in
    the candidate.
    """

    pairs: tuple[tuple[Finding, Finding, str | None], ...]
    missing: tuple[Finding, ...]
    false: tuple[Finding, ...]


def match_findings(reference: Iterable[Finding], candidate: Iterable[Finding]) -> FindingMatches:
    """Match the findings of a candidate to those of the reference, as `judge` counts them."""
    pairs, missing, false = _pair_up(distinct(reference), distinct(candidate))
    told = [(ours, theirs, _pardoned(ours, theirs, found).error) for ours, theirs, found in pairs]
    named = tuple((ours, theirs, None if error == "possible" else error) for ours, theirs, error in told)
    return FindingMatches(named, tuple(missing), tuple(false))


def _pardoned(ours: Finding, theirs: Finding, comparison: _Comparison) -> _Comparison:
    """The comparison, its error only a note where the reference is not sure of the finding at all."""
    if comparison.error is None or ours.certainty == "definite":
        return comparison
    differs = comparison.error.replace("_", " ").removeprefix("wrong ").removeprefix("false ")
    return _Comparison("possible", (f"another {differs}: {describe(theirs)}",))


def _explain_pair(ours: Finding, theirs: Finding, comparison: _Comparison) -> str:
    if comparison.error == "wrong_location":
        return f"Wrong location: {describe(theirs)} (reference: {describe(ours)})."
    if comparison.error == "false_comparison":
        return f"Wrong comparison: {describe(theirs)}, {theirs.change} (reference: {describe(ours)}, {ours.change})."
    if comparison.error == "wrong_severity":
        return f"Wrong severity or size: {describe(theirs)} (reference: {describe(ours)})."
    if comparison.error == "possible":
        return f"Differs from a possible finding: {describe(ours)} ({'; '.join(comparison.notes)}; not significant)."
    noted = f" ({'; '.join(comparison.notes)}; not significant)" if comparison.notes else ""
    return f"Matched: {describe(ours)}{noted}."


def judge(reference: str | None, candidate: str | None) -> Verdict:
    """Score a candidate report against the reference report, 0 to 1, with counts and an explanation.

    An empty reference or candidate gives the failure `no_reference` or `invalid_candidate`. Where
    neither report names an abnormality for certain the candidate agrees (1.0).
    """
    if reference is None or not reference.strip():
        return Verdict(None, "no_reference", explanation="The case has no reference report to compare with.")
    if candidate is None or not candidate.strip():
        return Verdict(None, "invalid_candidate", explanation="The candidate report is empty.")
    counts = dict.fromkeys((*SIGNIFICANT, "insignificant", "matched"), 0)
    lines = _count_findings(counts, extract(reference), extract(candidate))
    if not any(counts[name] for name in (*SIGNIFICANT, "matched")):
        counts["matched"] = 1
        lines.append("Matched: no certain abnormality in either report.")
    compares = mentions_comparison(reference), mentions_comparison(candidate)
    if compares == (False, True):
        counts["false_comparison"] += 1
        lines.append("Compares with an earlier examination; the reference does not.")
    elif compares == (True, False):
        counts["omitted_comparison"] += 1
        lines.append("Leaves out the reference's comparison with an earlier examination.")
    # Matches first, then errors, as a reader expects them.
    lines.sort(key=lambda line: not line.startswith("Matched"))
    errors = sum(counts[name] for name in SIGNIFICANT)
    return Verdict(counts["matched"] / (counts["matched"] + errors), counts=counts, explanation="\n".join(lines))


def _count_findings(
    counts: dict[str, int], reference: tuple[Finding, ...], candidate: tuple[Finding, ...]
) -> list[str]:
    """Add the findings that match, differ, are missing or false to the counts; the explanation's lines."""
    pairs, missing, false = _pair_up(distinct(reference), distinct(candidate))
    lines: list[str] = []
    for ours, theirs, found in pairs:
        comparison = _pardoned(ours, theirs, found)
        if comparison.error != "possible":
            counts[comparison.error or "matched"] += 1
        counts["insignificant"] += len(comparison.notes)
        lines.append(_explain_pair(ours, theirs, comparison))
    negated = {finding.name for finding in candidate if not finding.present}
    for finding in missing:
        denied = " (the candidate denies it)" if finding.name in negated else ""
        if finding.certainty == "possible":
            counts["insignificant"] += 1
            lines.append(f"Left out: {describe(finding)}{denied} (not significant).")
        else:
            counts["missing_finding"] += 1
            lines.append(f"Missing: {describe(finding)}{denied}.")
    counts["false_finding"] += len(false)
    return lines + [f"Not in the reference: {describe(finding)}." for finding in false]
