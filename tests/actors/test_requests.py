"""What is fed to a sampler while it writes."""

import threading
import time

from actors.requests import Feed, Request
from rlaif.records import Case


def request(number: int) -> Request:
    return Request(Case(f"case-{number}", "s", "p", "Describe.", None, None, None), None, 6, 1.0)


def test_what_was_fed_comes_out_once_and_in_order() -> None:
    feed = Feed()
    feed.put(3, [request(0), request(1)])
    feed.put(3, [request(2)])
    assert feed.take(3, 0) == [request(0), request(1), request(2)]
    assert feed.take(3, 0) == []
    feed.put(3, [], end=True)
    assert feed.take(3, 0) is None


def test_a_newer_stage_ends_an_older_one_and_drops_what_comes_for_it() -> None:
    feed = Feed()
    feed.put(0, [request(0)])
    feed.put(1, [request(1)])
    assert feed.take(0, 0) is None
    feed.put(0, [request(2)], end=True)
    assert feed.take(1, 0) == [request(1)]


def test_a_stage_may_begin_before_anything_is_fed_to_it() -> None:
    feed = Feed()
    feed.put(0, [request(0)], end=True)
    assert feed.take(1, 0.01) == []
    later = threading.Timer(0.2, feed.put, (1, [request(1)]))
    later.start()
    began = time.monotonic()
    assert feed.take(1, 30) == [request(1)] and time.monotonic() - began < 20
    later.join()
