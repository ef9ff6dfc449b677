"""What a run lost on the way, processes and nodes, and what each cost: told, and kept in its table `outages`."""

from datetime import UTC, datetime
from textwrap import shorten
from typing import Literal

import ray

from rlaif.ledger import RunFolder
from rlaif.metrics.outages import cost_in_words
from rlaif.records import Outage

# How Ray calls deaths that were asked for: a node that was ended, or that the autoscaler gave back.
_ENDED = (1, 4)


class Outages:
    """The outages of a run; without a run they are told and no more. May be used by several threads."""

    def __init__(self, run: RunFolder | None = None) -> None:
        self._run = run
        self._dead: set[str] | None = None

    def note(
        self,
        what: Literal["node", "sampler", "judge", "learners", "encoder"],
        name: str,
        reason: str,
        *,
        repeated: int | None = None,
        unit: str = "",
        seconds: float | None = None,
    ) -> None:
        """Keeps an outage whose place is filled again, or for which nothing more can be done."""
        reason = shorten(" ".join(reason.split()), 300)
        print(f"lost: {name}{cost_in_words(repeated, unit, seconds)}: {reason}", flush=True)
        if self._run is not None:
            outage = Outage(what, name, reason, repeated, unit, seconds, datetime.now(UTC))
            self._run.append("outages", Outage, [outage])
        if what != "node":
            self.note_nodes()

    def watch_nodes(self) -> None:
        """From now on, nodes that die are outages."""
        self._dead = {node["NodeID"] for node in ray.nodes() if not node["Alive"]}

    def note_nodes(self) -> None:
        """Keeps the nodes that died since they were looked at last, but for those that were ended on purpose."""
        if self._dead is None:
            return
        for node in ray.nodes():
            if not node["Alive"] and node["NodeID"] not in self._dead:
                self._dead.add(node["NodeID"])
                if node["DeathReason"] not in _ENDED:
                    name = f"node {node['NodeManagerHostname']} ({node['NodeID'][:8]})"
                    self.note("node", name, node["DeathReasonMessage"] or "no reason is known")
