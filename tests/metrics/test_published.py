"""The papers' tables: their values, what of them cannot be, and measured rows beside them."""

import csv
import io
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console

from rlaif.config import load_config
from rlaif.datasets.settings import Ct3drrgSettings, CtRateSettings, InspectSettings
from rlaif.launch import CONFIGS, PROJECT, checked_overrides, sized
from rlaif.ledger import RunFolder
from rlaif.metrics.measures.measured import Signature, from_values
from rlaif.metrics.published import PublishedTable, TableError, read_table
from rlaif.metrics.published_checks import faults
from rlaif.metrics.published_means import means_for
from rlaif.metrics.published_rows import (
    MeasuredRow,
    comma_separated,
    markdown,
    measured_data,
    terminal_table,
    write_table,
)

FILES = {path.stem: path for path in sorted((CONFIGS / "table").glob("*.yaml")) if path.stem != "none"}
every = pytest.mark.parametrize("name", FILES)

# Rows that are one and the same policy in two tables of a paper.
SAME = [
    ("ct_gpt_pp_1", "3D-CT-GPT++ (SFT+DPO)", "ct_gpt_pp_2", "3D-CT-GPT++"),
    ("ct_gpt_pp_1", "3D-CT-GPT++ (SFT+DPO)", "ct_gpt_pp_2", "Temperature 0.7"),
    ("ct_gpt_pp_1", "3D-CT-GPT++ (SFT+DPO)", "ct_gpt_pp_2", "3D-CT-GPT++ (1)"),
    ("ct_gpt_pp_1", "3D-CT-GPT++ (SFT+DPO)", "ct_gpt_pp_6", "3D-CT-GPT++DPO(1)"),
    ("ct_gpt_pp_1", "3D-CT-GPT++ (SFT)", "ct_gpt_pp_2", "3D-CT-GPT++ (SFT)"),
    ("ct_gpt_pp_1", "3D-CT-GPT++ (LoRA)", "ct_gpt_pp_6", "(e) 3D-CT-GPT++ (LoRA)"),
    ("ct_gpt_pp_2", "3D-CT-GPT (Baseline)", "ct_gpt_pp_6", "(a) 3D-CT-GPT++ (CTViT + LoRA)"),
    ("ct_gpt_pp_2", "3D-CT-GPT++ (2)", "ct_gpt_pp_6", "3D-CT-GPT++DPO(2)"),
    ("reg2rg_2", "Reg2RG", "reg2rg_4", "with LFD"),
    ("reg2rg_4", "with LFD", "reg2rg_5", "(d) texture, geometry, global, RRA"),
    ("reg2rg_4", "with LFD", "reg2rg_6", "LLaMA2-7B"),
    ("reg2rg_2", "RadFM", "reg2rg_5", "Baseline: global"),
]


def small(**changes: Any) -> dict[str, Any]:
    """A table of two rows with what a test changes."""
    return {
        "paper": "Paper",
        "number": "7",
        "title": "Two policies",
        "source": "section 9",
        "data": "made up",
        "columns": [
            {"label": "RL", "metric": "rougeL", "scale": 100, "digits": 1},
            {"label": "R1", "metric": "rouge1", "scale": 100, "digits": 1},
        ],
        "rows": [{"label": "+base", "values": [41.0, 40.0]}, {"label": "ours", "values": [None, 50.0]}],
        "marks": [{"kind": "impossible", "column": "RL", "rows": ["+base"], "reason": "above R1"}],
    } | changes


@cache
def of_paper(name: str) -> PublishedTable:
    return read_table(FILES[name])


def by_metric(table: PublishedTable, row: str) -> dict[str | None, float | None]:
    (line,) = (one for one in table.rows if one.label == row)
    return {column.metric: value for column, value in zip(table.columns, line.values, strict=True)}


def test_the_tables_that_must_be_there() -> None:
    papers = {"ct_gpt_pp": (1, 2, 6), "argus": (2,), "mu2": (1, 2), "reg2rg": range(1, 7), "rgro": (1, 2)}
    assert set(FILES) == {f"{paper}_{number}" for paper, numbers in papers.items() for number in numbers}
    assert yaml.safe_load((CONFIGS / "table" / "none.yaml").read_text()) == {"table": None}


