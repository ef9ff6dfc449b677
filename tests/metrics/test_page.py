"""The report page: a whole run folder goes in, one self-contained HTML file comes out."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rlaif.metrics.page.changes import case_link, extremes
from rlaif.metrics.page.embedding import safe_json
from rlaif.metrics.page.errors import error_tables
from rlaif.metrics.page.sentences import typographic
from rlaif.metrics.page.writing import write_page
from rlaif.records import Pair

MINUS = "\N{MINUS SIGN}"


class Checker(HTMLParser):
    """Asserts that tags nest, and keeps tags, attributes and text."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1] if self.open else 'nothing'}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read_page(path: Path) -> Checker:
    checker = Checker()
    checker.feed(path.read_text(encoding="utf-8"))
    checker.close()
    assert checker.open == []
    return checker


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, run_builder: Callable[..., Path]) -> Path:
    folder = run_builder(tmp_path_factory.mktemp("runs") / "demo")
    write_page(folder)
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> Checker:
    return read_page(run / "report.html")


def test_the_headline_and_the_tables_carry_the_numbers_of_the_summary(page: Checker) -> None:
    assert "the rules score improved, from 0.410 to 0.520: a paired gain of +0.110 (95 % interval +0.080" in page.text
    assert "Encoder features bypassed" in page.text
    assert "200 held-out cases" in page.text and "Not for clinical use" in page.text
    assert "0.410 [0.385, 0.435]" in page.text and f"{MINUS}0.37 [{MINUS}0.49, {MINUS}0.25]" in page.text
    for words in (
        "no reference 2",
        "none below threshold 50",
        "1 min 41 s",
        "version 2",
        f"mean 1.0e{MINUS}06",
        "2,400",
    ):
        assert words in page.text, words
    assert "deadbeef" in page.text and "# <tiny>" in page.text
    assert "2 studies could not be used" in page.text and "the gzip stream is truncated" in page.text


def test_report_text_is_escaped_and_nothing_is_loaded_from_elsewhere(page: Checker) -> None:
    assert '<script>alert("x")</script>' in page.text
    names = {tag for tag, _ in page.tags}
    assert not names & {"link", "iframe", "object", "embed", "base"}
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert [one.get("type") for one in scripts if one.get("id")] == ["application/json", *["text/plain"] * 6]
    assert [one for one in scripts if not one.get("id")] == [{}]
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            assert (attributes.get(name) or "#").startswith(("data:image/png;base64,", "#"))
        assert "url(" not in (attributes.get("style") or "")


def test_the_script_is_allowed_by_its_checksum_alone_and_data_cannot_leave_its_element(run: Path) -> None:
    text = (run / "report.html").read_text(encoding="utf-8")
    script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy and f"script-src 'sha256-{digest}';" in policy.group(1) and "default-src 'none'" in policy.group(1)
    data = re.search(r'<script id="case-data" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert data and not set(data.group(1)) & set("<>&\u2028\u2029")
    cases = {case["id"]: case for case in json.loads(data.group(1))["cases"]}
    assert cases["case-0"]["reports"][0]["text"].startswith('<script>alert("x")</script> <img src=')
    assert safe_json(["</script>\u2028", 1.5]) == '["\\u003c/script\\u003e\\u2028",1.5]'
    with pytest.raises(ValueError, match="JSON"):
        safe_json([float("nan")])


def test_errors_and_extremes_are_told_by_round_and_case(run: Path, page: Checker) -> None:
    table = error_tables(run, {})[0]
    assert table["columns"] == ["Round 0", "Round 1"] and table["judge"] == "Rules"
    rows = {label: [cell["text"] for cell in cells] for label, _, cells in table["rows"]}
    assert rows == {"False finding": ["1.00 [1.00, 1.00]"] * 2, "Matched findings": ["2.00 [2.00, 2.00]"] * 2}
    found = extremes(run, {}, ["h0", "h1"])
    assert found and sum(found["counts"]) == 8
    changes = [float(row["change"].replace(MINUS, "-")) for row in (*found["better"], *reversed(found["worse"]))]
    assert changes == sorted(changes, reverse=True)
    assert {row["case"] for row in (*found["better"], *found["worse"]) if row["link"]} <= {"h0", "h1"}
    assert case_link("a/b c#") == "#case=a%2Fb%20c%23"
    assert "Errors of the candidates" in page.text and "Best gains and worst regressions" in page.text


def test_examples_show_both_reports_the_judge_and_the_slices_and_say_where_a_volume_is_gone(page: Checker) -> None:
    assert "Explained r0-c0-0 <b>plainly</b>." in page.text
    assert "false finding 1 · matched 2" in page.text
    assert "axial, " in page.text and "coronal, " in page.text and "sagittal, " in page.text
    assert "The CT cannot be read any more" in page.text and "works on text alone" in page.text
    assert "Best gain: +" in page.text and "Median: " in page.text and f"Worst: {MINUS}" in page.text
    assert "BLIND TEXT" not in page.text
    assert sum(tag == "details" and "example" in (a.get("class") or "") for tag, a in page.tags) == 8 + 3


def test_the_page_is_small_and_the_same_run_gives_the_same_page(run: Path) -> None:
    first = (run / "report.html").read_text(encoding="utf-8")
    assert len(first) < 2_000_000
    write_page(run)
    second = (run / "report.html").read_text(encoding="utf-8")
    assert first.split("<footer>")[0] == second.split("<footer>")[0]
    assert [path.name for path in run.iterdir() if path.name.startswith("tmp")] == []


def test_unfinished_segments_are_not_read(tmp_path: Path, run_builder: Callable[..., Path]) -> None:
    run = run_builder(tmp_path / "runs" / "demo", rounds=1, cases=5)
    for name in (".part-001.parquet", "tmp-part.parquet"):
        (run / "round-000" / "pairs" / name).write_bytes(b"torn")
    assert "Preference pairs" in read_page(write_page(run)).text


def test_a_torn_table_is_an_error_that_names_it(tmp_path: Path, run_builder: Callable[..., Path]) -> None:
    run = run_builder(tmp_path / "runs" / "demo", rounds=1, cases=5)
    (run / "round-000" / "pairs" / "part-001.parquet").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"round-000/pairs cannot be read"):
        write_page(run)


