"""The judge cache on disk: what comes back, what is durable, what damage and hostile content do."""

import errno
import json
import logging
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from hashlib import blake2b, sha256
from pathlib import Path

import pytest

from rlaif.files import RunError
from rlaif.judges.asking import Reply
from rlaif.judges.reply_store import ReplyStore
from rlaif.judges.stored_reply import MAX_CHARACTERS, Payment, StoredReply, encoded
from rlaif.judges.verdict import Usage


def key_of(name: object) -> str:
    return sha256(str(name).encode()).hexdigest()


def reply_of(text: str, cost: float = 0.0) -> Reply:
    return Reply(text, usage=Usage(1200, 80, cost, 0.75))


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*"))


def checked_line(entry: object) -> bytes:
    """A line with a right checksum, whatever it holds."""
    body = json.dumps(entry)[1:].encode()
    return b'{"check":"' + blake2b(body, digest_size=16).hexdigest().encode() + b'",' + body + b"\n"


def test_replies_come_back_as_they_were_given_also_to_another_store(tmp_path: Path) -> None:
    texts = [
        "Score: 4\nNo pneumothorax.\r\n\tEnd.",
        'quote " backslash \\ NUL \0 line separator \u2028 \x85 delete \x7f',
        "右肺上葉に結節 🫁 e\u0301 \u200f\u0627",
        "half a pair \ud83e",
        "",
        "x" * (4 * 2**20),
        "\0" * MAX_CHARACTERS,
        "🫁" * 2**20,
    ]
    replies = {key_of(number): reply_of(text, number / 7) for number, text in enumerate(texts)}
    replies[key_of("flags")] = Reply("I cannot", True, True, "content_filter", Usage(3, 0, 1e-9, 12.5, True))
    store = ReplyStore(tmp_path / "cache")
    for key, reply in replies.items():
        store.put(key, reply, "run")
    for one in (store, ReplyStore(tmp_path / "cache")):
        assert {key: one.get(key) for key in replies} == replies
        assert one.get_many([key_of("none"), key_of(0), key_of(0)]) == [None, replies[key_of(0)], replies[key_of(0)]]
        assert len(one) == len(replies) and one.damaged == {}


def test_the_first_reply_under_a_key_stays_and_of_the_second_the_cost(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path)
    store.put(key_of(1), reply_of("first", 0.5), "a")
    size = segments(tmp_path)[0].stat().st_size
    store.put(key_of(1), reply_of("second", 0.25), "b")
    store.put(key_of(1), reply_of("second", 0.25), "a")
    store.put_many([StoredReply(key_of(2), "a", reply_of(text)) for text in ("third", "fourth")])
    store.put_many([StoredReply(key_of(3), "b", reply_of(text, 1.0)) for text in ("fifth", "sixth")])
    assert b"second" not in segments(tmp_path)[0].read_bytes()
    assert len(segments(tmp_path)[0].read_bytes()[size:].splitlines()) == 5
    for one in (store, ReplyStore(tmp_path)):
        assert one.get(key_of(1)) == reply_of("first", 0.5) and one.get(key_of(2)) == reply_of("third")
        assert one.get(key_of(3)) == reply_of("fifth", 1.0)
        assert (one.spent("a"), one.spent("b"), len(one), one.damaged) == (0.75, 2.25, 3, {})


def test_what_is_handed_in_again_is_no_second_payment(tmp_path: Path) -> None:
    paid: list[StoredReply | Payment] = [
        StoredReply(key_of(1), "run", reply_of("first", 0.5)),
        StoredReply(key_of(1), "run", reply_of("second", 0.25)),
        Payment(key_of("lost"), "run", 0.125),
    ]
    store = ReplyStore(tmp_path)
    store.put_many(paid)
    size = segments(tmp_path)[0].stat().st_size
    # As after the death of a writer that had written all of it: with another one, too.
    for one in (store, ReplyStore(tmp_path)):
        one.put_many(paid)
        for single in paid:
            one.put_many([single])
        assert one.spent("run") == 0.875
    assert [one.stat().st_size for one in segments(tmp_path)] == [size]


def test_a_payment_without_a_reply_counts_for_its_run_and_is_no_reply(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path)
    store.put_many([Payment(key_of("lost"), "a", 0.1), Payment(key_of("other"), "a", 0.2)])
    for one in (store, ReplyStore(tmp_path)):
        assert (one.spent("a"), one.spent("b"), len(one), one.get(key_of("lost"))) == (pytest.approx(0.3), 0.0, 0, None)