@pytest.mark.parametrize(
    ("name", "section", "row", "column", "value"),
    [
        ("ct_gpt_pp_1", None, "3D-CT-GPT++ (SFT+DPO)", "GREEN", 0.3527),
        ("ct_gpt_pp_2", None, "Temperature 0.4", "ROUGE-L", 0.3807),
        ("ct_gpt_pp_6", None, "(c) 3D-CT-GPT++ (LLaMA2 + LoRA)", "BLEU-4", 13.06),
        ("argus_2", "normal, 256x256x64", "Argus-8B", "BIMCV-R RaTEScore", 42.23),
        ("argus_2", "high, 512x512x256", "Argus-70B", "INSPECT RadGraphXL", 32.31),
        ("mu2_1", "CT-Rate", "CT-CHAT-8B", "GREEN", 0.113),
        ("mu2_2", None, "+DMTP", "BLEU", 0.254),
        ("reg2rg_1", "CTRG-Chest-584K", "R2GenGPT", "RG-L", 50.93),
        ("reg2rg_2", None, "M3D", "Pre.", 0.407),
        ("reg2rg_3", None, "Thyroid", "Rec.", 0.931),
        ("reg2rg_4", None, "without LFD", "BLEU-4", 25.69),
        ("reg2rg_5", None, "(b) texture, geometry", "RG-L", 37.20),
        ("reg2rg_6", None, "GPT-2", "METEOR", 35.76),
        ("rgro_1", None, "RGRO-80", "OPENI R2", 61.082),
        ("rgro_2", None, "SFT-50", "MIMIC BS-F1", 43.681),
    ],
)
def test_values_are_those_that_are_printed(name: str, section: str | None, row: str, column: str, value: float) -> None:
    assert of_paper(name).value(section, row, column) == value


def test_the_rows_that_tables_have_in_common_agree() -> None:
    for one, row, other, same in SAME:
        first, second = by_metric(of_paper(one), row), by_metric(of_paper(other), same)
        for metric in first.keys() & second.keys():
            assert first[metric] == second[metric], f"{one} {row} and {other} {same}: {metric}"
    # mu2's Table 2 does not say what it was measured on: its last rows are those of AMOS-MM.
    amos = {row.label: row.values for row in of_paper("mu2_1").rows if row.section == "AMOS-MM"}
    for line in of_paper("mu2_2").rows[-2:]:
        assert line.values[1:] == amos[line.label]


@every
def test_a_value_that_fails_a_check_is_marked_and_no_other_is_called_impossible(name: str) -> None:
    table = of_paper(name)
    marked = {
        (row.section, row.label, column.label, table.marks[number - 1].kind)
        for row in table.rows
        for column in table.columns
        for number in table.marks_of(row, column)
    }
    failed = {(one.section, one.row, one.column, one.kind) for one in faults(table)}
    assert failed == {one for one in marked if one[3] != "contradicted"}
    assert all(len(mark.reason.split()) > 5 for mark in table.marks)


def test_how_many_values_fail() -> None:
    found = {name: faults(of_paper(name)) for name in FILES}
    counts = {name: (len(some), sum(one.kind == "impossible" for one in some)) for name, some in found.items()}
    assert counts == dict.fromkeys(FILES, (0, 0)) | {
        "ct_gpt_pp_6": (1, 0),
        "mu2_1": (1, 0),
        "mu2_2": (1, 0),
        "rgro_1": (11, 10),
        "rgro_2": (10, 1),
    }


def test_what_the_texts_say_of_differences_is_held_against_the_values() -> None:
    told = {
        (name, claim.column, claim.said, round(table.given_by_values(claim), 2))
        for name in FILES
        for table in [of_paper(name)]
        for claim in table.claims
        if not table.holds(claim)
    }
    assert told == {
        ("ct_gpt_pp_6", "BLEU-1", 3.1, 3.48),
        ("mu2_1", "GREEN", 20, 23.13),
        ("mu2_1", "GREEN", 20, 11.72),
        ("mu2_1", "GREEN", 20, 17.99),
        ("mu2_2", "GREEN", 0.2, 0.1),
    }
    reg2rg = [table for name in FILES if name.startswith("reg2rg") for table in [of_paper(name)]]
    assert sum(len(table.claims) for table in reg2rg) == 10


