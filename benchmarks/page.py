"""How large the report page is, and how soon it can be read in a browser: a table, then one line of JSON.

python benchmarks/page.py [--cases 500] [--rounds 7]

A made-up run: 350 held-out cases with the reports of a base and two rounds, 150 cases with six candidates and two
judges each, reports of some 1,200 characters, and CTs with the noise of a patient's. The page is written once, then
opened in a headless Chromium, `--rounds` times: seconds from the navigation until the first case's slice is drawn.
The median counts. Ratios are to what the page may take, 40 MB and 3 s: larger is better, 1 is just enough.
"""

import argparse
import json
import random
import re
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import nibabel
import numpy as np
import pyarrow.parquet as pq
from chromium import chromium, opened

from rlaif.metrics.page.writing import write_page
from rlaif.records import Candidate, HeldoutReport, Judgement, Pair, Study, table_of

MOST_MB, MOST_S = 40.0, 3.0
SHAPE, SPACING_MM = (210, 170, 120), (1.9, 1.9, 2.6)
WHEN = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("nodule", "opacity", "consolidation", "atelectasis", "pleural effusion", "emphysema", "bronchiectasis")
PLACES = ("right upper lobe", "right lower lobe", "middle lobe", "left upper lobe", "lingula", "left lower lobe")
NORMAL = (
    "The trachea and both main bronchi are patent.",
    "The heart is of normal size and the pericardium is unremarkable.",
    "No enlarged lymph nodes are seen in the mediastinum or at the hila.",
    "The great vessels have a normal diameter.",
    "The imaged parts of the upper abdomen show no abnormality.",
    "There is no lesion of the bones of the chest.",
    "No pneumothorax is present.",
)


def report(dice: random.Random) -> str:
    """A made-up report of about 1,200 characters."""
    found = [
        f"A {dice.choice(('mild', 'moderate', 'severe'))} {dice.choice(NAMES)} of {dice.randint(4, 40)} mm is seen in "
        f"the {dice.choice(PLACES)}, without change since the previous examination."
        for _ in range(dice.randint(3, 8))
    ]
    return " ".join(dice.sample([*found, *NORMAL, *dice.sample(NORMAL, 3)], len(found) + 10))


def chest(seed: int) -> np.ndarray:
    """A chest `[x, y, z]` in HU: body, lungs with vessels, heart, spine, and noise as of a standard dose."""
    dice = np.random.default_rng(seed)
    x, y, z = (np.linspace(-1, 1, size, dtype=np.float32) for size in SHAPE)
    x, y, z = x[:, None, None], y[None, :, None], z[None, None, :]
    voxels = np.where((x / 0.93) ** 2 + (y / 0.8) ** 2 < 1, np.float32(30), np.float32(-1000)) + 0 * z
    for side in (-1, 1):
        voxels[((x - 0.42 * side) / 0.36) ** 2 + (y / 0.58) ** 2 + (z / 0.95) ** 2 < 1] = -850
    voxels[(x - 0.1) ** 2 / 0.08 + (y + 0.2) ** 2 / 0.09 + (z + 0.3) ** 2 / 0.2 < 1] = 45
    voxels[(x / 0.12) ** 2 + ((y - 0.55) / 0.14) ** 2 + 0 * z < 1] = 400
    vessels = dice.random((26, 21, 15)) > 0.86
    grown = np.kron(vessels, np.ones((9, 9, 8), bool))[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    inside = np.zeros(SHAPE, bool)
    inside[: grown.shape[0], : grown.shape[1], : grown.shape[2]] = grown
    voxels[inside & (voxels < -800)] = -300
    return (voxels + dice.normal(0, 28, SHAPE)).astype(np.int16)


def write_rows(folder: Path, record: type, rows: list) -> None:
    """One table of a run."""
    folder.mkdir(parents=True)
    pq.write_table(table_of(record, rows), folder / "part-000.parquet")


def made_up_run(root: Path, cases: int) -> Path:
    """A run folder with that many cases, and a CT for each of those that the page shows one of."""
    run, dice = root / "page", random.Random(0)
    sampled = round(cases * 0.3)
    ids = [f"case-{number:04d}" for number in range(cases)]
    studies = [
        Study(one, one, "made-up", "align", volume=str(root / "ct" / f"{one}.nii"), findings=report(dice))
        for one in ids
    ]
    write_rows(run / "studies", Study, studies)
    for version, policy in enumerate(("base", "round-000", "round-001")):
        rows = []
        for study in studies[sampled:]:
            metrics = {"rules_score": dice.random(), "finding_f1": dice.random(), "hallucinated": 1.0, "omitted": 2.0}
            text, reference = report(dice), study.findings
            one = study.study_id
            rows.append(HeldoutReport(one, one, one, False, reference, text, "stop", version, metrics))
        write_rows(run / "heldout" / policy, HeldoutReport, rows)
    write_candidates(run / "round-001", ids[:sampled], dice)
    (run / "summary.json").write_text(json.dumps({"name": "page", "judge": "rules", "status": "finished"}))
    write_volumes(run, root / "ct")
    return run


def write_volumes(run: Path, folder: Path) -> None:
    """A CT of its own for each case that the page chooses to show one of: those that it finds none of."""
    folder.mkdir()
    affine = np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1])
    page = write_page(run).read_text(encoding="utf-8")
    block = re.search(r'<script id="case-data" type="application/json">(.*?)</script>', page)
    assert block is not None
    for seed, case in enumerate(json.loads(block[1])["cases"]):
        if "note" in case:
            nibabel.Nifti1Image(chest(seed), affine).to_filename(folder / f"{case['study']}.nii")


