"""How judging went: what each judge scored, where it failed, what it took, and how far judges agree."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from rlaif.metrics.agreement import agreement_of
from rlaif.metrics.position_bias import position_bias
from rlaif.records import Comparison

# The columns of judgements that this looks at.
JUDGING_COLUMNS = (
    "round",
    "judge",
    "judge_version",
    "case_id",
    "candidate_id",
    "score",
    "scale_low",
    "scale_high",
    "failure",
    "cached",
    "latency_s",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
)


def judging_of(judgements: pa.Table, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """The accounts of each judge (`judges`) and the agreement of every two of them (`agreement`), ready for JSON."""
    rows = judgements.to_pylist()
    by_judge: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_judge[row["judge"]].append(row)
    judges = {name: accounts(of_judge) for name, of_judge in sorted(by_judge.items())}
    for name, bias in position_bias(comparisons).items():
        judges[name]["comparisons"] = bias
    return {"judges": judges, "agreement": agreement_of(judgements)}


def accounts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One judge's rows in numbers: judgements, scores, failures by reason, tokens, US dollars, seconds a reply."""
    asked = [row for row in rows if row["latency_s"] > 0 and not row["cached"]]
    scored = [row["score"] for row in rows if row["score"] is not None]
    return {
        "versions": sorted({row["judge_version"] for row in rows}),
        "judgements": len(rows),
        "scored": len(scored),
        "mean_score": sum(scored) / len(scored) if scored else None,
        "failures": dict(Counter(row["failure"] for row in rows if row["failure"] is not None)),
        "cached": sum(row["cached"] for row in rows),
        "prompt_tokens": sum(row["prompt_tokens"] for row in rows),
        "completion_tokens": sum(row["completion_tokens"] for row in rows),
        "cost_usd": sum(row["cost_usd"] for row in rows),
        "mean_latency_s": sum(row["latency_s"] for row in asked) / len(asked) if asked else None,
    }
