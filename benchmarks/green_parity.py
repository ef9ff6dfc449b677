"""GREEN's replies as its package reads them and as the strict reading does: prints a table, then one line of JSON.

python benchmarks/green_parity.py

The replies are those of tests/judges/green_transcripts.yaml. `agree` is the share of replies to which both give the
same score; `told_from_zero` the share of malformed ones, all scored by the package, to which the strict reading gives
none.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from rlaif.judges.green import official_green
from rlaif.judges.green_reply import MalformedReply, read_reply

TRANSCRIPTS = Path(__file__).parents[1] / "tests" / "judges" / "green_transcripts.yaml"


@dataclass(frozen=True)
class Transcript:
    """A reply with the scores that it is known to have; `strict` is None for a malformed one."""

    kind: str
    official: float
    strict: float | None
    text: str
    why: str = ""


def transcripts() -> list[Transcript]:
    """The replies of the table."""
    return [Transcript(**one) for one in yaml.safe_load(TRANSCRIPTS.read_text(encoding="utf-8"))]


def strict_score(text: str) -> float | None:
    """The strict score; None for a malformed reply."""
    try:
        return read_reply(text).score
    except MalformedReply:
        return None


def main() -> None:
    official = official_green()
    same = malformed = untold = 0
    print("| reply | official | strict | why they differ |")
    print("| --- | --- | --- | --- |")
    for one in transcripts():
        theirs, ours = official.score(one.text), strict_score(one.text)
        same += theirs == ours
        malformed += one.strict is None
        untold += one.strict is None and ours is not None
        print(f"| {one.kind} | {theirs:.2f} | {'malformed' if ours is None else f'{ours:.2f}'} | {one.why} |")
    ratios = {"agree": same / len(transcripts()), "told_from_zero": 1 - untold / malformed}
    print(json.dumps({name: round(ratio, 3) for name, ratio in ratios.items()}))


if __name__ == "__main__":
    main()