def test_what_is_said_of_argus_against_larger_models() -> None:
    table = of_paper("argus_2")
    for section, better in (("normal, 256x256x64", 11), ("high, 512x512x256", 1)):
        won = 0
        for column in table.columns:
            ours = table.value(section, "Argus-3B", column.label)
            others = [table.value(section, f"{one}-8B", column.label) for one in ("CT2Rep", "RadFM", "M3D")]
            won += ours is not None and all(other is not None and ours > other for other in others)
        assert won == better


@pytest.mark.parametrize(
    ("metrics", "values", "found"),
    [
        (("rouge1", "rougeL"), (0.40, 0.42), [("rougeL", "impossible")]),
        (("rouge1", "rougeL"), (0.40, 0.41), []),
        (("rouge1", "rouge2"), (0.40, 0.42), [("rouge2", "doubtful")]),
        # 0.88 / (5 - 4 * 0.88) = 0.59, and 0.54 / (5 - 4 * 0.54) = 0.19.
        (("rouge1", "meteor"), (0.46, 0.88), [("meteor", "doubtful")]),
        (("rouge1", "meteor"), (0.46, 0.54), []),
        (("rouge1", "bleu_1"), (0.34, 0.61), [("bleu_1", "doubtful")]),
        # 0.25 + 0.75 * 0.34 = 0.505: punctuation may make up for so much.
        (("rouge1", "bleu_1"), (0.34, 0.51), []),
        (("bleu_1", "bleu_4"), (0.20, 0.22), [("bleu_4", "doubtful")]),
        (("bleu_1_sample_mean", "bleu_4_sample_mean"), (0.20, 0.22), [("bleu_4_sample_mean", "doubtful")]),
        (("bleu_1", "bleu_4_sample_mean"), (0.20, 0.21), []),
        (("rouge1",), (1.20,), [("rouge1", "impossible")]),
        (("cider",), (1.20,), []),
        (("report_words",), (98.60,), []),
        (("gpt4_score",), (0.80,), [("gpt4_score", "impossible")]),
        # 2 * 0.40 * 0.20 / 0.60 = 0.267, which rounds to 0.27.
        (("ce_micro_precision", "ce_micro_recall", "ce_micro_f1"), (0.40, 0.20, 0.27), []),
        (("ce_micro_precision", "ce_micro_recall", "ce_micro_f1"), (0.40, 0.20, 0.30), [("ce_micro_f1", "impossible")]),
        (("ce_macro_precision", "ce_macro_recall", "ce_macro_f1"), (0.40, 0.20, 0.30), []),
        (("bert_score_precision", "bert_score_recall", "bert_score_f1"), (0.80, 0.90, 0.85), []),
        (
            ("bert_score_precision", "bert_score_recall", "bert_score_f1"),
            (0.80, 0.90, 0.87),
            [("bert_score_f1", "impossible")],
        ),
        (
            ("bert_score_precision", "bert_score_recall", "bert_score_f1"),
            (0.80, 0.90, 0.60),
            [("bert_score_f1", "impossible")],
        ),
        (
            ("bert_score_precision", "bert_score_recall", "bert_score_f1"),
            (0.80, 0.90, 0.75),
            [("bert_score_f1", "doubtful")],
        ),
    ],
)  # fmt: skip
def test_each_check(metrics: tuple[str, ...], values: tuple[float, ...], found: list[tuple[str, str]]) -> None:
    columns = [{"label": metric, "metric": metric, "digits": 2} for metric in metrics]
    table = PublishedTable.model_validate(small(columns=columns, rows=[{"label": "a", "values": values}], marks=[]))
    assert [(one.column, one.kind) for one in faults(table)] == found


