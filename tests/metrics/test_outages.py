"""What a run lost, added up and in words."""

from datetime import UTC, datetime
from pathlib import Path

from rlaif.metrics.outages import outages_in_words, outages_of
from rlaif.records import Outage
from rlaif.tables import Table

AT = datetime(2026, 1, 2, tzinfo=UTC)


def test_outages_are_added_up_by_kind_and_told_in_one_sentence(tmp_path: Path) -> None:
    assert outages_of(tmp_path) == [] and outages_in_words([]) == ""
    Table(tmp_path / "outages", Outage).append(
        [
            Outage("sampler", "sampler 0", "died", 78, "candidates", 24.0, AT),
            Outage("sampler", "sampler 1", "died", 6, "candidates", 2.5, AT),
            Outage("sampler", "a further sampler", "died", 0, "candidates", None, AT),
            Outage("learners", "the learners", "died", 0, "steps", 19.25, AT),
            Outage("node", "node a", "no heartbeat", None, "", None, AT),
        ]
    )
    assert outages_of(tmp_path) == [
        {"what": "sampler", "lost": 3, "repeated": 84, "unit": "candidates", "seconds": 26.5},
        {"what": "learners", "lost": 1, "repeated": 0, "unit": "steps", "seconds": 19.25},
        {"what": "node", "lost": 1, "repeated": None, "unit": "", "seconds": None},
    ]
    assert outages_in_words(outages_of(tmp_path)) == (
        "Lost on the way, and made good: sampler 3 x (84 candidates done again, 26.5 s); learners 1 x (19.2 s); "
        "node 1 x."
    )