@pytest.mark.parametrize(
    ("key", "run", "cost_usd", "word"),
    [
        ("../x", "a", 1.0, "key"),
        (key_of(1), "", 1.0, "run"),
        (key_of(1), "r" * 201, 1.0, "run"),
        (key_of(1), "a", -1.0, "cost_usd"),
        (key_of(1), "a", float("inf"), "cost_usd"),
    ],
)
def test_a_payment_that_the_store_does_not_hold_is_refused(key: str, run: str, cost_usd: float, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Payment(key, run, cost_usd)


def test_only_the_owner_may_read_and_a_store_without_a_reply_has_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "cache"
    store = ReplyStore(folder)
    assert segments(folder) == []
    store.put(key_of(1), reply_of("text"), "run")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in segments(folder)] == [0o600]
    folder.chmod(0o755)
    ReplyStore(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_segments_are_of_bounded_size(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path, segment_bytes=10_000)
    for number in range(100):
        store.put(key_of(number), reply_of("x" * 700), "run")
    sizes = [path.stat().st_size for path in segments(tmp_path)]
    assert len(sizes) > 5 and all(size < 11_100 for size in sizes)
    assert all(ReplyStore(tmp_path).get(key_of(number)) == reply_of("x" * 700) for number in range(100))


def test_what_a_run_paid_is_exact_and_outlives_the_store(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path, segment_bytes=2000)
    for number in range(1000):
        store.put_many([StoredReply(key_of((run, number)), run, reply_of("t", 0.1)) for run in ("a", "b")])
    store.put(key_of("tiny"), reply_of("t", 1.5e-7), "c")
    for one in (store, ReplyStore(tmp_path)):
        assert [one.spent(run) for run in ("a", "b", "c", "d")] == [100.0, 100.0, 1.5e-7, 0.0]


def test_two_writers_on_one_folder_see_each_other_after_a_refresh(tmp_path: Path) -> None:
    first, second = ReplyStore(tmp_path), ReplyStore(tmp_path)
    for number in range(3):
        first.put(key_of(f"first {number}"), reply_of("1", 0.25), "a")
        second.put(key_of(f"second {number}"), reply_of("2", 0.5), "b")
        first.refresh()
        second.refresh()
        for one in (first, second):
            assert one.get(key_of(f"first {number}")) == reply_of("1", 0.25)
            assert one.get(key_of(f"second {number}")) == reply_of("2", 0.5)
            assert (one.spent("a"), one.spent("b"), len(one)) == (
                0.25 * (number + 1),
                0.5 * (number + 1),
                2 * number + 2,
            )
    assert len(segments(tmp_path)) == 2


def test_a_half_written_line_of_another_writer_counts_once_it_is_whole(tmp_path: Path) -> None:
    ReplyStore(tmp_path).put(key_of(1), reply_of("one"), "run")
    line = encoded(StoredReply(key_of(2), "run", reply_of("two", 0.5)))
    reader = ReplyStore(tmp_path)
    for part in (line[:40], line[40:-1], b"\n"):
        assert reader.get(key_of(2)) is None and reader.spent("run") == 0 and reader.damaged == {}
        with segments(tmp_path)[0].open("ab") as file:
            file.write(part)
        reader.refresh()
    assert reader.get(key_of(2)) == reply_of("two", 0.5) and reader.spent("run") == 0.5


@pytest.mark.parametrize("damage", [b"\0", b"\xff", b"x", b"\n", b'"'])
def test_a_damaged_line_in_the_middle_is_skipped_and_told_once(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store = ReplyStore(tmp_path)
    for number in range(3):
        store.put(key_of(number), reply_of(f"Score: {number}"), "run")
    path = segments(tmp_path)[0]
    content = path.read_bytes()
    at = content.index(b"Score: 1") + 7
    path.write_bytes(content[:at] + damage + content[at + 1 :])
    with caplog.at_level(logging.WARNING):
        assert store.get(key_of(1)) is None
        again = ReplyStore(tmp_path)
        again.refresh()
    expected = 2 if damage == b"\n" else 1
    assert again.damaged == {path.name: expected} and store.damaged == {path.name: 1}
    assert [again.get(key_of(number)) for number in range(3)] == [reply_of("Score: 0"), None, reply_of("Score: 2")]
    assert len(caplog.records) == 2 and f"{path}: {expected} damaged" in caplog.text
    again.put(key_of(1), reply_of("asked again"), "run")
    assert ReplyStore(tmp_path).get(key_of(1)) == reply_of("asked again")


def test_a_segment_cut_at_any_byte_yields_its_whole_lines_and_no_other(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path)
    for number in range(3):
        store.put(key_of(number), reply_of(f"text {number}", 0.5), "run")
    path = segments(tmp_path)[0]
    content = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
    for cut in range(0, len(content), 7):
        path.write_bytes(content[:cut])
        cut_store = ReplyStore(tmp_path)
        whole = sum(end <= cut for end in ends)
        assert len(cut_store) == whole and cut_store.spent("run") == 0.5 * whole and cut_store.damaged == {}
        for number in range(3):
            expected = reply_of(f"text {number}", 0.5) if number < whole else None
            assert cut_store.get(key_of(number)) == expected
    path.write_bytes(content[: ends[0]])
    assert [store.get(key_of(number)) for number in range(3)] == [reply_of("text 0", 0.5), None, None]
    path.unlink()
    assert store.get(key_of(0)) is None


def test_hostile_lines_are_skipped(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path)
    store.put(key_of(1), reply_of("kept"), "run")
    good = {"key": key_of(2), "run": "run", "reply": asdict(reply_of("text"))}
    usage = asdict(Usage())
    bad: list[object] = [
        {**good, "key": "../../etc/passwd"},
        {**good, "key": key_of(2)[:-1]},
        {**good, "key": key_of(2).upper()},
        {**good, "key": 7},
        {**good, "key": ["a"]},
        {**good, "run": None},
        {**good, "run": ""},
        {**good, "run": "r" * 1000},
        {**good, "reply": "text"},
        {**good, "reply": None},
        {**good, "reply": [["text", "a"]]},
        {"key": key_of(2), "run": "run"},
        *({**good, "reply": {**asdict(reply_of("t")), "text": text}} for text in (4, None, ["a"], {"a": 1})),
        *({**good, "reply": {**asdict(reply_of("t")), name: 1}} for name in ("structured", "refused", "unknown")),
        *({**good, "reply": {**asdict(reply_of("t")), "usage": value}} for value in (None, 3, "abc", [], {"a": 1})),
        *(
            {**good, "reply": {**asdict(reply_of("t")), "usage": {**usage, name: value}}}
            for name in ("cost_usd", "latency_s", "prompt_tokens")
            for value in (-1, float("nan"), float("inf"), "1", True, None, 10**400)
        ),
    ]
    deep = b'"key":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    lines = [checked_line(entry) for entry in bad]
    lines += [b'{"check":"' + blake2b(deep, digest_size=16).hexdigest().encode() + b'",' + deep + b"\n"]
    lines += [
        b"\n",
        b"{}\n",
        b"[]\n",
        b'{"check":"\n',
        b"\0" * 1000 + b"\n",
        b"\xff\xfe\n",
        b'{"check":' + b"}" * 60 + b"\n",
    ]
    path = tmp_path / f"replies-{1:020d}-{'0' * 16}.jsonl"
    path.write_bytes(b"".join(lines) + checked_line({**good, "key": key_of(3)}))
    store.refresh()
    assert store.damaged == {path.name: len(lines)}
    assert len(store) == 2 and store.get(key_of(2)) is None and store.get(key_of(3)) == reply_of("text")


def test_a_huge_line_is_passed_over_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / f"replies-{1:020d}-{'0' * 16}.jsonl"
    with path.open("wb") as file:
        file.truncate(400 * 2**20)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + encoded(StoredReply(key_of(1), "run", reply_of("after it"))))
    program = (
        "import sys, resource; from pathlib import Path; from rlaif.judges.reply_store import ReplyStore\n"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = used(); store = ReplyStore(Path(sys.argv[1]))\n"
        "print(store.get(sys.argv[2]).text, sum(store.damaged.values()), (used() - before) // 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), key_of(1)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    *words, megabytes = done.stdout.split()
    assert words == ["after", "it", "1"] and int(megabytes) < 200


def test_files_that_are_no_segments_are_left_alone(tmp_path: Path) -> None:
    line = encoded(StoredReply(key_of(1), "run", reply_of("elsewhere")))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(line)
    folder = tmp_path / "cache"
    folder.mkdir()
    name = f"replies-{1:020d}-{'0' * 16}.jsonl"
    (folder / name).symlink_to(elsewhere)
    (folder / name.replace("1-", "2-")).mkdir()
    os.mkfifo(folder / name.replace("1-", "3-"))
    for other in ("replies-..jsonl", "replies.jsonl", f"{name}.bak", ".hidden", "replies-\n.jsonl"):
        (folder / other).write_bytes(line)
    before = sorted(path.name for path in folder.iterdir())
    store = ReplyStore(folder)
    assert len(store) == 0 and store.damaged == {}
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    "key", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "../" * 21 + "a", "a" * 63 + "\n", "٣" * 64]
)
def test_another_key_is_refused(tmp_path: Path, key: str) -> None:
    store = ReplyStore(tmp_path)
    with pytest.raises(ValueError, match="64 digits"):
        store.get(key)
    with pytest.raises(ValueError, match="64 digits"):
        store.put(key, reply_of("text"), "run")
    assert segments(tmp_path) == []


