"""A team's own candidates and pairs: every form of a file, every bad row with its reason, and no held-out study."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlaif.preferences.own_file import OwnFileError, open_own
from rlaif.preferences.own_rows import OwnRows, read_candidates, read_pairs
from rlaif.records import Split, Study

CLEAR = "The lungs are clear. There is no pleural effusion on either side."
NODULE = "There is a 12 mm nodule in the right upper lobe, and no effusion."


def study(study_id: str, split: Split, findings: str = CLEAR) -> Study:
    return Study(study_id, f"p-{study_id}", "x", split, None, findings, "Normal.")


STUDIES = [study("a", "align", NODULE), study("b", "align"), study("h", "heldout"), study("s", "sft", "Old fracture.")]


def as_jsonl(rows: list[dict[str, Any]], folder: Path) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n\n" for row in rows), encoding="utf-8")
    return path


def as_parquet(rows: list[dict[str, Any]], folder: Path) -> Path:
    path = folder / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def as_folder(rows: list[dict[str, Any]], folder: Path) -> Path:
    path = folder / "rows"
    path.mkdir()
    pq.write_table(pa.Table.from_pylist(rows[:1]), path / "0.parquet")
    pq.write_table(pa.Table.from_pylist(rows[1:]), path / "1.parquet")
    return path


def as_dataset(rows: list[dict[str, Any]], folder: Path) -> Path:
    from datasets import Dataset

    path = folder / "rows"
    Dataset.from_list(rows).save_to_disk(path, num_shards=2)
    return path


Writer = Callable[[list[dict[str, Any]], Path], Path]
every_form = pytest.mark.parametrize("write", [as_jsonl, as_parquet, as_folder, as_dataset])


def pairs_of(rows: list[dict[str, Any]], folder: Path, *, own_prompts: bool = False) -> OwnRows:
    return read_pairs(as_jsonl(rows, folder), STUDIES, own_prompts=own_prompts)


@every_form
def test_candidates_with_scores_of_several_readers(write: Writer, tmp_path: Path) -> None:
    scale = {"scale_low": 1, "scale_high": 5}
    rows = [
        {"study_id": "b", "text": " Clear. ", "score": 4, "judge": "reader-1", "explanation": "good", **scale},
        {"study_id": "a", "text": "Clear.", "score": 1, "judge": "reader-1", "explanation": None, **scale},
        {"study_id": "b", "text": "Clear.", "score": 5, "judge": "reader-2", "explanation": None, **scale},
    ]
    found = read_candidates(write(rows, tmp_path), STUDIES, None)
    assert [(one.row, one.study_id, one.text) for one in found.candidates] == [(1, "b", "Clear."), (2, "a", "Clear.")]
    assert {name: told.score for name, told in found.candidates[0].scores.items()} == {"reader-1": 4, "reader-2": 5}
    assert found.candidates[0].scores["reader-1"].explanation == "good"
    assert found.scales == {"reader-1": (1, 5), "reader-2": (1, 5)} and (found.rows, found.left_out) == (3, [])


@every_form
def test_pairs_as_texts_and_as_conversations(write: Writer, tmp_path: Path) -> None:
    def said(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": "What is there?"}, {"role": "assistant", "content": text}]

    texts = [{"case_id": one, "chosen": "Clear.", "rejected": "Nodule.", "extra": 1} for one in "ab"]
    talks = [{"study_id": one, "chosen": said("Clear."), "rejected": said("Nodule.")} for one in "ab"]
    for number, rows in enumerate((texts, talks)):
        folder = tmp_path / str(number)
        folder.mkdir()
        found = read_pairs(write(rows, folder), STUDIES, own_prompts=False)
        assert [(one.study_id, one.chosen, one.rejected, one.judge) for one in found.pairs] == [
            (study_id, "Clear.", "Nodule.", "given") for study_id in "ab"
        ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"text": "  "}, "empty"),
        ({"text": None}, "form"),
        ({"text": 3}, "form"),
        ({"text": "a\0b"}, "characters"),
        ({"text": "\ud800"}, "characters"),
        ({"text": "word " * 30_000}, "characters"),
        ({"study_id": "\ud800"}, "unknown_study"),
        ({"study_id": "nowhere"}, "unknown_study"),
        ({"study_id": None}, "study"),
        ({"study_id": True}, "study"),
        ({"study_id": "s"}, "split"),
        ({"score": None}, "score"),
        ({"score": float("nan")}, "score"),
        ({"score": 10**400}, "score"),
        ({"score": True}, "score"),
        ({"score": "4"}, "score"),
        ({"score": 5.1}, "off_scale"),
        ({"scale_high": 7}, "scale"),
        ({"scale_low": 5}, "scale"),
        ({"scale_low": None}, "score"),
        ({"judge": "reader one"}, "judge"),
        ({"text": "Clear."}, "two_scores"),
        ({"text": "Clear.", "score": 5}, "repeated"),
    ],
)
def test_a_bad_candidate_is_left_out_with_its_reason(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    good = {"study_id": "a", "text": "Clear.", "score": 5, "scale_low": 1, "scale_high": 5}
    found = read_candidates(as_jsonl([good, {**good, "text": "Else.", "score": 3, **changes}], tmp_path), STUDIES, None)
    assert len(found.candidates) == 1 and found.reasons == {reason: 1} and found.left_out[0].row == 2
    assert (found.bad == []) == (reason == "repeated")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"study_id": "a", "chosen": "Clear.", "rejected": " Clear. "}, "same_text"),
        ({"study_id": "a", "chosen": "Clear.", "rejected": ""}, "empty"),
        ({"study_id": "a", "chosen": "Clear."}, "form"),
        ({"study_id": "a", "chosen": "Nodule.", "rejected": "Clear."}, "contradiction"),
        ({"study_id": "a", "chosen": "Clear.", "rejected": "Nodule."}, "repeated"),
        ({"study_id": "b", "chosen": "x", "rejected": "y", "chosen_score": 1, "rejected_score": 1}, "score"),
        ({"study_id": "b", "chosen": "x", "rejected": "y", "chosen_score": "1"}, "score"),
        ({"study_id": "b", "chosen": [{"role": "user", "content": "x"}], "rejected": "y"}, "form"),
        ({"study_id": "b", "chosen": [], "rejected": "y"}, "form"),
        ({"study_id": "b", "chosen": [{"role": "assistant"}], "rejected": "y"}, "form"),
        ({"study_id": "b", "chosen": ["x"], "rejected": "y"}, "form"),
    ],
)
def test_a_bad_pair_is_left_out_with_its_reason(row: dict[str, Any], reason: str, tmp_path: Path) -> None:
    good = {"study_id": "a", "chosen": "Clear.", "rejected": "Nodule.", "chosen_score": 2, "rejected_score": 1}
    found = pairs_of([good, row], tmp_path)
    assert len(found.pairs) == 1 and found.reasons == {reason: 1}


def test_lines_that_are_no_rows_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = b'{"study_id": "a", "text": "Clear."}\n'
    path.write_bytes(b"\xef\xbb\xbf" + good + b"{\n[1]\n\xff\xfe\n" + b"[" * 100_000 + b"\n")
    found = read_candidates(path, STUDIES, None)
    assert len(found.candidates) == 1 and found.rows == 5
    assert found.reasons == {"line": 4} and "no JSON" in found.told()


def test_rows_of_held_out_studies_stop_the_run_whatever_else_is_wrong_with_them(tmp_path: Path) -> None:
    rows = [{"study_id": "a", "text": "Clear."}, {"study_id": "h", "text": ""}, {"study_id": "h", "text": "Clear."}]
    with pytest.raises(OwnFileError, match=r"2 rows \(such as 2, 3\) are of held-out studies \(h\).*spoil"):
        read_candidates(as_jsonl(rows, tmp_path), STUDIES, None)
    with pytest.raises(OwnFileError, match=r"1 rows .* held-out"):
        pairs_of([{"study_id": "h", "chosen": "x", "rejected": "x"}], tmp_path)


def test_text_only_pairs_bring_their_prompts_explicit_or_implicit(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": [{"type": "text", "text": "Findings: Cyst."}]}]

    def answer(text: str) -> list[dict[str, Any]]:
        return [{"role": "assistant", "content": text}]

    rows: list[dict[str, Any]] = [
        {"prompt": "Findings: Cyst.", "chosen": "x", "rejected": "y"},
        {"prompt": asked, "chosen": answer("x1"), "rejected": answer("y")},
        {"chosen": [*asked, *answer("x2")], "rejected": [*asked, *answer("y")]},
        # These findings are those of a study of the run, so that the pair is of its case.
        {"prompt": f"Findings: {NODULE}\nImpression?", "chosen": "x3", "rejected": "y"},
        {"chosen": "x4", "rejected": "y"},
        {"chosen": [*asked, *answer("x5")], "rejected": answer("y")},
        {"prompt": [{"role": "system", "content": "Be brief."}, *asked], "chosen": "x6", "rejected": "y"},
        {"prompt": "Findings: Old fracture.", "chosen": "x7", "rejected": "y"},
    ]
    found = pairs_of(rows, tmp_path, own_prompts=True)
    assert [(one.study_id, one.prompt, one.chosen) for one in found.pairs] == [
        (None, "Findings: Cyst.", "x"),
        (None, "Findings: Cyst.", "x1"),
        (None, "Findings: Cyst.", "x2"),
        ("a", None, "x3"),
    ]
    assert found.reasons == {"no_prompt": 1, "form": 2, "split": 1}
    # Study b has the same findings, and is one to align on.
    same = pairs_of([{"prompt": f"FINDINGS:  {CLEAR}", "chosen": "x", "rejected": "y"}], tmp_path, own_prompts=True)
    assert same.pairs[0].study_id == "b"
    hidden = [study("h", "heldout"), study("a", "align", NODULE)]
    path = as_jsonl([{"prompt": f"Sum up. {CLEAR} Thanks.", "chosen": "x", "rejected": "y"}], tmp_path)
    with pytest.raises(OwnFileError, match=r"held-out studies \(h\)"):
        read_pairs(path, hidden, own_prompts=True)
    with pytest.raises(OwnFileError, match="has no column 'study_id' or 'case_id', by which the policy finds"):
        read_pairs(path, hidden, own_prompts=False)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"studyid": "a", "text": "x"}, "has no column 'study_id' or 'case_id'; is 'studyid' meant? Then rename it"),
        ({"study_id": "a", "report": "x"}, "has no column 'text'; it has study_id, report"),
        ({"study_id": "a", "text": "x", "score": 1}, "no column 'scale_low', and start.scale=[LOW,HIGH] is not set"),
    ],
)
def test_a_missing_column_is_named_with_the_nearest(row: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(OwnFileError) as caught:
        read_candidates(as_jsonl([row], tmp_path), STUDIES, None)
    assert words in str(caught.value) and str(tmp_path / "rows.jsonl") in str(caught.value)


def test_a_set_scale_stands_for_the_columns(tmp_path: Path) -> None:
    rows = [{"study_id": "a", "text": text, "score": score} for text, score in (("x", 0), ("y", 10), ("z", 11))]
    found = read_candidates(as_jsonl(rows, tmp_path), STUDIES, (0.0, 10.0))
    assert found.scales == {"given": (0.0, 10.0)} and found.reasons == {"off_scale": 1}


def test_files_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    (tmp_path / "empty").mkdir()
    (tmp_path / "rows.csv").write_text("study_id,text\n", encoding="utf-8")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    (tmp_path / "none.jsonl").write_bytes(b"\n")
    DatasetDict(train=Dataset.from_list([{"x": 1}])).save_to_disk(tmp_path / "splits")
    Dataset.from_list([{"x": 1}]).save_to_disk(tmp_path / "climbing")
    state = {"_data_files": [{"filename": "../splits/train/data-00000-of-00001.arrow"}]}
    (tmp_path / "climbing" / "state.json").write_text(json.dumps(state), encoding="utf-8")
    for name, words in {
        "nowhere": "does not exist",
        "empty": "holds no .parquet file",
        "rows.csv": "give a Parquet file, a JSONL file",
        "torn.parquet": "cannot be read",
        "none.jsonl": "has no rows",
        "splits": f"give one of them, {tmp_path / 'splits' / 'train'}",
        "climbing": "does not list the data set's .arrow files",
    }.items():
        with pytest.raises(OwnFileError) as caught:
            open_own(tmp_path / name)
        assert words in str(caught.value)
    with pytest.raises(OwnFileError, match=r"has no row that can be used: 1 unknown_study \(row 1: the data has no"):
        read_candidates(as_jsonl([{"study_id": "x", "text": "y"}], tmp_path), STUDIES, None)
