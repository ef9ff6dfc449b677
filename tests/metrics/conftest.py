"""A small run folder, built from the records, with everything that the report page can show."""

import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pytest

from rlaif.records import Candidate, Dropped, HeldoutReport, Judgement, Pair, Quarantined, Study, table_of

WHEN = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
METRICS = {
    "rules_score": (0.41, 0.52),
    "finding_f1": (0.48, 0.56),
    "hallucinated": (1.31, 0.94),
    "omitted": (1.72, 1.61),
    "report_words": (41.0, 44.5),
}
NORMAL = ("The trachea and main bronchi are patent.", "Heart size is normal.", "No pleural effusion.")
ABNORMAL = (
    "A 14 mm solid nodule is seen in the right upper lobe.",
    "Moderate left pleural effusion with adjacent atelectasis.",
    "Emphysematous changes predominate in the upper lobes.",
    "Coronary artery wall calcification is present.",
)
HOSTILE = '<script>alert("x")</script> <img src=https://example.org/a.png onerror=1> & "quoted".'


def write_rows(folder: Path, record: type, rows: list[Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table_of(record, rows), folder / "part-000.parquet")


def chest(seed: int) -> np.ndarray:
    """A crude chest `[x, y, z]` in HU: body, two lungs, heart, spine and a nodule."""
    generator = np.random.default_rng(seed)
    x, y, z = np.mgrid[-1:1:72j, -1:1:64j, -1:1:40j]
    voxels = np.where((x / 0.92) ** 2 + (y / 0.75) ** 2 < 1, 40.0, -1000.0)
    for side in (-1, 1):
        voxels[((x - 0.42 * side) / 0.34) ** 2 + (y / 0.55) ** 2 + (z / 0.9) ** 2 < 1] = -820
    voxels[((x - 0.1) / 0.3) ** 2 + ((y + 0.2) / 0.3) ** 2 + ((z + 0.3) / 0.4) ** 2 < 1] = 45
    voxels[(x / 0.14) ** 2 + ((y - 0.55) / 0.14) ** 2 < 1] = 350
    voxels[(x + 0.45) ** 2 + (y - 0.1) ** 2 + (z - 0.2) ** 2 < 0.012] = 30
    return (voxels + generator.normal(0, 25, voxels.shape)).astype(np.int16)


def build_volume(path: Path, seed: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(chest(seed), np.diag([-4.5, -4.5, 8.0, 1.0])).to_filename(path)
    return str(path)


def report(random_: random.Random) -> str:
    return " ".join([*random_.sample(ABNORMAL, random_.randint(1, 3)), *NORMAL[: random_.randint(1, 3)]])


def interval(mean: float, half: float, n: int = 200) -> dict[str, float]:
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": n}


def build_summary(rounds: int = 2) -> dict[str, Any]:
    def at(share: float, worse: float = 0.0) -> dict[str, dict[str, float]]:
        return {
            name: interval(low + (high - low) * share - worse * low * (1 if high > low else -1), abs(low) * 0.06)
            for name, (low, high) in METRICS.items()
        }

    policies = {"base": 0.0, **{f"round-{k:03d}": (k + 1) / rounds for k in range(rounds)}}
    ends = ("base", f"round-{rounds - 1:03d}")
    blind = {key: at(policies[key] * 0.3, worse=0.2) for key in ends}
    heldout = {key: at(share) for key, share in policies.items()}
    gap = {
        key: {name: interval(blind[key][name]["mean"] - heldout[key][name]["mean"], 0.03) for name in METRICS}
        for key in ends
    }
    return {
        "status": "finished",
        "name": "demo",
        "policy": "ct_gpt_pp/tiny",
        "judge": "rules",
        "pairs": "strategy1",
        "seed": 0,
        "rounds": [
            {
                "round": k,
                "candidates": 2400,
                "judgements": 2400,
                "pairs": 310 + k,
                "judge_failures": {"no_reference": 2} if k == 0 else {},
                "dropped": {"none_below_threshold": 50, "all_scores_equal": 4},
                "seconds": {"sample": 41.2, "pairs": 0.4, "learn": 101.3, "evaluate": 12.0},
                "logprob_gap": {"mean": 1e-6, "max": 2e-5},
                "weights": {"version": k + 1, "checksum": f"ab12{k}fe90c3d4e5f6"},
                "repeated_calls": 0,
            }
            for k in range(rounds)
        ],
        "heldout": heldout,
        "gain": {
            "rules_score": interval(0.11, 0.03),
            "finding_f1": interval(0.08, 0.025),
            "hallucinated": interval(-0.37, 0.12),
            "omitted": interval(-0.11, 0.14),
            "report_words": interval(3.5, 1.4),
        },
        "blind_control": {**blind, "difference": gap},
        "seconds": {"studies": 50.0, "encoder": 90, "ingest": 40, "base": 4000, "heldout/base": 12},
        "studies": {"sft": 2000, "align": 400, "heldout": 200, "quarantined": 2},
        "features": "bypassed",
    }


def build_round(run: Path, number: int, cases: int) -> None:
    random_ = random.Random(number)
    folder = run / f"round-{number:03d}"
    candidates, judgements, pairs = [], [], []
    for case in range(cases):
        own = []
        for index in range(4):
            name = f"r{number}-c{case}-{index}"
            text = HOSTILE if (case, index) == (0, 0) else report(random_)
            score = 1.0 if (case, index) == (0, 0) else round(random_.betavariate(2 + number, 3), 3)
            failed = (case, index) == (1, 1)
            candidate = Candidate(
                name,
                f"case-{case}",
                f"study-{case}",
                number,
                index,
                0,
                "Report:",
                text,
                (1, 2),
                (-0.1, -0.2),
                "stop",
                True,
                number,
                "ab12",
                None,
                0,
                WHEN,
            )
            judgement = Judgement(
                f"j-{name}",
                name,
                f"case-{case}",
                number,
                "rules",
                "1",
                None if failed else score,
                0.0,
                1.0,
                "no_reference" if failed else None,
                f"Explained {name} <b>plainly</b>.",
                {"matched": 2, "false_finding": 1},
                None,
                None,
                False,
                0.0,
                0,
                0,
                0.0,
            )
            candidates.append(candidate)
            judgements.append(judgement)
            if not failed:
                own.append((score, candidate))
        own.sort(key=lambda one: one[0])
        (low, rejected), (high, chosen) = own[0], own[-1]
        pairs.append(
            Pair(
                f"p{number}-{case:02d}",
                f"case-{case}",
                number,
                "strategy1",
                "Report:",
                chosen.text,
                rejected.text,
                chosen.candidate_id,
                rejected.candidate_id,
                high,
                low,
                high - low,
                "rules",
            )
        )
    write_rows(folder / "candidates", Candidate, candidates)
    write_rows(folder / "judgements", Judgement, judgements)
    write_rows(folder / "pairs", Pair, pairs)
    write_rows(folder / "dropped", Dropped, [Dropped("case-99", number, "none_below_threshold")])
    steps = [
        {
            "step": step,
            "loss": 0.693 - 0.15 * (1 - math.exp(-step / 20)) + random_.gauss(0, 0.02),
            "margin": 0.5 * (1 - math.exp(-step / 20)) + random_.gauss(0, 0.05),
            "accuracy": min(1.0, 0.5 + 0.3 * (1 - math.exp(-step / 20)) + random_.gauss(0, 0.05)),
            "chosen_reward": 0.1 * step / 60 + random_.gauss(0, 0.03),
            "rejected_reward": -0.4 * step / 60 + random_.gauss(0, 0.03),
            "lr": 5e-5,
            "grad_norm": 1.0,
        }
        for step in range(60)
    ]
    (folder / "metrics.json").write_text(json.dumps({"learning": {"steps": steps}}))


def build_run(run: Path, rounds: int = 2, cases: int = 8) -> Path:
    """A small run folder with everything the page can show; study 3's volume is gone, study 4 has none."""
    random_ = random.Random(7)
    studies = [
        Study(
            f"study-{k}",
            f"patient-{k}",
            "phantom",
            "align",
            volume=None if k == 4 else build_volume(run.parent / "data" / f"s{k}.nii.gz", k),
            findings=report(random_),
            impression="Pulmonary nodule; follow-up is advised.",
        )
        for k in range(cases)
    ]
    (run.parent / "data" / "s3.nii.gz").unlink()
    write_rows(run / "studies", Study, studies)
    bad = [Quarantined(f"bad-{k}", f"data/bad-{k}.nii.gz", "read", "the gzip stream is truncated") for k in range(2)]
    write_rows(run / "quarantine", Quarantined, bad)
    for number in range(rounds):
        build_round(run, number, cases)
    for share, name in enumerate(["base", *(f"round-{k:03d}" for k in range(rounds))]):
        rows = [
            HeldoutReport(
                f"h{k}",
                f"study-{k}",
                f"patient-{k}",
                False,
                studies[k].findings,
                report(random_),
                "stop",
                share,
                {"rules_score": round(random_.random(), 2), "hallucinated": 1.0, "omitted": 2.0},
            )
            for k in range(cases)
        ]
        write_rows(run / "heldout" / name, HeldoutReport, [*rows, replace(rows[0], control=True, text="BLIND TEXT")])
    sft = [{"step": k, "loss": 0.8 + 3 * math.exp(-k / 60) + random_.gauss(0, 0.05), "lr": 1e-3} for k in range(700)]
    (run / "base").mkdir(exist_ok=True)
    (run / "base" / "metrics.json").write_text(json.dumps({"learning": {"steps": sft}}))
    (run / "provenance.json").write_text(json.dumps({"git": {"commit": "deadbeef"}, "seed": 0, "torch": "2.9"}))
    (run / "config.yaml").write_text("policy:\n  name: ct_gpt_pp # <tiny>\n")
    (run / "summary.json").write_text(json.dumps(build_summary(rounds)))
    return run


@pytest.fixture(scope="session")
def run_builder() -> Callable[..., Path]:
    """`run_builder(folder, rounds=2, cases=8)` fills a run folder and returns it."""
    return build_run


@pytest.fixture(scope="session")
def row_writer() -> Callable[[Path, type, list[Any]], None]:
    """`row_writer(folder, record, rows)` writes one table of a run."""
    return write_rows


@pytest.fixture
def run_summary() -> dict[str, Any]:
    """The summary of a finished run of two rounds, free to be changed."""
    return build_summary()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium for the tests of a file."""
    from chromium import chromium

    with chromium() as driver:
        yield driver