def test_values_of_two_data_sets_are_not_held_against_each_other() -> None:
    columns = [{"label": "A RL", "metric": "rougeL", "data": "a"}, {"label": "B R1", "metric": "rouge1", "data": "b"}]
    table = PublishedTable.model_validate(small(columns=columns, rows=[{"label": "x", "values": [0.5, 0.4]}], marks=[]))
    assert faults(table) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": [{"label": "+base", "values": [41.0]}]}, "has 1 values for 2 columns"),
        ({"rows": [{"label": "a", "values": [1, 2]}] * 2}, "two rows of one section are called 'a'"),
        ({"columns": [{"label": "RL", "metric": "rougeL"}] * 2}, "two columns are called 'RL'"),
        ({"marks": [{"kind": "impossible", "column": "RL", "rows": ["+bass"], "reason": "r"}]}, "row '+bass', column"),
        ({"marks": [{"kind": "impossible", "column": "RL", "rows": ["ours"], "reason": "r"}]}, "there is no value"),
        ({"marks": [{"kind": "wrong", "column": "RL", "rows": ["+base"], "reason": "r"}]}, "marks.0.kind"),
        ({"marks": [{"kind": "impossible", "column": "RL", "rows": ["+base"], "reason": ""}]}, "marks.0.reason"),
        ({"titel": "x"}, "titel"),
        ({"columns": [{"label": "RL", "metric": "rougeL", "scale": 0}]}, "columns.0.scale"),
        (
            {
                "rows": [{"label": "a", "section": s, "values": [1, 2]} for s in "xy"],
                "marks": [{"kind": "doubtful", "column": "RL", "rows": ["a"], "reason": "r"}],
            },
            "'a' is a row of several sections: say which",
        ),
        (
            {"claims": [{"text": "t", "column": "RL", "row": "ours", "base": "+base", "said": 1, "unit": "points"}]},
            "claim 't': there is no value at row 'ours'",
        ),
    ],
)
def test_a_table_that_does_not_fit_together_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump({"table": small(**changes)}))
    with pytest.raises(TableError, match=r"bad\.yaml: table") as caught:
        read_table(path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"table: [", "no YAML"),
        (b"\xff\xfe\x00", "no YAML"),
        (b"rows: []", "no mapping under the key `table`"),
        (b"- 1", "no mapping"),
        (b"#" * 1_000_001, "more than the 1000000"),
    ],
)
def test_a_file_that_is_no_table_is_told(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(TableError) as caught:
        read_table(path)
    assert words in str(caught.value) and "bad.yaml" in str(caught.value)


INTERVAL = {"mean": 0.456, "low": 0.44, "high": 0.4712, "n": 12}


def test_measured_rows_stand_below_the_printed_ones_in_their_units() -> None:
    claims = [{"text": "Section 1", "column": "R1", "row": "ours", "base": "+base", "said": 20, "unit": "percent"}]
    table = PublishedTable.model_validate(small(claims=claims, remarks=["Made up."]))
    text = markdown(table, [MeasuredRow("mine | <b>x</b>", {"rouge1": INTERVAL}, "phantom")])
    assert text.splitlines() == [
        "### Paper, Table 7: Two policies",
        "",
        "|  | RL | R1 |",
        "| --- | ---: | ---: |",
        "| +base | 41.0 \\*1 | 40.0 |",
        "| ours | - | 50.0 |",
        "| Measured here |  |  |",
        "| mine \\| &lt;b>x&lt;/b> (phantom, n = 12) | not measured | 45.6 [44.0, 47.1] |",
        "",
        "- Printed values: section 9. Measured on: made up. Ours: mean [95 % interval] by patient.",
        "- \\*1 impossible: above R1",
        "- Section 1: said +20.0 %, by the table +25.0 %.",
        "- Made up.",
    ]


def test_csv_has_every_value_and_no_formula() -> None:
    table = PublishedTable.model_validate(small())
    lines = list(csv.DictReader(io.StringIO(comma_separated(table, [MeasuredRow("=mine", {"rouge1": INTERVAL})]))))
    assert [(one["origin"], one["row"], one["column"], one["value"]) for one in lines] == [
        ("published", "'+base", "RL", "41.0"),
        ("published", "'+base", "R1", "40.0"),
        ("published", "ours", "RL", ""),
        ("published", "ours", "R1", "50.0"),
        ("measured", "'=mine", "RL", ""),
        ("measured", "'=mine", "R1", "45.6"),
    ]
    assert (lines[0]["kind"], lines[0]["reason"]) == ("impossible", "above R1")
    assert (lines[5]["low"], lines[5]["high"], lines[5]["n"]) == ("44.0", "47.12", "12")
    assert lines[4]["kind"] == "not measured"


def test_the_terminal_shows_the_data_sets_that_were_measured(tmp_path: Path) -> None:
    table = of_paper("argus_2")
    names = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge1", "rouge2", "rougeL", "meteor", "cider")
    metrics = {name: INTERVAL | {"mean": 0.1 * number} for number, name in enumerate(names, 1)}
    rows = [MeasuredRow("mine", metrics | {"green_score": INTERVAL}, "inspect")]
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(terminal_table(table, rows))
    text = console.export_text()
    assert "INSPECT GREEN" in text and "CT-RATE GREEN" not in text
    # A mean of metrics is a metric of its own, with an interval: `means_for` measures it.
    assert "45.60" in text and "[44.00, 47.12]" in text and "not measured" in text and "50.00" not in text
    with RunFolder.open(tmp_path, "beside", {}) as folder:
        write_table(folder, table, rows)
    assert (tmp_path / "beside" / "table.md").read_text() == markdown(table, rows)
    assert (tmp_path / "beside" / "table.csv").read_text() == comma_separated(table, rows)


def test_a_mean_of_metrics_has_an_interval_of_its_own() -> None:
    weights = np.array([[1.0, 1.0], [2.0, 0.0]])
    one, other = (
        from_values(name, Signature("made up 1", "words", "sample_mean"), np.array(values))
        for name, values in (("rouge1", (0.2, 0.4)), ("meteor", (0.6, 1.0)))
    )
    columns = [{"label": "Mean", "metric": "nlp_mean", "mean_of": ["rouge1", "meteor"]}]
    table = PublishedTable.model_validate(small(columns=columns, rows=[{"label": "a", "values": [0.5]}], marks=[]))
    (mean,) = means_for(table, {"rouge1": one, "meteor": other}).values()
    assert mean.over(weights) == pytest.approx([0.55, 0.4])
    assert (mean.name, mean.n, mean.values) == ("nlp_mean", 2, None)
    told = "made up 1; tokens: each its own; corpus; mean of rouge1, meteor (signatures: xxh3 "
    assert str(mean.signature).startswith(told)
    assert means_for(table, {"rouge1": one}) == {}
    # A report counts that counts in each; parts computed in another way make another signature.
    half = from_values("meteor", Signature("made up 2", "words", "sample_mean"), np.array([0.6, np.nan]))
    (other_mean,) = means_for(table, {"rouge1": one, "meteor": half}).values()
    assert other_mean.n == 1 and other_mean.counted is not None and other_mean.counted.tolist() == [True, False]
    same_library = replace(other, signature=replace(other.signature, settings="of other references"))
    (changed,) = means_for(table, {"rouge1": one, "meteor": same_library}).values()
    assert changed.signature != mean.signature


def test_the_merged_data_set_stands_for_its_only_source() -> None:
    ct_rate, inspect = CtRateSettings(path="a"), InspectSettings(path="b")
    assert measured_data(ct_rate) == "ct_rate"
    assert measured_data(Ct3drrgSettings(inspect=inspect)) == "inspect"
    assert measured_data(Ct3drrgSettings(ct_rate=ct_rate, inspect=inspect)) is None


def test_a_table_sets_what_it_was_measured_with() -> None:
    """Composed as a job's command line would be, but for the policy's size, which every one of them has alike."""
    targets = {"ct_gpt_pp": "both", "rgro": "impression"}
    sweep = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    temperatures = {"ct_gpt_pp_1": (0.7,), "ct_gpt_pp_2": sweep, "ct_gpt_pp_6": (0.7,), "mu2_1": (1,), "mu2_2": (1,)}
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        plain = sized(compose("config"), [])
        for name in FILES:
            values: Any = OmegaConf.to_container(compose("config", checked_overrides([f"table={name}"])), resolve=True)
            config = load_config(plain | {part: values[part] for part in ("run", "score", "table")}, PROJECT)
            assert config.table == of_paper(name)
            assert config.run.target == targets.get(name.rpartition("_")[0], "findings")
            assert config.score.temperatures == temperatures.get(name, (0,))
            # A run is the same run, whatever its results stand beside.
            assert "table" not in config.plain()
    assert load_config(plain, PROJECT).table is None


def test_a_table_that_is_not_there_is_told_with_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        checked_overrides(["table=argus_3"])
    assert "table=argus_3 does not exist; did you mean argus_2?" in capsys.readouterr().err
