"""Files of radiologists' ratings: what is read, and what each hostile one is told."""

from pathlib import Path

import pytest

from rlaif.metrics import csv_rows
from rlaif.metrics import ratings as module
from rlaif.metrics.ratings import Ratings, RatingsError, read_ratings

SCORES = "case_id,reference,candidate,score"
CHOICES = "case_id,reference,candidate_a,candidate_b,choice"


def read(folder: Path, text: str | bytes) -> Ratings:
    file = folder / "ratings.csv"
    file.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    return read_ratings(file)


def texts(ratings: Ratings) -> dict[str, str]:
    return {item: one.candidate for item, one in ratings.items.items()}


def test_scores_of_two_raters(tmp_path: Path) -> None:
    rows = '"1","Nodule, right.","Line one.\nLine two.",4,dr a\n\n1,"Nodule, right.",Clear.,2.5, dr b \n'
    ratings = read(tmp_path, f'{SCORES},rater\n{rows}1,"Nodule, right.",Clear.,-1,dr a\n')
    assert ratings.kind == "scores" and ratings.choices == {}
    by_text = {
        rater: {texts(ratings)[item]: score for item, score in own.items()} for rater, own in ratings.scores.items()
    }
    assert by_text == {"dr a": {"Line one.\nLine two.": 4.0, "Clear.": -1.0}, "dr b": {"Clear.": 2.5}}
    assert {(one.case_id, one.reference) for one in ratings.items.values()} == {("1", "Nodule, right.")}


def test_choices_of_raters_who_saw_a_pair_in_either_order(tmp_path: Path) -> None:
    rows = "c1,Ref.,X.,Y.,A,one\nc1,Ref.,Y.,X.,a,two\nc1,Ref.,Y.,X.,tie,three\nc2,Ref.,X.,Y.,b,one\n"
    ratings = read(tmp_path, f"\ufeff{CHOICES},rater\r\n".encode() + rows.encode())
    told = {
        rater: {(texts(ratings)[a], texts(ratings)[b], ratings.items[a].case_id): one for (a, b), one in own.items()}
        for rater, own in ratings.choices.items()
    }
    assert told == {
        "one": {("X.", "Y.", "c1"): "a", ("X.", "Y.", "c2"): "b"},
        "two": {("X.", "Y.", "c1"): "b"},
        "three": {("X.", "Y.", "c1"): "tie"},
    }
    # The same text in another case is another report.
    assert len(ratings.items) == 4


def test_a_report_of_two_pairs_stands_in_each_by_itself(tmp_path: Path) -> None:
    ratings = read(tmp_path, f"{CHOICES}\nc,Ref.,X.,Y.,a\nc,Ref.,Z.,X.,b\n")
    assert [one.candidate for one in ratings.items.values()] == ["X.", "Y.", "Z.", "X."]
    assert len({item for pair in ratings.choices["rater"] for item in pair}) == 4


def test_reports_may_stand_without_ratings(tmp_path: Path) -> None:
    ratings = read(tmp_path, "case_id,reference,candidate\nc,Ref.,X.\nc,Ref.,X.\nd,Ref.,X.\n")
    assert (ratings.kind, ratings.scores, ratings.choices) == ("none", {}, {})
    assert [(one.case_id, one.candidate) for one in ratings.items.values()] == [("c", "X."), ("d", "X.")]


