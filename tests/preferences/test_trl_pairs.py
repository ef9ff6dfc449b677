"""A round's pairs and TRL's preference data sets are the same: either reads the other's."""

from pathlib import Path

import pytest
from datasets import Dataset
from trl.data_utils import extract_prompt, is_conversational

from rlaif.ledger import RunFolder
from rlaif.preferences.own_rows import read_pairs
from rlaif.records import Pair, Study

STUDIES = [Study(f"s{number}", f"p{number}", "x", "align") for number in range(3)]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """The pairs table of a run, one of whose chosen reports is the reference."""
    scores = [(0.75, 0.5, 0.25), (None, 0.5, None), (1.0, 0.0, 1.0)]
    pairs = [
        Pair(
            f"id{number}", f"s{number}", 0, "strategy2", "<image>\nDescribe.", f"Clear {number}.", "Nodule.",
            None if chosen is None else "x", "y", chosen, rejected, margin, "rules",
        )
        for number, (chosen, rejected, margin) in enumerate(scores)
    ]  # fmt: skip
    with RunFolder.open(tmp_path, "run", {}) as run:
        run.append("round-000/pairs", Pair, pairs[:2])
        run.append("round-000/pairs", Pair, pairs[2:])
        run.compact("round-000/pairs", Pair, "pair_id")
        return run.path / "round-000" / "pairs"


def test_trl_reads_a_rounds_pairs_and_we_read_what_datasets_saves_of_them(table: Path, tmp_path: Path) -> None:
    read = Dataset.from_parquet(str(table / "part-000.parquet"), cache_dir=str(tmp_path / "cache"))
    assert isinstance(read, Dataset) and {"prompt", "chosen", "rejected"} <= set(read.column_names)
    assert not is_conversational(read[0]) and read[0]["chosen"] == "Clear 0."
    read.save_to_disk(tmp_path / "saved")

    found = [read_pairs(path, STUDIES, own_prompts=False) for path in (table, tmp_path / "saved")]
    assert found[0].pairs == found[1].pairs and found[0].left_out == []
    assert [(one.study_id, one.chosen, one.chosen_score, one.rejected_score) for one in found[0].pairs] == [
        ("s0", "Clear 0.", 0.75, 0.5), ("s1", "Clear 1.", None, 0.5), ("s2", "Clear 2.", 1.0, 0.0),
    ]  # fmt: skip


def test_conversations_are_taken_apart_as_trl_does(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "Findings: a cyst of the left kidney."}]
    row = {
        "chosen": [*asked, {"role": "assistant", "content": "Renal cyst."}],
        "rejected": [*asked, {"role": "assistant", "content": "Normal."}],
    }
    explicit = extract_prompt(row)
    for number, one in enumerate((row, explicit)):
        assert is_conversational(one)
        Dataset.from_list([one]).save_to_disk(tmp_path / str(number))
        (pair,) = read_pairs(tmp_path / str(number), STUDIES, own_prompts=True).pairs
        assert pair.prompt == explicit["prompt"][0]["content"]
        assert (pair.chosen, pair.rejected) == (explicit["chosen"][0]["content"], explicit["rejected"][0]["content"])
