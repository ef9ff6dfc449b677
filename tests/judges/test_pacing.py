"""The pace at a service: simulated in virtual time against services with limits of their own."""

import heapq
import math
import random
from collections import deque
from datetime import UTC, datetime

import pytest

from rlaif.judges.pacing import LONGEST_RETRY_AFTER_S, Outcome, Pacing, retry_after_s

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


class Service:
    """A service in virtual time: it answers after `latency` seconds and refuses at once what is beyond `limit`."""

    def __init__(self, limit: int, latency: float = 1.0, spread: float = 0.0, seed: int = 0) -> None:
        self.limit, self.latency, self.spread = limit, latency, spread
        self.random = random.Random(seed)
        self.held = self.refused = self.most = 0

    def ask(self) -> tuple[float, Outcome]:
        if self.held >= self.limit:
            self.refused += 1
            return 0.002, "pushed_back"
        self.held += 1
        self.most = max(self.most, self.held)
        return self.latency * (1 + self.spread * self.random.uniform(-1, 1)), "answered"


def run(pacing: Pacing, service: Service, count: int, tokens: int = 100) -> float:
    """The seconds that so many questions take; a refused one is put again after a random wait."""
    now, order, jitter = 0.0, 0, random.Random(1)
    events: list[tuple[float, int, int, Outcome | None]] = []
    waiting, attempts = deque(range(count)), dict.fromkeys(range(count), 0)
    numbers: dict[int, int] = {}
    answered = 0
    while answered < count:
        while waiting and (delay := pacing.delay_s(now, tokens)) == 0:
            question = waiting.popleft()
            numbers[question] = pacing.begin(now, tokens)
            seconds, outcome = service.ask()
            order += 1
            heapq.heappush(events, (now + seconds, order, question, outcome))
        if waiting and math.isfinite(delay):
            order += 1
            heapq.heappush(events, (now + delay, order, -1, None))
        now, _, question, outcome = heapq.heappop(events)
        if question < 0:
            continue
        if outcome is None:
            waiting.append(question)
            continue
        pacing.end(now, numbers[question], outcome)
        if outcome == "answered":
            service.held -= 1
            answered += 1
        else:
            attempts[question] += 1
            assert attempts[question] < 6, "a question was refused six times"
            order += 1
            wait = jitter.uniform(0, 0.5 * 2 ** attempts[question])
            heapq.heappush(events, (now + wait, order, question, None))
    return now


def bounded(most: int, requests: int | None = None, tokens: int | None = None) -> Pacing:
    pacing = Pacing(0.0)
    pacing.bound(0.0, most, requests, tokens)
    return pacing


@pytest.mark.parametrize("most", [32, 64, 256])
@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_a_limit_of_the_service_is_found_and_used(most: int, spread: float) -> None:
    service = Service(limit=32, spread=spread)
    seconds = run(bounded(most), service, 600)
    assert 600 / seconds >= 0.9 * 32, f"{600 / seconds:.1f} a second"
    assert service.refused <= 90


@pytest.mark.parametrize("limit", [1, 3, 10])
def test_a_small_limit_is_found(limit: int) -> None:
    service = Service(limit, spread=0.2)
    pacing = bounded(32)
    seconds = run(pacing, service, 200)
    assert 200 / seconds >= 0.9 * limit
    assert pacing.limit < limit + 2
    assert service.refused <= 80


def test_the_configured_limit_is_never_exceeded() -> None:
    service = Service(limit=1000)
    run(bounded(5), service, 50)
    assert service.most == 5
    service = Service(limit=1000)
    run(bounded(1), service, 5)
    assert service.most == 1


def test_the_limit_doubles_in_a_round_trip_until_the_first_push_back_and_then_adds_one() -> None:
    pacing = bounded(1000)
    for expected in (48, 96):
        numbers = [pacing.begin(0, 1) for _ in range(int(pacing.limit))]
        for number in numbers:
            pacing.end(1, number, "answered")
            if pacing.limit < expected:
                pacing.end(1, pacing.begin(1, 1), "failed")
        assert pacing.in_flight == 0
        pacing.limit = float(expected)
    numbers = [pacing.begin(2, 1) for _ in range(96)]
    pacing.end(2, numbers.pop(), "pushed_back")
    shrunk = pacing.limit
    assert shrunk == pytest.approx(0.95 * 95)
    replaced = deque(numbers)
    for _ in range(90):
        pacing.end(3, replaced.popleft(), "answered")
        replaced.append(pacing.begin(3, 1))
    assert pacing.limit == pytest.approx(shrunk + 1, abs=0.05)


def test_a_limit_that_is_not_used_does_not_grow() -> None:
    pacing = bounded(1000)
    for second in range(100):
        pacing.end(second, pacing.begin(second, 1), "answered")
    assert pacing.limit == 24


