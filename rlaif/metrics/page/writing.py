"""The report page of a run: one HTML file that opens from disk, with figures, tables and examples."""

import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2

from rlaif.metrics.display import judge_displays
from rlaif.metrics.outages import outages_in_words
from rlaif.metrics.page.cases import browser
from rlaif.metrics.page.changes import case_link, extremes
from rlaif.metrics.page.embedding import page_script, safe_json
from rlaif.metrics.page.errors import error_tables
from rlaif.metrics.page.examples import heldout_examples, pair_examples
from rlaif.metrics.page.figures import heldout_charts, histograms, learning_charts
from rlaif.metrics.page.forest import forest
from rlaif.metrics.page.guards import guards_section
from rlaif.metrics.page.judges import judges_section
from rlaif.metrics.page.radiologists import radiologists_section
from rlaif.metrics.page.run_tables import bounded, judge_scales, read_json, read_rows
from rlaif.metrics.page.sentences import blind_rows, blind_words, duration, headline, typographic
from rlaif.metrics.page.studies import StudyIndex
from rlaif.metrics.page.tables import facts, flattened, results, rounds_table, stages

_CONFIG_LIMIT = 60_000
_QUARANTINE_ROWS = 20


def write_page(run: Path) -> Path:
    """Write `report.html` into a run folder from what stands in it, and give its path.

    The file is whole or absent: it is written under a temporary name and renamed. Raises FileNotFoundError
    without `summary.json`, and ValueError where a file or table of the run cannot be read.
    """
    if not (run / "summary.json").is_file():
        raise FileNotFoundError(f"{run / 'summary.json'} is missing: the report page is written at the end of a job")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = duration
    environment.filters["typographic"] = typographic
    environment.filters["case_link"] = case_link
    text = environment.get_template("page.html.jinja").render(_content(run, read_json(run / "summary.json")))
    target = run / "report.html"
    descriptor, temporary = tempfile.mkstemp(prefix="tmp-report-", suffix=".html", dir=run)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
    return target


def _content(run: Path, summary: Mapping[str, Any]) -> dict[str, Any]:
    """All that the template shows."""
    studies = StudyIndex(run)
    judges = judge_displays(summary, judge_scales(run))
    quarantine = read_rows(run / "quarantine")
    reasons = Counter((row["stage"], bounded(row["reason"], 120)) for row in quarantine)
    config = run / "config.yaml"
    pairs, heldout = pair_examples(run, studies), heldout_examples(run, studies)
    cases = browser(run, studies, judges, [one.case_id for one in (*heldout, *pairs)])
    script, script_source = page_script()
    return {
        "name": summary.get("name") or run.name,
        "setting": _setting(summary),
        "facts": facts(summary),
        "headline": headline(summary, judges),
        "results": results(summary, judges),
        "forest": forest(summary.get("gain") or {}, judges),
        "blind_words": blind_words(summary, judges),
        "blind_rows": blind_rows(summary, judges),
        "guards": guards_section(summary, judges),
        "judges": judges_section(summary, judges),
        "radiologists": radiologists_section(run),
        "charts": learning_charts(run),
        "histograms": histograms(run),
        "rounds": rounds_table(summary),
        "stages": stages(summary),
        "outages": outages_in_words(summary.get("outages") or []),
        "pairs": pairs,
        "heldout": heldout,
        "heldout_charts": heldout_charts(summary, judges),
        "errors": error_tables(run, judges),
        "extremes": extremes(run, judges, [case["id"] for case in cases.data["cases"]]),
        "cases": cases,
        "case_data": safe_json(cases.data),
        "script": script,
        "script_source": script_source,
        "quarantine_reasons": reasons.most_common(12),
        "quarantine_rows": [
            {key: bounded(str(value), 240) for key, value in row.items()} for row in quarantine[:_QUARANTINE_ROWS]
        ],
        "quarantine_total": len(quarantine),
        "provenance": list(flattened(read_json(run / "provenance.json"))),
        "config": bounded(config.read_text(encoding="utf-8"), _CONFIG_LIMIT) if config.is_file() else "",
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _setting(summary: Mapping[str, Any]) -> str:
    """What was run, in one line: policy, judge, pairs, seed and status, as far as the summary has them."""
    named = [
        f"{key} {summary[key]}"
        for key in ("policy", "judge", "pairs", "advantage", "seed")
        if summary.get(key) is not None
    ]
    return " · ".join([*named, str(summary.get("status") or "status not recorded")])
