"""What a run spends on a judge, and the cap that it never passes."""

from dataclasses import dataclass
from typing import Literal


@dataclass
class Account:
    """The account of one judge in one run, in US dollars, tokens and requests.

    A request's highest possible cost is reserved when it begins and settled when it ends. Where no reply came and the
    service may still ask for payment (a time-out, a broken reply, an asker that died), the reserved cost counts as
    spent: `lost_usd`.
    """

    cap_usd: float | None = None
    earlier_usd: float = 0.0
    """Spent before this account was opened."""
    paid_usd: float = 0.0
    lost_usd: float = 0.0
    reserved_usd: float = 0.0
    requests: int = 0
    retries: int = 0
    throttles: int = 0
    """Requests that the service pushed back."""
    replies: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: int = 0
    """Replies that did not say their tokens: these are counted by their characters."""

    @property
    def settled_usd(self) -> float:
        """What is spent; it never falls."""
        return self.earlier_usd + self.paid_usd + self.lost_usd

    def know(self, cap_usd: float | None, spent_usd: float) -> None:
        """Takes the cap, and what an asker knows to be spent: the account may have been opened anew since."""
        self.cap_usd = cap_usd
        self.earlier_usd += max(0.0, spent_usd - self.settled_usd)

    def may_spend(self, cost_usd: float) -> Literal["yes", "later", "never"]:
        """Whether so much may be spent: `later` where it depends on what requests in flight turn out to cost."""
        if self.cap_usd is None or self.settled_usd + self.reserved_usd + cost_usd <= self.cap_usd:
            return "yes"
        return "later" if self.settled_usd + cost_usd <= self.cap_usd else "never"

    def begin(self, cost_usd: float, *, retry: bool) -> None:
        """Reserves the highest cost of a request."""
        self.reserved_usd += cost_usd
        self.requests += 1
        self.retries += retry

    def free(self, cost_usd: float) -> None:
        """Ends a reservation."""
        self.reserved_usd = max(0.0, self.reserved_usd - cost_usd)

    def counts(self) -> dict[str, float]:
        """The account for a round's metrics."""
        return {
            "requests": self.requests,
            "retries": self.retries,
            "throttles": self.throttles,
            "replies": self.replies,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "estimated": self.estimated,
            "cost_usd": self.paid_usd,
            "lost_usd": self.lost_usd,
            "settled_usd": self.settled_usd,
        }