def test_an_almost_empty_run_says_in_words_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"status": "running", "rounds": []}))
    text = read_page(write_page(tmp_path)).text
    for words in (
        "No alignment round has been evaluated",
        "Nothing was scored on held-out cases",
        "The blind control did not run",
        "No training steps were recorded",
        "No candidates were judged",
        "No alignment round has run",
        "No preference pairs were built",
        "No held-out case has a score",
        "No study was put aside",
        "No provenance was recorded",
    ):
        assert words in text, words


def test_a_run_without_summary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"summary\.json is missing"):
        write_page(tmp_path)
    (tmp_path / "summary.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"holds a list, not an object"):
        write_page(tmp_path)


def test_numbers_get_a_true_minus_sign_and_names_keep_their_hyphens(tmp_path: Path) -> None:
    assert (
        typographic("-0.37 [-0.49, -1.2e-06], (-5)") == f"{MINUS}0.37 [{MINUS}0.49, {MINUS}1.2e{MINUS}06], ({MINUS}5)"
    )
    assert (
        typographic("the gpt-4 score of pairs-2024-05.jsonl, run_-1")
        == "the gpt-4 score of pairs-2024-05.jsonl, run_-1"
    )
    files = ("pairs-2024-05.jsonl", "v1e-5.jsonl", "-7.jsonl")
    told = {"left_out": {"no_case": 1}, "rows": 5}
    rounds = [
        {"round": k, "given": {"file": file, **told}, "logprob_gap": {"max": 2e-5}} for k, file in enumerate(files)
    ]
    rounds[0] |= {"kl": {"sampled": -0.01, "learnt": 0.5}, "kl_weight": 1e-5}
    (tmp_path / "summary.json").write_text(json.dumps({"rounds": rounds}))
    text = read_page(write_page(tmp_path)).text
    assert all(f"{file} 5 rows left out: no case 1" in text for file in files)
    assert f"max 2.0e{MINUS}05" in text and f"sampled {MINUS}0.01 learnt 0.50 weight 1e{MINUS}05" in text


def test_pairs_with_the_reference_report_have_no_score(tmp_path: Path, row_writer: Callable[..., None]) -> None:
    pair = Pair("p", "c", 0, "reference_chosen", "", "Clear lungs.", "Opacity.", None, "x", None, 0.2, None, "rules")
    row_writer(tmp_path / "round-000" / "pairs", Pair, [pair])
    (tmp_path / "summary.json").write_text("{}")
    text = read_page(write_page(tmp_path)).text
    assert "Chosen: the reference report not scored" in text and "no margin" in text
    assert "The study is not in the run's studies table." in text
