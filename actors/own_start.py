"""Round 0 from a team's own candidates, judged candidates or pairs, in the place of what the policy would sample.

What a file gives becomes the round's tables, so that everything after it goes as in any round.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from actors.fleet import Fleet
from actors.judging import Judging, by_case, judge_stage, judged_case
from actors.preparation import TooManyBad
from rlaif.config import Config, ConfigurationError
from rlaif.config_fit import scale_of
from rlaif.files import checksum_of
from rlaif.ledger import RunFolder
from rlaif.metrics.judging import COMPARISON_COLUMNS, JUDGING_COLUMNS, judging_of
from rlaif.models.settings import read_settings
from rlaif.preferences.own_cells import GIVEN
from rlaif.preferences.own_records import given_candidates, given_judgements, given_pairs
from rlaif.preferences.own_rows import LeftOut, OwnRows, read_candidates, read_pairs
from rlaif.preferences.settings import PairSettings
from rlaif.progress import Progress
from rlaif.records import Candidate, Case, Comparison, Dropped, Judgement, Pair, Study

ROUND = "round-000"
PROVENANCE = "provenance.json"
_THRESHOLD_STRATEGIES = ("strategy1", "strategy2")


def check_unchanged(run: RunFolder, config: Config) -> None:
    """Raises ConfigurationError where the file that the run starts from has another content than when it was taken."""
    if config.start.file is None or not (run.path / PROVENANCE).is_file():
        return
    ((name, checksum),) = start_checksum(config).items()
    if run.read_json(PROVENANCE)["data"].get(name) != checksum:
        raise ConfigurationError(
            f"{name} has changed since the run {config.run.name} took it: give the new content another run.name, "
            "or the file its old content"
        )


def start_checksum(config: Config) -> dict[str, str]:
    """For the run's provenance: the checksum of the file that it starts from, by key and path."""
    start = config.start
    return {f"{start.key}={start.file}": _checksum(config)} if start.file is not None else {}


def check_start(run: RunFolder, config: Config) -> None:
    """Reads the file that round 0 starts from, so that what is wrong with it is told before anything is trained.

    Raises OwnFileError, TooManyBad and ConfigurationError.
    """
    if config.start.file is None or run.done(f"{ROUND}/start"):
        return
    rows = _read(run, config)
    _check_bad(config, rows)
    if rows.scales:
        _pairing(config, rows)


def take_start(run: RunFolder, config: Config, fleet: Fleet, cases: Sequence[Case]) -> None:
    """Takes the file's rows into the tables of round 0, and has its candidates judged where they have no scores."""
    if config.start.file is None or run.done(f"{ROUND}/sample"):
        return
    started = time.monotonic()
    if not run.done(f"{ROUND}/start"):
        _take(run, config, {case.case_id: case for case in cases})
    facts = run.facts(f"{ROUND}/start")
    told: dict[str, Any] = {"judgements": facts["judgements"], "repeated_calls": 0, "judging": facts["judging"]}
    if facts["judging"] is None:
        told = _judge(run, config, fleet, {case.case_id: case for case in cases})
    if facts["pairs"] is not None:
        run.finish(f"{ROUND}/pairs", seconds=0.0, pairs=facts["pairs"], dropped={})
    sampled = {"candidates": facts["candidates"], "version": None, "checksum": None, "given": facts["given"]}
    run.finish(f"{ROUND}/sample", seconds=time.monotonic() - started, **told, **sampled)


def pairing_of(run: RunFolder, config: Config, name: str) -> tuple[str, PairSettings]:
    """By whose scores a round's pairs are built, and how: where the team's own judge scored, on its scale."""
    given = run.facts(f"{name}/sample").get("given") or {}
    if given.get("judge") is None:
        return config.judge.name, config.pairs
    bounds = {key: given[key] for key in ("threshold", "minimum_margin")}
    return str(given["judge"]), config.pairs.model_copy(update=bounds)


def _checksum(config: Config) -> str:
    assert config.start.file is not None
    return checksum_of(config.start.file)


def _read(run: RunFolder, config: Config) -> OwnRows:
    studies, start = run.read("studies", Study), config.start
    if start.candidates is not None:
        return read_candidates(start.candidates, studies, start.scale)
    assert start.pairs is not None
    policy = config.policy
    settings = policy.settings() if policy.path is None else read_settings(Path(policy.path))
    return read_pairs(start.pairs, studies, own_prompts=settings.reads == "findings")


def _check_bad(config: Config, rows: OwnRows) -> None:
    share = config.run.max_bad_fraction
    if len(rows.bad) > share * rows.rows:
        raise TooManyBad(
            f"{len(rows.bad)} of {rows.rows} rows of {rows.path} cannot be used, more than run.max_bad_fraction="
            f"{share}: {rows.told()}"
        )


