"""`summary.json`: what a run did and what it gained, put together from its run folder."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rlaif.ledger import RunFolder
from rlaif.metrics.guards import RoundLengths, guards_of, round_lengths
from rlaif.metrics.heldout_scores import scored_reports
from rlaif.metrics.intervals import bootstrap, paired
from rlaif.metrics.outages import outages_of
from rlaif.records import Candidate, Dropped, HeldoutReport, Judgement, Pair

# By name; judges' scores (`<judge>_score`) stand beside them.
METRICS = ("rules_score", "finding_f1", "hallucinated", "omitted", "report_words", "region_recognition")


def summarise(run: RunFolder, head: dict[str, Any], rounds: int, *, resamples: int) -> dict[str, Any]:
    """The summary of a run whose rounds are done; `head` (name, policy, judge, …) goes first."""
    names = [f"round-{number:03d}" for number in range(rounds)]
    reports = {name: scored_reports(run.path, name) for name in ("base", *names)}
    heldout = {name: heldout_intervals(_only(rows, control=False), resamples) for name, rows in reports.items()}
    blind = {name: heldout_intervals(_only(rows, control=True), resamples) for name, rows in reports.items()}
    last = names[-1] if names else "base"
    base = _only(reports["base"], control=False)
    return {
        "status": "finished",
        **head,
        "studies": {k: v for k, v in run.facts("studies").items() if k != "seconds"}
        | {"quarantined": _quarantined(run)},
        **({"features": run.facts("ingest")["features"]} if run.done("ingest") else {}),
        "seconds": {
            stage: run.facts(stage)["seconds"]
            for stage in ("studies", "start", "ingest", "base", "heldout/base", "heldout-judging/base")
            if run.done(stage)
        },
        "outages": outages_of(run.path),
        "rounds": [_round(run, number, str(head.get("judge"))) for number in range(rounds)],
        "heldout": heldout,
        "heldout_judging": {
            name: run.facts(f"heldout-judging/{name}")["judging"]["judges"]
            for name in ("base", *names)
            if run.done(f"heldout-judging/{name}")
        },
        "guards": guards_of(
            str(head.get("judge")),
            [_lengths(run, number, str(head.get("judge"))) for number in range(rounds)],
            reports,
            resamples=resamples,
        ),
        "gain": heldout_differences(base, _only(reports[last], control=False), resamples) if names else {},
        "blind_control": {
            **{name: intervals for name, intervals in blind.items() if intervals},
            "difference": {
                name: difference
                for name in dict.fromkeys(("base", last))
                if (
                    difference := heldout_differences(
                        _only(reports[name], control=False), _only(reports[name], control=True), resamples
                    )
                )
            },
        },
    }


def _paired(run: RunFolder, name: str, pairs: dict[str, Any]) -> dict[str, Any]:
    return {
        "pairs": run.arrow(f"{name}/pairs", Pair, ["pair_id"]).num_rows,
        "dropped": pairs["dropped"],
        "dropped_cases": run.arrow(f"{name}/dropped", Dropped, ["case_id"]).num_rows,
    }


def _reinforced(run: RunFolder, name: str, learnt: dict[str, Any]) -> dict[str, Any]:
    """What PPO learnt from, and the KL divergence from the base in nats a report: of the policy that wrote the round,
    and at the last step.
    """
    steps = run.read_json(f"{name}/metrics.json")["learning"]["steps"]
    kl = {"sampled": steps[0]["sampled_kl"], "learnt": steps[-1]["kl"]} if steps else None
    return {"reports": learnt["reports"], "kl": kl, "kl_weight": learnt["kl_weight"]}


def _metrics(rows: Iterable[HeldoutReport]) -> list[str]:
    """The metrics that rows have: the known ones in their order, then judges' scores."""
    found = {metric for row in rows for metric in row.metrics}
    return [*(one for one in METRICS if one in found), *sorted(found - set(METRICS))]


def _lengths(run: RunFolder, number: int, judge: str) -> RoundLengths:
    name = f"round-{number:03d}"
    given = run.facts(f"{name}/sample").get("given") or {}
    return round_lengths(
        number,
        given.get("judge") or judge,
        run.arrow(f"{name}/candidates", Candidate, ["candidate_id", "text"]),
        run.arrow(f"{name}/judgements", Judgement, ["candidate_id", "case_id", "judge", "score"]),
        run.arrow(f"{name}/pairs", Pair, ["case_id", "chosen", "rejected"]),
    )


def _quarantined(run: RunFolder) -> int:
    return (
        run.facts("ingest")["quarantined"] + run.facts("studies")["quarantined"]
        if run.done("ingest")
        else run.facts("studies")["quarantined"]
    )


def _only(rows: Iterable[HeldoutReport], *, control: bool) -> list[HeldoutReport]:
    return [row for row in rows if row.control == control]


def heldout_intervals(rows: list[HeldoutReport], resamples: int) -> dict[str, Any]:
    """Each metric's mean over held-out reports, with its interval by patients."""
    intervals = {}
    for metric in _metrics(rows):
        known = [row for row in rows if metric in row.metrics]
        if known:
            values, patients = [row.metrics[metric] for row in known], [row.patient_id for row in known]
            intervals[metric] = asdict(bootstrap(values, patients, resamples=resamples))
    return intervals


def heldout_differences(first: list[HeldoutReport], second: list[HeldoutReport], resamples: int) -> dict[str, Any]:
    """For each metric the paired difference second - first."""
    patients = {row.case_id: row.patient_id for row in first}
    differences = {}
    for metric in _metrics(second):
        before = {row.case_id: row.metrics[metric] for row in first if metric in row.metrics}
        after = {row.case_id: row.metrics[metric] for row in second if metric in row.metrics}
        if before.keys() & after.keys():
            differences[metric] = asdict(paired(before, after, patients, resamples=resamples))
    return differences


def _round(run: RunFolder, number: int, judge: str) -> dict[str, Any]:
    name = f"round-{number:03d}"
    marks = {
        **{stage: f"{name}/{stage}" for stage in ("sample", "pairs", "learn")},
        "evaluate": f"heldout/{name}",
        "judge_heldout": f"heldout-judging/{name}",
    }
    sample, learnt = run.facts(marks["sample"]), run.facts(marks["learn"])
    by_ppo = "kl_weight" in learnt
    # Rules alone judge no held-out reports, and PPO builds no pairs.
    optional = {"judge_heldout"} | ({"pairs"} if by_ppo else set())
    stages = {stage: run.facts(mark) for stage, mark in marks.items() if stage not in optional or run.done(mark)}
    given = sample.get("given")
    judge = (given or {}).get("judge") or judge
    return {
        "round": number,
        **({"given": given} if given else {}),
        "candidates": run.arrow(f"{name}/candidates", Candidate, ["candidate_id"]).num_rows,
        "judgements": run.arrow(f"{name}/judgements", Judgement, ["judgement_id"]).num_rows,
        **(_reinforced(run, name, learnt) if by_ppo else _paired(run, name, stages["pairs"])),
        "judge_failures": sample["judging"]["judges"].get(judge, {}).get("failures", {}),
        "judging": sample["judging"],
        "seconds": {stage: facts["seconds"] for stage, facts in stages.items()},
        "logprob_gap": learnt["logprob_gap"],
        "weights": None if given else {"version": sample["version"], "checksum": sample["checksum"]},
        "repeated_calls": sample["repeated_calls"],
    }
