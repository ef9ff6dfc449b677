"""How judging went: what each judge scored, where it failed, what it took, and how far judges agree."""

from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rlaif.metrics.agreement import agreement_of
from rlaif.metrics.position_bias import COMPARISON_COLUMNS, position_bias

__all__ = ["COMPARISON_COLUMNS", "JUDGING_COLUMNS", "accounts", "judging_of"]

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


def judging_of(judgements: pa.Table, comparisons: pa.Table) -> dict[str, Any]:
    """The accounts of each judge (`judges`) and the agreement of every two of them (`agreement`), ready for JSON.

    Of judgements JUDGING_COLUMNS are read, of comparisons COMPARISON_COLUMNS.
    """
    names = sorted(pc.unique(judgements["judge"]).to_pylist())
    judges = {name: accounts(judgements.filter(pc.field("judge") == name)) for name in names}
    for name, bias in position_bias(comparisons).items():
        judges[name]["comparisons"] = bias
    return {"judges": judges, "agreement": agreement_of(judgements)}


def accounts(rows: pa.Table) -> dict[str, Any]:
    """One judge's rows in numbers: versions, scale, scores, failures by reason, tokens, US dollars, seconds a reply."""
    asked = rows.filter((pc.field("latency_s") > 0) & ~pc.field("cached"))
    return {
        "versions": sorted(pc.unique(rows["judge_version"]).to_pylist()),
        "scale": [pc.min(rows["scale_low"]).as_py(), pc.max(rows["scale_high"]).as_py()],
        "judgements": len(rows),
        "scored": pc.count(rows["score"]).as_py(),
        "mean_score": pc.mean(rows["score"]).as_py(),
        "failures": dict(Counter(pc.drop_null(rows["failure"]).to_pylist())),
        **{
            name: pc.sum(rows[name], min_count=0).as_py()
            for name in ("cached", "prompt_tokens", "completion_tokens", "cost_usd")
        },
        "mean_latency_s": pc.mean(asked["latency_s"]).as_py(),
    }
