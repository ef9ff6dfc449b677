"""The page that raters answer on: closed to the network, escaped, and its file read as the sheet is."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rlaif.metrics.review.answers import read_answers
from rlaif.metrics.review.key import KeyItem, Kind, ReviewKey, ShownItem, text_checksum
from rlaif.metrics.review.page import page_of

HOSTILE = '</script><script>alert("x")</script> <img src=https://example.org/a.png onerror=1> & \u2028 "quoted"'
NODE = shutil.which("node")


def items(kind: Kind) -> list[ShownItem]:
    texts = (f"=A1, {HOSTILE}", "Clear lungs.\nNo nodule.")[: 2 if kind == "choices" else 1]
    reference = f"Reference: {HOSTILE}"
    key = KeyItem(
        item_id="item-1",
        rater="rater-1",
        case_id="c",
        patient_id="p",
        systems=("round-000", "base")[: len(texts)],
        checksums=tuple(text_checksum(text) for text in (reference, *texts)),
    )
    return [ShownItem(key, reference, texts)]


class Parsed(HTMLParser):
    """The elements of a page, and the text within scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.sources: list[tuple[dict[str, str | None], str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.cdata_elem:
            self.sources.append((self.elements[-1][1], data))


def scripts(page: Parsed) -> tuple[str, str]:
    """The page's data and its program."""
    data = "".join(text for attrs, text in page.sources if attrs.get("type") == "application/json")
    return data, "".join(text for attrs, text in page.sources if not attrs and "use strict" in text)


@pytest.mark.parametrize("kind", ["choices", "scores"])
def test_the_page_reaches_no_network_and_runs_its_own_program_only(kind: Kind) -> None:
    page = Parsed(page_of(kind, "rater-1", items(kind)))
    policy = next(str(attrs["content"]) for _, attrs in page.elements if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    _, program = scripts(page)
    digest = base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    (style,) = [text for attrs, text in page.sources if text.lstrip().startswith(":root")]
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in policy
    assert [tag for tag, _ in page.elements if tag in ("img", "link", "iframe", "form")] == []
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert not any(
        name in ("src", "href", "style") or name.startswith("on") for _, attrs in page.elements for name in attrs
    )


def test_texts_arrive_as_they_are_and_systems_do_not() -> None:
    data, _ = scripts(Parsed(page_of("choices", "rater-1", items("choices"))))
    sheet = json.loads(data)
    assert sheet["items"][0]["texts"] == [f"=A1, {HOSTILE}", "Clear lungs.\nNo nodule."]
    assert not re.search(r"\bbase\b|round-\d", data)


def test_a_page_with_other_texts_keeps_its_answers_apart() -> None:
    first, second = items("choices")[0], items("choices")[0]
    second = ShownItem(second.key, "Another reference.", second.texts)
    keeps = [json.loads(scripts(Parsed(page_of("choices", "rater-1", [one])))[0])["keep"] for one in (first, second)]
    assert len({*keeps}) == 2


@pytest.mark.skipif(NODE is None, reason="there is no node")
def test_the_downloaded_file_is_a_sheet(tmp_path: Path) -> None:
    shown = items("choices")
    data, program = scripts(Parsed(page_of("choices", "rater-1", shown)))
    kept = '{"item-1": {"answer": "tie", "comment": "-1, \\"odd\\"\\n"}, "item-9": {"answer": "a"}, "x": 3}'
    code = f"const sheet = {data};\nprocess.stdout.write('\\ufeff' + csvOf(sheet, keptOf({json.dumps(kept)}, sheet)));"
    done = subprocess.run(
        [str(NODE), "-"], input=program + code, capture_output=True, encoding="utf-8", timeout=60, check=True
    )
    file = tmp_path / "choices-rater-1.csv"
    file.write_text(done.stdout, encoding="utf-8", newline="")
    key = ReviewKey(
        name="choices",
        kind="choices",
        seed=0,
        systems=("base", "round-000"),
        cases=1,
        repeats=0,
        raters=1,
        same_text=0,
        items=tuple(one.key for one in shown),
    )
    (own,) = read_answers([file], key)
    assert own.choices == {"item-1": "tie"}
    assert own.comments == {"item-1": '-1, "odd"'}
    assert own.missing == []
