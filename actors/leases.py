"""The words between who asks a service and who keeps its limits: wishes, leases, and what became of them."""

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from rlaif.judges.pacing import Outcome
from rlaif.records import Failure


@dataclass(frozen=True)
class Wish:
    """A request that somebody would like to send.

    `tokens` is an estimate, `cost_usd` no less than what it can cost, `spent_usd` what the asker knows the run to have
    spent on the judge, `lease_s` the seconds after which whoever was allowed to send it is taken for dead. A call waits
    no longer than `wait_s`, and not at all while the service asks for a pause of more than `patience_s`.
    """

    address: str
    concurrency: int
    requests_per_minute: int | None
    tokens_per_minute: int | None
    run: str
    judge: str
    tokens: int
    cost_usd: float
    cap_usd: float | None
    spent_usd: float
    lease_s: float
    wait_s: float
    patience_s: float
    retry: bool = False


@dataclass(frozen=True)
class Lease:
    """Leave to send one request; `without` names the fields of a request that the address does not take."""

    lease_id: str
    without: frozenset[str]
    settled_usd: float


@dataclass(frozen=True)
class Later:
    """No leave yet: ask again with the ticket, which keeps the place in the queue.

    `trouble` is the failure by which the address held others up last, where it has answered nobody since.
    """

    ticket: int
    trouble: Failure | None = None


@dataclass(frozen=True)
class Closed:
    """The service asked for a pause that lasts longer than the wish's patience."""

    pause_s: float


@dataclass(frozen=True)
class OverBudget:
    """The request could cost more than what is left."""

    settled_usd: float


Answer: TypeAlias = Lease | Later | Closed | OverBudget


@dataclass(frozen=True)
class Settlement:
    """What became of a request. `paid` where its tokens are known or estimated from a reply; `lost` where it may have
    to be paid for without a reply; `without` names a field that the address turned out not to take; `trouble` is the
    failure of a request that the service held up or pushed back."""

    outcome: Outcome
    retry_after_s: float | None = None
    paid: bool = False
    lost: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    estimated: bool = False
    without: str | None = None
    trouble: Failure | None = None


class Limits(Protocol):
    """What a client needs of the limits."""

    async def acquire(self, wish: Wish, ticket: int | None = None) -> Answer: ...

    async def release(self, lease_id: str, wish: Wish, settlement: Settlement) -> float: ...
