"""How fast a service may be asked: a state machine for one address, with neither a clock nor a client in it.

The limit of questions in flight grows while the service takes them and shrinks when it pushes back (additive increase,
multiplicative decrease, as in TCP). Times are seconds of any clock that never goes back.
"""

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, TypeAlias

FIRST_LIMIT = 24
"""In flight at the start: a doubling below what services take; one that takes fewer says so and is halved to."""
SHRINK = 0.95
"""What is left of the number that the service took when it pushed back; the refused are not in that number, so that
even this mild step ends below it."""
LEAST_LEFT = 0.5
"""One round trip never takes more than half of what was in flight, however many it refuses: a limit that counts
requests a minute refuses all of them for a moment."""
IN_USE = 0.5
"""The limit grows only while this share of it is in flight: one that is not used says nothing."""
PROBE = 8
"""Answers between two steps upward, at least: else a service that takes one question would refuse every second one."""
FIRST_PAUSE_S = 0.5
"""Pause of the whole address after a second round trip that brought nothing but push-backs."""
LONGEST_PAUSE_S = 60.0
"""The pause doubles up to this, so that a service that comes back is noticed within a minute."""
LONGEST_RETRY_AFTER_S = 600.0
"""The most that a Retry-After is obeyed: a mistaken one must not stop a run for hours."""
BURST_S = 1.0
"""Seconds' worth of requests or tokens that may start at once, so that no minute holds more than 61 seconds' worth."""
FORGET_S = 60.0
"""Bounds that nobody has named for so long hold no more; a bucket is full again by then, unless it is in debt."""
SOON_S = 1e-6
"""A wait below this is none: sums of floats would else leave waits too small to move a clock."""

Outcome: TypeAlias = Literal["answered", "failed", "pushed_back", "unreachable"]
"""What became of a request: a reply; a failure that says nothing about the pace; too much for the service (429, 503,
529, a time-out); or no connection, which is waited out and shrinks nothing."""


class Bucket:
    """A token bucket: so much a minute; it may run into debt, so that nothing is too large to start."""

    def __init__(self, per_minute: float, now: float) -> None:
        self._rate = per_minute / 60
        self._most = max(1.0, self._rate * BURST_S)
        self._level, self._at = self._most, now

    def delay_s(self, now: float, amount: float) -> float:
        """Seconds until the amount may start; not above 0 where it may."""
        self._fill(now)
        return (min(amount, self._most) - self._level) / self._rate

    def take(self, now: float, amount: float) -> None:
        """Takes the amount; a negative one gives back."""
        self._fill(now)
        self._level = min(self._most, self._level - amount)

    def full(self, now: float) -> bool:
        """Whether nothing of it is taken, so that a new one would be the same."""
        self._fill(now)
        return self._level >= self._most

    def _fill(self, now: float) -> None:
        self._level = min(self._most, self._level + (now - self._at) * self._rate)
        self._at = now


class Pacing:
    """The pace at one address, for everybody who asks there: where they have different bounds, all of these hold."""

    def __init__(self, now: float) -> None:
        self.limit = float(FIRST_LIMIT)
        self._growing_fast = True
        self._begun = 0
        self._in_flight: set[int] = set()
        self._paused_until = now
        # A push-back opens an epoch: what started before it and is refused as well belongs to the same round trip.
        self._epoch, self._epoch_refused, self._epoch_peak = 0, 0, 0
        self._peak = 0
        self._fruitless = 0
        # Each by what was named, with when it was named last.
        self._most: dict[int, float] = {}
        self._requests: dict[int, tuple[Bucket, float]] = {}
        self._tokens: dict[int, tuple[Bucket, float]] = {}

    @property
    def in_flight(self) -> int:
        """Requests begun and not ended."""
        return len(self._in_flight)

    @property
    def most(self) -> int:
        """The most in flight, whatever the service takes."""
        return min(self._most, default=1)

    def bound(self, now: float, most: int, requests_per_minute: int | None, tokens_per_minute: int | None) -> None:
        """Names what no adaptation exceeds, beside what others have named within the last FORGET_S."""
        self._most[most] = now
        self._most = {one: at for one, at in self._most.items() if now - at <= FORGET_S}
        for buckets, rate in ((self._requests, requests_per_minute), (self._tokens, tokens_per_minute)):
            if rate:
                bucket, _ = buckets.get(rate) or (Bucket(rate, now), now)
                buckets[rate] = bucket, now
            for old in [one for one, (bucket, at) in buckets.items() if now - at > FORGET_S and bucket.full(now)]:
                del buckets[old]

    def delay_s(self, now: float, tokens: int) -> float:
        """Seconds until a request of so many tokens may begin; infinite where one in flight must end first."""
        if self.in_flight >= max(1, int(min(self.limit, self.most))):
            return math.inf
        delays = [self._paused_until - now]
        delays += [bucket.delay_s(now, 1) for bucket, _ in self._requests.values()]
        delays += [bucket.delay_s(now, tokens) for bucket, _ in self._tokens.values()]
        delay = max(delays)
        return delay if delay > SOON_S else 0.0

    def begin(self, now: float, tokens: int) -> int:
        """Begins a request and gives its number."""
        self._begun += 1
        self._in_flight.add(self._begun)
        self._peak = max(self._peak, self.in_flight)
        for bucket, _ in self._requests.values():
            bucket.take(now, 1)
        for bucket, _ in self._tokens.values():
            bucket.take(now, tokens)
        return self._begun

    def end(
        self, now: float, number: int, outcome: Outcome, retry_after_s: float | None = None, excess_tokens: int = 0
    ) -> None:
        """Ends a request: `excess_tokens` are those that it took beyond (or, negative, below) what it began with."""
        in_use = self.in_flight >= IN_USE * min(self.limit, self.most)
        self._in_flight.discard(number)
        for bucket, _ in self._tokens.values():
            bucket.take(now, excess_tokens)
        if retry_after_s is not None:
            self._pause(now, min(retry_after_s, LONGEST_RETRY_AFTER_S))
        if outcome == "answered":
            self._fruitless = 0
            if in_use:
                self._grow()
        elif outcome != "failed":
            self._push_back(now, number, shrinks=outcome == "pushed_back")

    def _grow(self) -> None:
        # One more for each answer doubles the limit in a round trip; a limit's share of one adds one.
        step = 1.0 if self._growing_fast else 1.0 / max(self.limit, PROBE)
        self.limit = min(self.limit + step, max(1.0, float(self.most)))

    def _push_back(self, now: float, number: int, *, shrinks: bool) -> None:
        if number > self._epoch:
            self._epoch, self._epoch_refused, self._epoch_peak = self._begun, 0, self._peak
            self._peak = self.in_flight
            self._fruitless += 1
            if self._fruitless > 1:
                self._pause(now, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._fruitless - 2, 20)))
        if shrinks:
            self._growing_fast = False
            self._epoch_refused += 1
            taken = SHRINK * (self._epoch_peak - self._epoch_refused)
            self.limit = max(1.0, min(self.limit, max(taken, LEAST_LEFT * self._epoch_peak)))

    def _pause(self, now: float, seconds: float) -> None:
        self._paused_until = max(self._paused_until, now + seconds)


def retry_after_s(value: str | None, wall_clock: datetime) -> float | None:
    """The seconds that a Retry-After header asks for, as a number or as an HTTP date; None where it says neither."""
    if value is None or not value.isascii() or len(value) > 64:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            until = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        seconds = ((until if until.tzinfo else until.replace(tzinfo=UTC)) - wall_clock).total_seconds()
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER_S) if math.isfinite(seconds) else None
