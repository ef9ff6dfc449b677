"""Processes killed with SIGKILL while they write the judge cache: what was acknowledged stays, nothing is torn."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from rlaif.judges.asking import Reply
from rlaif.judges.reply_store import ReplyStore
from rlaif.judges.verdict import Usage

KILLS = 20
# Imports once, then forks a writer for each line that it reads, which writes until it is killed. The files here are
# read back by the test, which knows from a reply's number what it must hold.
NURSERY = r"""
import os, random, sys
from hashlib import sha256
from pathlib import Path
from rlaif.judges.asking import Reply
from rlaif.judges.reply_store import ReplyStore
from rlaif.judges.stored_reply import StoredReply
from rlaif.judges.verdict import Usage

root, acknowledged = Path(sys.argv[1]), sys.argv[2]

def stored(number):
    text = f"Score: {number}\n\0é" * (1 + number % 97 * (400 if number % 50 == 0 else 1))
    return StoredReply(sha256(str(number).encode()).hexdigest(), "run", Reply(text, usage=Usage(7, 3, 0.001, 0.5)))

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        number = int(line)
        file = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        store = ReplyStore(root, segment_bytes=300_000)
        while True:
            count = random.randint(1, 8)
            store.put_many([stored(one) for one in range(number, number + count)])
            os.write(file, "".join(f"{one}\n" for one in range(number, number + count)).encode())
            number += count
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def expected(number: int) -> Reply:
    text = f"Score: {number}\n\0é" * (1 + number % 97 * (400 if number % 50 == 0 else 1))
    return Reply(text, usage=Usage(7, 3, 0.001, 0.5))


def key_of(number: int) -> str:
    return sha256(str(number).encode()).hexdigest()


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", NURSERY, str(tmp_path / "cache"), str(tmp_path / "acknowledged")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process
    assert process.stdin is not None
    process.stdin.close()
    process.wait(timeout=30)


def test_twenty_kills_lose_no_acknowledged_reply_and_tear_none(
    tmp_path: Path, nursery: "subprocess.Popen[str]"
) -> None:
    assert nursery.stdin is not None and nursery.stdout is not None
    choose = random.Random(8)
    for attempt in range(KILLS):
        first = attempt * 1_000_000
        nursery.stdin.write(f"{first}\n")
        nursery.stdin.flush()
        child = int(nursery.stdout.readline())
        time.sleep(choose.uniform(0.005, 0.12))
        os.kill(child, signal.SIGKILL)
        assert int(nursery.stdout.readline()) == -signal.SIGKILL

        store = ReplyStore(tmp_path / "cache")
        numbers = read_numbers(tmp_path / "acknowledged")
        assert store.damaged == {}
        assert store.get_many([key_of(number) for number in numbers]) == [expected(number) for number in numbers]
        # Of what was under way at a kill there may be whole replies, at most those of one write.
        unacknowledged = len(store) - len(numbers)
        assert 0 <= unacknowledged <= 8 * (attempt + 1)
        assert store.spent("run") == len(store) / 1000
    assert len(numbers) > KILLS and Counter(numbers).most_common(1)[0][1] == 1
    for path in (tmp_path / "cache").iterdir():
        for line in path.read_bytes().split(b"\n")[:-1]:
            json.loads(line)


def read_numbers(path: Path) -> list[int]:
    return [int(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


# Writes 30 replies under keys of its own, waits for a line, looks for the other's, and prints what it sees.
WRITER = r"""
import sys
from hashlib import sha256
from pathlib import Path
from rlaif.judges.asking import Reply
from rlaif.judges.reply_store import ReplyStore
from rlaif.judges.verdict import Usage

store, mine = ReplyStore(Path(sys.argv[1])), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(mine, 60, 2):
    store.put(sha256(str(number).encode()).hexdigest(), Reply(str(number), usage=Usage(cost_usd=0.01)), f"run {mine}")
    if number % 7 == 0:
        store.refresh()
print("written", flush=True)
sys.stdin.readline()
store.refresh()
found = [store.get(sha256(str(number).encode()).hexdigest()) for number in range(60)]
print([one.text for one in found] == [str(number) for number in range(60)], store.spent("run 0"), store.spent("run 1"))
"""


def test_two_processes_write_at_once_and_both_see_both(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [
        subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in (0, 1)
    ]
    for told in ("ready", "written", "True 0.3 0.3"):
        for writer in writers:
            assert writer.stdout is not None and writer.stdout.readline().strip() == told
        for writer in writers:
            assert writer.stdin is not None
            if told != "True 0.3 0.3":
                writer.stdin.write("\n")
                writer.stdin.flush()
    assert [writer.communicate(timeout=30)[0] for writer in writers] == ["", ""]
    assert len(list(tmp_path.iterdir())) == 2