def _take(run: RunFolder, config: Config, cases: Mapping[str, Case]) -> None:
    """Reads the file into the round's tables, and marks the stage with what came of it."""
    started, checksum, now = time.monotonic(), _checksum(config), datetime.now(UTC)
    rows = _read(run, config)
    facts: dict[str, Any] = {"judgements": 0, "judging": {"judges": {}, "agreement": []}, "pairs": None}
    bounds: dict[str, Any] = {"judge": None}
    if config.start.pairs is not None:
        candidates, pairs = given_pairs(rows, cases, now)
        run.replace(f"{ROUND}/pairs", Pair, pairs)
        run.replace(f"{ROUND}/dropped", Dropped, [])
        facts["pairs"] = len(pairs)
    else:
        given = given_candidates(rows, cases, now)
        candidates = [candidate for candidate, _ in given]
        facts["judging"] = None
        if rows.scales:
            judge, pairing = _pairing(config, rows)
            bounds = {"judge": judge, "threshold": pairing.threshold, "minimum_margin": pairing.minimum_margin}
            run.replace(f"{ROUND}/judgements", Judgement, given_judgements(given, rows, f"{GIVEN}:{checksum[:8]}"))
            judgements = run.arrow(f"{ROUND}/judgements", Judgement, JUDGING_COLUMNS)
            comparisons = run.arrow(f"{ROUND}/comparisons", Comparison, COMPARISON_COLUMNS)
            facts |= {"judgements": judgements.num_rows, "judging": judging_of(judgements, comparisons)}
    _check_bad(config, rows)
    if not candidates:
        raise ConfigurationError(f"{rows.path} has no row that can be used: {rows.told()}")
    run.replace(f"{ROUND}/candidates", Candidate, candidates)
    run.replace(f"{ROUND}/left_out", LeftOut, rows.left_out)
    told = {"file": str(rows.path), "sha256": checksum, "rows": rows.rows, "left_out": rows.reasons, **bounds}
    seconds = time.monotonic() - started
    run.finish(f"{ROUND}/start", seconds=seconds, candidates=len(candidates), **facts, given=told)
    reasons = ", ".join(f"{count} {reason}" for reason, count in rows.reasons.items()) or "none"
    print(f"{ROUND} starts from {rows.path}: {rows.rows} rows, left out: {reasons}", flush=True)


def _judge(run: RunFolder, config: Config, fleet: Fleet, cases: Mapping[str, Case]) -> dict[str, Any]:
    """Has the run's judge score the given candidates; what it judged before a kill stands."""
    judging = Judging(run, config, ROUND, [config.judge])
    groups = by_case(run.iterate(f"{ROUND}/candidates", Candidate))
    judged = [judged_case(cases[case_id], group) for case_id, group in groups.items()]
    progress = Progress(f"{ROUND} judge", sum(len(one.reports) for one in judged) * len(judging.leaves))
    progress.skip(progress.total - judging.number(judged))
    return judge_stage(judging, fleet, judged, 0, progress)


def _pairing(config: Config, rows: OwnRows) -> tuple[str, PairSettings]:
    """By whose scores of the file pairs are built, and the strategy's bounds on that judge's scale.

    Raises ConfigurationError where the file has several judges and none is chosen, and where bounds are missing or off
    the scale.
    """
    start, pairs, names = config.start, config.pairs, sorted(rows.scales)
    judge = start.judge or names[0]
    if judge not in rows.scales or (start.judge is None and len(names) > 1):
        raise ConfigurationError(
            f"start.judge: {rows.path} has scores of {', '.join(names)}: set start.judge to the one that builds pairs"
        )
    low, high = scale = rows.scales[judge]
    same_name = {**config.leaf_judges, **config.judges}.get(judge)
    if same_name is not None and scale_of(same_name) != scale:
        raise ConfigurationError(
            f"{rows.path} has scores of {judge} from {low:g} to {high:g}, while the run's judge {judge} scores "
            "on another scale: give the file's judge another name"
        )
    own = scale_of(config.judge) == scale
    threshold, margin = start.threshold, start.minimum_margin
    if pairs.strategy in _THRESHOLD_STRATEGIES:
        if threshold is None and not own:
            raise ConfigurationError(
                f"start.threshold is missing: {judge} scores from {low:g} to {high:g}, which pairs.threshold="
                f"{pairs.threshold:g} is not for"
            )
        if not low < (pairs.threshold if threshold is None else threshold) <= high:
            raise ConfigurationError(f"start.threshold must lie above {low:g} and not above {high:g}, {judge}'s scale")
    if margin is None and not own and pairs.minimum_margin:
        raise ConfigurationError(
            f"start.minimum_margin is missing: {judge} scores from {low:g} to {high:g}, which pairs.minimum_margin="
            f"{pairs.minimum_margin:g} is not for; 0 takes every difference"
        )
    if (margin or 0.0) > high - low:
        raise ConfigurationError(f"start.minimum_margin={margin:g} is more than {judge}'s scale, {low:g} to {high:g}")
    bounds = {"threshold": threshold, "minimum_margin": margin}
    return judge, pairs.model_copy(update={key: value for key, value in bounds.items() if value is not None})