@pytest.mark.parametrize(
    ("reply", "run", "word"),
    [
        (reply_of("x" * (MAX_CHARACTERS + 1)), "run", "text"),
        (reply_of("x"), "", "run"),
        (reply_of("x"), "r" * 201, "run"),
        (reply_of("x", -1.0), "run", "cost_usd"),
        (reply_of("x", float("nan")), "run", "cost_usd"),
        (replace(reply_of("x"), finish_reason="f" * 300), "run", "finish_reason"),
        (replace(reply_of("x"), usage=Usage(prompt_tokens=-1)), "run", "tokens"),
    ],
)
def test_a_reply_that_the_store_does_not_hold_is_refused(tmp_path: Path, reply: Reply, run: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        ReplyStore(tmp_path).put(key_of(1), reply, run)
    assert segments(tmp_path) == []


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Every write beyond `size` bytes of a file fails, after it has written a part, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_loses_nothing_and_says_what_to_do(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path)
    store.put(key_of(1), reply_of("a" * 600, 0.5), "run")
    with files_of_at_most(1500):
        for _ in range(3):
            with pytest.raises(RunError, match=r"cannot be written .*free space there, or set cache\.root") as told:
                store.put_many([StoredReply(key_of(n), "run", reply_of("b" * 400, 0.5)) for n in (2, 3, 4)])
    assert isinstance(told.value.__cause__, OSError) and told.value.__cause__.errno == errno.EFBIG
    assert str(tmp_path) in str(told.value)
    assert store.get(key_of(2)) is None and store.spent("run") == 0.5 and len(segments(tmp_path)) == 1
    store.put(key_of(2), reply_of("c", 0.25), "run")
    for one in (store, ReplyStore(tmp_path)):
        assert one.get(key_of(1)) == reply_of("a" * 600, 0.5) and one.get(key_of(2)) == reply_of("c", 0.25)
        assert one.spent("run") == 0.75 and one.get(key_of(3)) is None and one.damaged == {}


@contextmanager
def as_nobody() -> Iterator[int]:
    """As a user whom file modes bind."""
    if os.geteuid() != 0:
        yield os.geteuid()
        return
    os.seteuid(65534)
    try:
        yield 65534
    finally:
        os.seteuid(0)


def test_a_folder_that_cannot_be_written_still_gives_its_replies() -> None:
    # Unlike pytest's own folder, one that others may pass through.
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        folder = Path(name) / "cache"
        ReplyStore(folder).put(key_of(1), reply_of("kept"), "run")
        with as_nobody() as user:
            pass
        for path in (*segments(folder), folder):
            os.chown(path, user, -1)
        folder.chmod(0o500)
        try:
            with as_nobody():
                store = ReplyStore(folder)
                assert store.get(key_of(1)) == reply_of("kept")
                with pytest.raises(RunError, match=r"cannot be written .*writable for its owner, or set cache\.root"):
                    store.put(key_of(2), reply_of("new"), "run")
                folder.chmod(0)
                with pytest.raises(RunError, match=r"cannot be read .*readable"):
                    store.get(key_of(1))
                with pytest.raises(RunError, match=r"cannot be read .*readable"):
                    ReplyStore(folder)
        finally:
            folder.chmod(0o700)


def test_a_file_in_the_folders_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("mine", encoding="utf-8")
    with pytest.raises(RunError, match="a file of that name is in the way"):
        ReplyStore(tmp_path / "cache")
    assert (tmp_path / "cache").read_text(encoding="utf-8") == "mine"
