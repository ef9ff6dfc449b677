"""What a run lost, added up and in words."""

from datetime import UTC, datetime
from pathlib import Path

from rlaif.metrics.losses import losses_in_words, losses_of
from rlaif.records import Loss
from rlaif.tables import Table

AT = datetime(2026, 1, 2, tzinfo=UTC)


def test_losses_are_added_up_by_kind_and_told_in_one_sentence(tmp_path: Path) -> None:
    assert losses_of(tmp_path) == [] and losses_in_words([]) == ""
    Table(tmp_path / "losses", Loss).append(
        [
            Loss("sampler", "sampler 0", "died", 78, "candidates", 24.0, AT),
            Loss("sampler", "sampler 1", "died", 6, "candidates", 2.5, AT),
            Loss("sampler", "a further sampler", "died", 0, "candidates", None, AT),
            Loss("learners", "the learners", "died", 0, "steps", 19.25, AT),
            Loss("node", "node a", "no heartbeat", None, "", None, AT),
        ]
    )
    assert losses_of(tmp_path) == [
        {"what": "sampler", "lost": 3, "repeated": 84, "unit": "candidates", "seconds": 26.5},
        {"what": "learners", "lost": 1, "repeated": 0, "unit": "steps", "seconds": 19.25},
        {"what": "node", "lost": 1, "repeated": None, "unit": "", "seconds": None},
    ]
    assert losses_in_words(losses_of(tmp_path)) == (
        "Lost on the way, and made good: sampler 3 x (84 candidates done again, 26.5 s); learners 1 x (19.2 s); "
        "node 1 x."
    )