def write_candidates(folder: Path, ids: list[str], dice: random.Random) -> None:
    """Six candidates a case, two judgements each, and a pair."""
    candidates, judgements, pairs = [], [], []
    for case in ids:
        for index in range(6):
            name, text = f"{case}.{index}", report(dice)
            values = ("Report:", text, (1,), (-0.1,), "stop", True, 1, "0", None, 0, WHEN)
            candidates.append(Candidate(name, case, case, 1, index, 0, *values))
            for judge, low, high in (("rules", 0.0, 1.0), ("gpt4", 1.0, 5.0)):
                score = low + (high - low) * dice.random()
                told = (None, "Two findings are left out. " * 8, {"matched": 2, "false_finding": 1}, None, None)
                rest = (low, high, *told, False, 0.1, 900, 120, 0.002)
                row = Judgement(f"{name}.{judge}", name, case, 1, judge, "1", score, *rest)
                judgements.append(row)
        ends = candidates[-6], candidates[-1]
        texts = (ends[0].text, ends[1].text, ends[0].candidate_id, ends[1].candidate_id)
        pairs.append(Pair(f"{case}.pair", case, 1, "best_worst", "Report:", *texts, 0.9, 0.2, 0.7, "rules"))
    write_rows(folder / "candidates", Candidate, candidates)
    write_rows(folder / "judgements", Judgement, judgements)
    write_rows(folder / "pairs", Pair, pairs)


def main() -> None:
    """Write, open, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=500, help="cases of the page, 20 or more")
    parser.add_argument("--rounds", type=int, default=7, help="how often the page is opened")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="page-") as root, chromium() as driver:
        run = made_up_run(Path(root), arguments.cases)
        start = time.perf_counter()
        page = write_page(run)
        written = time.perf_counter() - start
        text = page.read_text(encoding="utf-8")
        opened(driver, page)
        seconds = [opened(driver, page) for _ in range(arguments.rounds)]
        shown = driver.execute_script("return document.querySelectorAll('#case-list a').length")
        stacks = text.count('<script id="stack-')
    megabytes, median = len(text.encode()) / 1e6, statistics.median(seconds)
    print(f"{'cases':>8} {'with CT':>8} {'MB':>8} {'of 40':>7} {'written s':>10} {'opened s':>9} {'worst s':>8}")
    print(
        f"{shown:>8} {stacks:>8} {megabytes:>8.1f} {megabytes / MOST_MB:>7.0%} {written:>10.1f} {median:>9.2f} "
        f"{max(seconds):>8.2f}"
    )
    print(json.dumps({"size_vs_limit": round(MOST_MB / megabytes, 2), "open_vs_limit": round(MOST_S / median, 2)}))


if __name__ == "__main__":
    main()