def test_the_columns_may_stand_in_any_order_and_item_ids_do_not_depend_on_it(tmp_path: Path) -> None:
    first = read(tmp_path, f"{SCORES}\nc,Ref.,Text.,3\n")
    second = read(tmp_path, "score,candidate,case_id,reference\n3.0,Text., c ,Ref.")
    assert first == second and first.scores == {"rater": dict.fromkeys(first.items, 3.0)}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1: the header lacks 'case_id', lacks 'reference'"),
        (f"{SCORES}\n", "no rows below the header"),
        (f"{SCORES.replace(',', ';')}\nc;r;t;3\n", "line 1: the columns are parted by semicolons; save it with commas"),
        ("sep=;\ncase_id;reference\n", "line 1: the columns are parted by semicolons"),
        (f"{SCORES}\nc,r,t,3\n".replace(",", "\t"), "parted by tabs"),
        ("case_id,reference,candidate,Score\n", r"lacks 'score', has 'Score' \(meant: 'score'\?\)"),
        ("case_id,reference,candidate\nc,r,t\nc,other,u\n", "line 3, column reference: case 'c' has another reference"),
        ("case_id,reference,candidate,rater\nc,r,t,x\n", "lacks 'score'; it must have .* a file without ratings has"),
        (f"{SCORES},reader\nc,r,t,3,x\n", r"has 'reader' \(meant: 'rater'\?\)"),
        (f"{SCORES},choice\n", "lacks 'candidate_a', lacks 'candidate_b', has 'candidate'"),
        (f"{SCORES},score\n", "column 'score' stands there twice"),
        (f"{SCORES}\nc,r,t,\n", "line 2, column score: the cell is empty"),
        (f"{SCORES}\nc,r,  ,3\n", "line 2, column candidate: the cell is empty"),
        (f"{SCORES},rater\nc,r,t,3,\n", "line 2, column rater: the cell is empty"),
        (f"{SCORES}\nc,r,t\n", "line 2: 3 cells under a header of 4"),
        (f"{SCORES}\nc,r,t,3,\n", "line 2: 5 cells under a header of 4"),
        (f"{SCORES},\nc,r,t,3,\n", "has ''"),
        (f"{SCORES}\nc,r,t,3\n\nd,Nodule, right.,t,3\n", "line 4: 5 cells under a header of 4; text with commas needs"),
        (f"{SCORES}\nc,r,t,good\n", "line 2, column score: 'good' is no number"),
        (f"{SCORES}\nc,r,t,nan\n", "'nan' is no number"),
        (f"{SCORES}\nc,r,t,1e400\n", "'1e400' is no number"),
        (f'{SCORES}\nc,r,t,"3,5"\n', "'3,5' is no number such as 4 or 3.5"),
        (f"{SCORES}\nc,r,t,\u0664\n", "is no number"),
        (f"{SCORES}\nc,r,t,4/5\n", "'4/5' is no number"),
        (f"{CHOICES}\nc,r,x,y,1\n", "line 2, column choice: '1' is none of a, b and tie"),
        (f"{CHOICES}\nc,r,x, x ,a\n", "candidate_a and candidate_b are the same text"),
        (f"{SCORES}\nc,r,t,3\nc,other,u,3\n", "line 3, column reference: case 'c' has another reference above"),
        (f"{SCORES}\nc,r,t,3\nc,r,t,4\n", "line 3: rater rated the same above; .* a column named rater"),
        (f"{SCORES},rater\nc,r,t,3,x\nc,r,t,3,x\n", "line 3: x rated the same above"),
        (f"{CHOICES}\nc,r,x,y,a\nc,r,y,x,b\n", "line 3: rater rated the same above"),
        (f'{SCORES}\nc,r,t,3\nc,r,"t,4\n', "line 3: not valid CSV .* is a quote left open"),
        (f'{SCORES}\nc,"a\nb","x" y,3\n', "line 2: not valid CSV"),
        (f"{SCORES}\nc,r,{'x' * 140_000},3\n", r"line 2: not valid CSV \(field larger"),
        (f"{SCORES}\nc,r,{'x' * 100_001},3\n", "column candidate: 100001 characters, and at most 100000"),
        (f"{SCORES}\n{'c' * 201},r,t,3\n", "column case_id: 201 characters, and at most 200"),
        (f"{SCORES}\nc\x1b[31m,r,t,3\n", "column case_id: control characters"),
        (f"{SCORES}\nc,r,t\0,3\n", "column candidate: control characters|not valid CSV"),
        (f"{SCORES}\nc,r,t\u00e9,3\n".encode("latin-1"), "not UTF-8 text .* save it as CSV in UTF-8"),
        (f"{SCORES}\nc,r,t,3\n".encode("utf-16"), "not UTF-8 text"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_told_where_and_why(tmp_path: Path, text: str | bytes, told: str) -> None:
    with pytest.raises(RatingsError, match=told) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"ratings {tmp_path / 'ratings.csv'}") and len(str(caught.value)) < 700


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 2)
    with pytest.raises(RatingsError, match="line 4: more than 2 rows"):
        read(tmp_path, f"{SCORES}\na,r,t,1\nb,r,t,1\nc,r,t,1\n")
    monkeypatch.setattr(csv_rows, "MAX_BYTES", 10)
    with pytest.raises(RatingsError, match="larger than 10 bytes"):
        read(tmp_path, f"{SCORES}\n")


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.csv"):
        with pytest.raises(RatingsError, match="there is no such file"):
            read_ratings(path)
