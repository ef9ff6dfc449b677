"""Which metrics of generated reports there are, which of them can be computed here, and all of them at once."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from rlaif.metrics.measures.by_report import ByReport, Rows
from rlaif.metrics.measures.measured import Measure, Measured, ReportPair
from rlaif.metrics.measures.settings import MetricError, MetricSettings, NotAvailable
from rlaif.reports.region_reports import without_region_prefixes

OFFLINE = ("bleu", "rouge", "meteor", "cider", "lengths", "diversity", "findings")
WITH_WEIGHTS = ("bert_score", "ratescore", "radgraph", "clinical_efficacy")
# These read the regions' names themselves.
_WITH_PREFIXES = frozenset({"findings"})
# Reports that a process takes at once, and the fewest for which starting one pays.
_CHUNK = 32
_WORTH_A_PROCESS = 200
# More would wait for each other on the references that all of them read.
_MOST_PROCESSES = 8
_LONGEST_S = 3600.0
# These read words with NLTK, which takes scikit-learn and SciPy for its classifiers where it finds them (and a module
# `norm` where it does not): four fifths of its import.
_WITH_NLTK = frozenset({"rouge", "meteor"})
_UNUSED_BY_NLTK = ("sklearn", "scipy", "norm")


def _measure_of(name: str, settings: MetricSettings) -> Measure:
    """The measure of a family; the families' libraries are imported only now."""
    measure: Measure = importlib.import_module(f"rlaif.metrics.measures.{name}").measure(settings)
    if name in _WITH_PREFIXES:
        return measure
    if isinstance(measure, ByReport):
        return ByReport(partial(_rows_of_text, measure.rows), measure.measured)
    return lambda pairs: measure(_without_prefixes(pairs))


MEASURES: dict[str, Callable[[MetricSettings], Measure]] = {
    name: partial(_measure_of, name) for name in (*OFFLINE, *WITH_WEIGHTS)
}


def chosen(settings: MetricSettings) -> tuple[dict[str, Measure], dict[str, str]]:
    """The measures of the chosen families by name, and for each that cannot run here the line that says why.

    Raises NotAvailable where one that the settings name cannot run, MetricError for a name that is none. Candidates
    that were asked for region by region are compared without the prefixes that name the regions, as judges see them.
    """
    measures: dict[str, Measure] = {}
    missing: dict[str, str] = {}
    for name in MEASURES if settings.names is None else settings.names:
        if name not in MEASURES:
            near = get_close_matches(name, MEASURES, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(MEASURES)}"
            raise MetricError(f"score.metrics.names has {name!r}, which is no metric: {hint}")
        try:
            measures[name] = MEASURES[name](settings)
        except NotAvailable as reason:
            if settings.names is not None:
                raise NotAvailable(
                    f"score.metrics.names has {name!r}, which cannot be computed here: {reason}"
                ) from reason
            missing[name] = str(reason)
    return measures, missing


def processes_here() -> int:
    """How many processes measure reports on this machine: one for each CPU that this one may use, within bounds."""
    return min(_MOST_PROCESSES, len(os.sched_getaffinity(0)))


def measure_all(
    pairs: Sequence[ReportPair], settings: MetricSettings, processes: int = 1
) -> tuple[dict[str, Measured], dict[str, str]]:
    """Every metric of the chosen families by its own name, and for each family that cannot run here why.

    `processes` share the metrics that measure each report on its own; the numbers do not depend on how many there are.
    All but this one are started anew (spawn): a script that asks for several needs `if __name__ == "__main__"`.
    """
    measures, missing = chosen(settings)
    by_report = {name: measure for name, measure in measures.items() if isinstance(measure, ByReport)}
    processes = min(processes, len(pairs) // _WORTH_A_PROCESS)
    if not by_report or processes < 2:
        found = {name: measure(pairs) for name, measure in measures.items()}
    else:
        found = _measured_by(processes, pairs, measures, by_report)
    return {one.name: one for name in measures for one in found[name]}, missing


def _measured_by(
    processes: int, pairs: Sequence[ReportPair], measures: dict[str, Measure], by_report: dict[str, ByReport]
) -> dict[str, list[Measured]]:
    """The metrics of each family: others take chunks of reports while this process measures the whole list, then helps.

    Raises MetricError, and ends the others, where one of them ends before its time or takes more than an hour for a
    chunk.
    """
    chunks = [pairs[start : start + _CHUNK] for start in range(0, len(pairs), _CHUNK)]
    rows = [measure.rows for measure in by_report.values()]
    parts: list[list[NDArray[np.float64]]] = [[] for _ in chunks]
    with _workers(processes - 1, _import_nltk_alone if _WITH_NLTK & by_report.keys() else None) as pool:
        futures = [pool.submit(_rows_of_chunk, rows, chunk) for chunk in chunks]
        found = {name: measure(pairs) for name, measure in measures.items() if name not in by_report}
        # From the end, as the others begin at the start; what they have begun cannot be taken from them.
        for place in reversed(range(len(chunks))):
            if futures[place].cancel():
                parts[place] = _rows_of_chunk(rows, chunks[place])
        for place, future in enumerate(futures):
            if not future.cancelled():
                parts[place] = _result_of(future)
    for (name, measure), families in zip(by_report.items(), zip(*parts, strict=True), strict=True):
        found[name] = measure.measured(np.concatenate(families))
    return found


@contextmanager
def _workers(processes: int, initializer: Callable[[], None] | None) -> Iterator[ProcessPoolExecutor]:
    """Processes that are ended with the block, also one that hangs: the pool itself would wait for it without limit.

    Raises MetricError where one of them ended before its time.
    """
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=initializer)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise MetricError(
            "a process that measured reports was ended from outside, most likely for want of memory: make room, or "
            "measure fewer metrics at once (score.metrics.names)"
        ) from error
    finally:
        # What Python 3.14 has `terminate_workers` for; the pool forgets its processes once it is shut down.
        started = list(pool._processes.values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in started:
            process.terminate()


def _result_of(future: Future[list[NDArray[np.float64]]]) -> list[NDArray[np.float64]]:
    try:
        return future.result(timeout=_LONGEST_S)
    except TimeoutError as error:
        raise MetricError(
            f"a process took more than {_LONGEST_S:g} s to measure {_CHUNK} reports and was ended: find the metric by "
            "score.metrics.names, or take out reports that are far too long"
        ) from error


def _import_nltk_alone() -> None:
    """Imports NLTK without the libraries that it uses for what is not asked of it here."""
    hidden = [name for name in _UNUSED_BY_NLTK if name not in sys.modules]
    # An import of a module that is None fails, which NLTK provides for.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        importlib.import_module("nltk")
    finally:
        for name in hidden:
            del sys.modules[name]


def _rows_of_chunk(rows: Sequence[Rows], pairs: Sequence[ReportPair]) -> list[NDArray[np.float64]]:
    return [one(pairs) for one in rows]


def _rows_of_text(rows: Rows, pairs: Sequence[ReportPair]) -> NDArray[np.float64]:
    return rows(_without_prefixes(pairs))


def _without_prefixes(pairs: Sequence[ReportPair]) -> list[ReportPair]:
    return [
        replace(pair, candidate=without_region_prefixes(pair.candidate)) if pair.regions else pair for pair in pairs
    ]