def test_push_backs_of_one_round_trip_shrink_once() -> None:
    pacing = bounded(64)
    pacing.limit = 64.0
    numbers = [pacing.begin(0, 1) for _ in range(64)]
    for number in numbers[32:]:
        pacing.end(0.01, number, "pushed_back")
    # 32 of 64 were taken; no round trip takes more than half.
    assert pacing.limit == 32
    for number in numbers[:32]:
        pacing.end(1, number, "pushed_back")
    assert pacing.limit == 32


def test_a_service_that_is_gone_is_asked_ever_more_rarely_and_the_limit_stays() -> None:
    pacing = bounded(8)
    now, asked = 0.0, 0
    while now < 600:
        delay = pacing.delay_s(now, 1)
        now += delay
        asked += 1
        pacing.end(now, pacing.begin(now, 1), "unreachable")
    assert asked < 25
    assert pacing.limit == 24
    pacing.end(now, pacing.begin(now, 1), "answered")
    pacing.end(now, pacing.begin(now, 1), "pushed_back")
    assert pacing.delay_s(now + 60, 1) == 0


def test_retry_after_pauses_the_address_and_is_bounded() -> None:
    pacing = bounded(8)
    pacing.end(10, pacing.begin(10, 1), "pushed_back", retry_after_s=30)
    assert pacing.delay_s(10, 1) == pytest.approx(30)
    assert pacing.delay_s(40, 1) == 0
    pacing.end(40, pacing.begin(40, 1), "pushed_back", retry_after_s=1e9)
    assert pacing.delay_s(40, 1) == pytest.approx(LONGEST_RETRY_AFTER_S)


@pytest.mark.parametrize("failed", ["failed", "answered"])
def test_a_failure_that_says_nothing_about_the_pace_changes_nothing(failed: Outcome) -> None:
    pacing = bounded(8)
    pacing.end(1, pacing.begin(1, 1), failed)
    assert (pacing.limit, pacing.delay_s(1, 1), pacing.in_flight) == (24, 0, 0)


def test_requests_a_minute_are_kept() -> None:
    seconds = run(bounded(1000, requests=120), Service(limit=1000, latency=0.1), 121)
    assert 59 <= seconds <= 61


def test_two_askers_with_different_bounds_are_both_held_to_all_of_them() -> None:
    pacing = Pacing(0.0)
    begun, now = 0, 0.0
    while now < 60:
        # Each begins with what the other did not name.
        bounds = (8, 120, None) if begun % 2 else (4, 600, 6000)
        pacing.bound(now, *bounds)
        assert pacing.most == 4
        delay = pacing.delay_s(now, 10)
        now += delay
        pacing.end(now, pacing.begin(now, 10), "answered")
        begun += 1
    assert 115 <= begun <= 125
    pacing = Pacing(0.0)
    begun, now = 0, 0.0
    while now < 60:
        pacing.bound(now, 8, None, 6000 if begun % 2 else 12000)
        now += pacing.delay_s(now, 100)
        pacing.end(now, pacing.begin(now, 100), "answered")
        begun += 1
    assert 58 <= begun <= 63


def test_a_bound_that_nobody_names_any_more_is_forgotten_once_it_is_paid_off() -> None:
    pacing = bounded(1, requests=1, tokens=60)
    pacing.begin(0, 180)
    pacing.bound(61, 8, 600, None)
    assert pacing.most == 8
    # The bucket of tokens is still in debt, and that of requests is full after a minute.
    assert pacing.delay_s(61, 1) == pytest.approx(119)
    pacing.bound(181, 8, 600, None)
    assert pacing.delay_s(181, 1) == 0


def test_tokens_a_minute_are_kept_and_corrected() -> None:
    seconds = run(bounded(1000, tokens=6000), Service(limit=1000, latency=0.1), 61, tokens=100)
    assert 59 <= seconds <= 61
    pacing = bounded(8, tokens=600)
    number = pacing.begin(0, 100)
    assert pacing.delay_s(0, 10) == pytest.approx(10)
    pacing.end(0, number, "answered", excess_tokens=-90)
    assert pacing.delay_s(0, 10) == pytest.approx(1)
    pacing.end(0, number, "answered", excess_tokens=600)
    assert pacing.delay_s(0, 10) == pytest.approx(61)


def test_a_question_larger_than_a_minute_of_tokens_can_be_asked() -> None:
    pacing = bounded(8, tokens=60)
    assert pacing.delay_s(0, 100_000) == 0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("1.5", 1.5),
        (" 3 ", 3.0),
        ("0", 0.0),
        ("-5", 0.0),
        ("Wed, 25 Nov 2026 12:00:30 GMT", 30.0),
        ("Wed, 25 Nov 2026 11:00:00 GMT", 0.0),
        ("Wed, 25 Nov 2027 12:00:00 GMT", LONGEST_RETRY_AFTER_S),
        ("99999999999", LONGEST_RETRY_AFTER_S),
        (None, None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("Wed, 99 Nov 2026 12:00:30 GMT", None),
        ("Wed, 25 Nov 99999999999999999999 12:00:30 GMT", None),
        ("٣", None),
        ("1" * 1000, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, NOON) == seconds
