"""The judgements of one stage: which are left to be made, how they are sent, and where they are written."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from ray.exceptions import GetTimeoutError, RayActorError

from actors.fleet import Fleet, payer
from actors.flow import Flow
from actors.judge import Judged
from actors.preparation import TooManyBad
from actors.reply_cache import spent_of
from rlaif.config import Config
from rlaif.judges.case import JudgedCase, JudgedReport
from rlaif.judges.ensemble import COLUMNS, combine_all
from rlaif.judges.settings import AnyJudge, ChatJudgeSection, EnsembleJudgeSettings, LeafJudge, leaves_of
from rlaif.ledger import RunFolder
from rlaif.metrics.judging import COMPARISON_COLUMNS, JUDGING_COLUMNS, judging_of
from rlaif.progress import Progress
from rlaif.records import Candidate, Case, Comparison, Judgement
from rlaif.reports.region_reports import judged_text

# Failures that say something of the case, not of the service.
DATA_FAILURES = frozenset({"no_reference", "invalid_candidate", "abstained"})
# Failures that may not come again when the question is asked again.
PASSING_FAILURES = frozenset({"transport", "rate_limit", "timeout", "budget"})


def judged_case(case: Case, candidates: Sequence[Candidate]) -> JudgedCase:
    """A case with its candidates as judges see them."""
    reports = (
        JudgedReport(one.candidate_id, judged_text(one.prompt, one.text) if one.usable else None) for one in candidates
    )
    return JudgedCase(case.case_id, case.target, tuple(reports))


Shape: TypeAlias = Callable[[LeafJudge, JudgedCase], JudgedCase]


def _as_it_is(judge: LeafJudge, case: JudgedCase) -> JudgedCase:
    return case


class Judging:
    """The judgements and comparisons of a stage, in `folder` of the run, by one or several judges.

    `shaped` gives the form in which a judge sees a case. A batch's rows are written together: a case counts as judged
    by a judge once it has rows, none of which, comparisons included, is a failure that may pass.
    """

    def __init__(
        self, run: RunFolder, config: Config, folder: str, judges: Sequence[AnyJudge], shaped: Shape = _as_it_is
    ) -> None:
        self.run, self.config, self.judges, self.shaped = run, config, judges, shaped
        self.tables = f"{folder}/judgements", f"{folder}/comparisons"
        self.leaves: dict[str, LeafJudge] = {leaf.name: leaf for judge in judges for leaf in leaves_of(judge)}
        self._journal = run.journal(f"{folder}/judge")
        self._done = self._settled()
        asking = [name for name, leaf in self.leaves.items() if isinstance(leaf, ChatJudgeSection)]
        self._before = {name: service_accounts(payer(config, name), name) for name in asking}
        self._buffers: dict[str, list[JudgedCase]] = {name: [] for name in self.leaves}

    def _settled(self) -> set[tuple[str, str]]:
        """The judges with the cases that they have judged; other rows of an earlier attempt leave the tables."""
        rows = self.run.arrow(self.tables[0], Judgement, ["judge", "case_id", "failure"]).to_pylist()
        found = {(row["judge"], row["case_id"]) for row in rows}
        compared = self.run.arrow(self.tables[1], Comparison, ["judge", "case_id", "failure"]).to_pylist()
        passing = {(row["judge"], row["case_id"]) for row in (*rows, *compared) if row["failure"] in PASSING_FAILURES}
        done = {key for key in found - passing if key[0] in self.leaves}
        if done != found or not {(row["judge"], row["case_id"]) for row in compared} <= done:
            judgements, comparisons = self.tables
            # Judgements last: while they stand, what is to be asked again is known.
            kept = (one for one in self.run.iterate(comparisons, Comparison) if (one.judge, one.case_id) in done)
            self.run.replace(comparisons, Comparison, list(kept))
            stay = (one for one in self.run.iterate(judgements, Judgement) if (one.judge, one.case_id) in done)
            self.run.replace(judgements, Judgement, list(stay))
        return done

    def left(self, judge: str, case_id: str) -> bool:
        """Whether a judge has still to judge a case."""
        return (judge, case_id) not in self._done

    def number(self, cases: Iterable[JudgedCase]) -> int:
        """How many judgements are still to be made of some cases."""
        left = ((leaf, case) for case in cases for name, leaf in self.leaves.items() if self.left(name, case.case_id))
        return sum(len(self.shaped(leaf, case).reports) for leaf, case in left)

    def settle(self, judgements: Sequence[Judgement]) -> None:
        """Notes judgements for which nobody has to be asked."""
        self.run.append(self.tables[0], Judgement, judgements)
        self._done |= {(one.judge, one.case_id) for one in judgements}

    def send(self, flow: Flow, cases: Iterable[JudgedCase], *, last: bool = False) -> None:
        """Sends cases to the judges that have not judged them, in batches; `last` sends what is no whole batch too."""
        for case in cases:
            for name, buffer in self._buffers.items():
                if self.left(name, case.case_id):
                    buffer.append(self.shaped(self.leaves[name], case))
                    if sum(len(one.reports) for one in buffer) >= self.leaves[name].batch:
                        self._flush(flow, name)
        if last:
            for name in self._buffers:
                self._flush(flow, name)

    def _flush(self, flow: Flow, judge: str) -> None:
        batch, self._buffers[judge] = self._buffers[judge], []
        if batch:
            self._journal.started([f"{one.candidate_id}.{judge}" for case in batch for one in case.reports])
            flow.judge(judge, batch)

    def record(self, judged: Judged) -> int:
        """Writes judgements durably, comparisons first, and says how many there are."""
        self.run.append(self.tables[1], Comparison, judged.comparisons)
        self.run.append(self.tables[0], Judgement, judged.judgements)
        return len(judged.judgements)

    def finish(self) -> dict[str, Any]:
        """Adds the ensembles' rows, closes the tables, and gives the stage's facts.

        Raises TooManyBad where a judge failed on more than `run.max_bad_fraction` of the candidates; what it gave is
        kept, and the same command asks for the rest.
        """
        for judge in self.judges:
            if isinstance(judge, EnsembleJudgeSettings):
                members = self.run.arrow(self.tables[0], Judgement, COLUMNS).to_pylist()
                with self.run.writer(self.tables[0], Judgement, seconds=60.0) as writer:
                    writer.add(*combine_all(judge, members))
        rows = self.run.compact(self.tables[0], Judgement, ("candidate_id", "judge"))
        self.run.compact(self.tables[1], Comparison, "comparison_id")
        facts = judging_of(
            self.run.arrow(self.tables[0], Judgement, JUDGING_COLUMNS),
            self.run.arrow(self.tables[1], Comparison, COMPARISON_COLUMNS),
        )
        for name, told in facts["judges"].items():
            if isinstance(self.leaves.get(name), ChatJudgeSection):
                told["service"] = self._service(name)
                told["spent_usd"] = spent_of(self.config.cache.root / "replies", payer(self.config, name))
            self._check(name, told)
        return {"judgements": rows, "repeated_calls": self._journal.repeated(), "judging": facts}

    def _service(self, judge: str) -> dict[str, float]:
        """What this attempt at the stage took of a judge's service: requests, retries, what was pushed back or lost."""
        before = self._before.get(judge, {})
        return {
            key: value - before.get(key, 0.0)
            for key, value in service_accounts(payer(self.config, judge), judge).items()
        }

    def _check(self, name: str, told: dict[str, Any]) -> None:
        """Holds a judge's failures, and those of its comparisons, against `run.max_bad_fraction`."""
        self._check_share(name, "judgements", told["failures"], told["judgements"])
        if compared := told.get("comparisons"):
            self._check_share(name, "comparisons", compared["failures"], compared["comparisons"])

    def _check_share(self, name: str, what: str, failures: Mapping[str, int], of: int) -> None:
        bad = {failure: count for failure, count in failures.items() if failure not in DATA_FAILURES}
        share = self.config.run.max_bad_fraction
        if sum(bad.values()) <= share * of:
            return
        hint = "start the command again, which asks anew"
        if not PASSING_FAILURES & bad.keys():
            hint = "asking again would bring the same: see what it said (raw), or set run.max_bad_fraction higher"
        if "budget" in bad:
            hint = "what was paid for is kept: raise the judge's max_cost_usd, and start the command again"
        elif "blocked" in bad:
            hint = "look at the reports, or set the judge's identifiers=warn under another run.name"
        raise TooManyBad(
            f"{sum(bad.values())} of {of} {what} of {name} failed ({bad}), more than run.max_bad_fraction={share}; "
            f"mostly: {self._most_said(name, what, bad)}; {hint}"
        )

    def _most_said(self, name: str, what: str, bad: Collection[str]) -> str:
        """What was most often said of such failures, in short."""
        table, column = (self.tables[0], "explanation") if what == "judgements" else (self.tables[1], "raw")
        record = Judgement if what == "judgements" else Comparison
        rows = self.run.arrow(table, record, ["judge", "failure", column]).to_pylist()
        said = Counter(str(row[column]) for row in rows if row["judge"] == name and row["failure"] in bad)
        return " ".join(said.most_common(1)[0][0].split())[:300]


def judge_stage(
    judging: Judging, fleet: Fleet, cases: Iterable[JudgedCase], round_: int, progress: Progress
) -> dict[str, Any]:
    """Judges cases whose reports are all there, and gives the stage's facts."""
    waiting = [case for case in cases if any(judging.left(name, case.case_id) for name in judging.leaves)]
    pools = [fleet.judge(leaf) for leaf in judging.leaves.values()] if waiting else []
    flow = Flow(judging.config, pools, None, [], round_, fleet.outages)
    if waiting:
        judging.send(flow, waiting, last=True)
    for result in flow.results():
        if isinstance(result, Judged):
            progress.advance(judging.record(result))
    return judging.finish()


def service_accounts(payer: str, judge: str) -> dict[str, float]:
    """A judge's account with its service, as the cluster knows it; empty where nothing was asked since it began."""
    from actors.service_limits import accounts_of

    try:
        return accounts_of(payer).get(judge, {})
    except (RayActorError, GetTimeoutError):
        # It ends by itself when nobody asks; the rows hold what was paid.
        return {}


def by_case(candidates: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    """Candidates by their case, in order."""
    cases: dict[str, list[Candidate]] = defaultdict(list)
    for one in candidates:
        cases[one.case_id].append(one)
    return cases
