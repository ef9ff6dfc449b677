"""What a finished run tells of its rates, and what its tables make of them: known numbers, by hand."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from rlaif.files import RunError
from rlaif.launch import PROJECT
from rlaif.ledger import RunFolder
from rlaif.metrics.run_bytes import features_of, kept, passes, sent
from rlaif.metrics.run_rates import assumed_judge, rates_of
from rlaif.metrics.scale import Actors, Counts
from rlaif.metrics.scale_tables import scale_tables, stages
from rlaif.records import Candidate, Comparison, HeldoutReport, Ingested, Judgement, Pair, Study
from rlaif.tables import Table

CASES, N, TOKENS = 4, 2, 10
FLEET = Actors("large", samplers=8, ranks=4, readers=10, encoders=5)
POLICY = {
    "name": "mine",
    "size": "small",
    "recipe": "m3d",
    "encoder": {"kind": "vit3d", "volume": [32, 256, 256], "patch": [4, 16, 16], "pool": 2},
    "connector": {"kind": "mlp"},
}


def training(epochs: int, batch: int) -> dict[str, Any]:
    return {"epochs": epochs, "batch": batch, "train": ["language_model"]}


def candidate(case: int, index: int, sampled_at: datetime) -> Candidate:
    return Candidate(
        candidate_id=f"c{case}.0.{index}",
        case_id=f"c{case}",
        study_id=f"s{case}",
        round=0,
        index=index,
        attempt=0,
        prompt="<image>\nDescribe.",
        text="No nodule.",
        token_ids=(1,) * TOKENS,
        logprobs=(-0.5,) * TOKENS,
        finish_reason="stop",
        usable=True,
        policy_version=0,
        weights_checksum="w",
        feature_key=f"k{case}",
        seed=case,
        sampled_at=sampled_at,
    )


def judgement(case: int, index: int, judge: str, prompt: int, completion: int, *, cached: bool = False) -> Judgement:
    return Judgement(
        judgement_id=f"c{case}.0.{index}.{judge}",
        candidate_id=f"c{case}.0.{index}",
        case_id=f"c{case}",
        round=0,
        judge=judge,
        judge_version="1",
        score=0.5,
        scale_low=0.0,
        scale_high=1.0,
        failure=None,
        explanation="",
        counts=None,
        scores=None,
        raw=None,
        cached=cached,
        latency_s=1.0,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost_usd=0.0,
    )


def build_run(root: Path, judgements: list[Judgement], comparisons: list[Comparison] | None = None) -> Path:
    """A finished run of 6 studies to fine-tune on, 4 to align on, 2 held out; an earlier attempt sampled half of it.

    Its one round took 100 s to sample with 2 engines, 12 s to learn 3 pairs on 2 ranks, and 8 s to evaluate.
    """
    configuration = {
        "run": {"rounds": 1, "target": "findings", "alignment": "dpo"},
        "cache": {"root": str(root / "cache")},
        "policy": {"path": None},
        "sampler": {"actors": 2, "n": N, "gpus": 0.0},
        "ingest": {"encoders": 1},
        "cluster": {"nodes": 3},
        "heldout": {"limit": None},
        "learner": {
            "ranks": 2,
            "gpus": 0.0,
            "pretrain": None,
            "sft": training(2, 4),
            "dpo": training(1, 2),
            "ppo": training(1, 2) | {"advantage": "gae"},
        },
    }
    with RunFolder.open(root, "small", configuration) as run:
        studies = [
            Study(f"s{k}", f"p{k}", "folder", split, volume=f"/{k}", findings="No nodule.")
            for k, split in enumerate(["align"] * 4 + ["sft"] * 6 + ["heldout"] * 2)
        ]
        run.replace("studies", Study, studies)
        ingested = [Ingested(f"s{k}", f"k{k}", (), 1.0, 0.5, 0.25) for k in range(10)]
        run.replace("features", Ingested, [*ingested, Ingested("s10", "k10"), Ingested("s11", "k11")])
        run.finish("base", seconds=36.0, trained=True, cases=6, ran=["sft"])
        before, now = datetime.now(UTC) - timedelta(seconds=1000), datetime.now(UTC)
        rows = [candidate(case, index, now if index else before) for case in range(CASES) for index in range(N)]
        run.replace("round-000/candidates", Candidate, rows)
        run.replace("round-000/judgements", Judgement, judgements)
        run.replace("round-000/comparisons", Comparison, comparisons or [])
        pairs = [
            Pair(f"p{k}", f"c{k}", 0, "s", "p", "a", "b", f"c{k}.0.0", f"c{k}.0.1", 1.0, 0.0, 1.0, "j")
            for k in range(3)
        ]
        run.replace("round-000/pairs", Pair, pairs)
        reports = [
            HeldoutReport(f"c{k}", f"s{k}", f"p{k}", control, "r", "t", "stop", 1, {})
            for k in (10, 11)
            for control in (False, True)
        ]
        run.replace("heldout/round-000", HeldoutReport, reports)
        with run.folder("round-000/checkpoint") as folder:
            (folder / "policy.json").write_text(json.dumps(POLICY))
            (folder / "language_model").mkdir()
            save_file({"head": np.zeros((10, 10), np.float16)}, folder / "language_model" / "model.safetensors")
            save_file({"mlp": np.zeros(25, np.float32)}, folder / "connector.safetensors")
            save_file({"vit": np.zeros(1000, np.float32)}, folder / "encoder.safetensors")
        run.finish("round-000/sample", seconds=100.0)
        run.finish("round-000/pairs", seconds=2.0)
        run.finish("heldout/round-000", seconds=8.0, reports=4)
        told = {"pairs": 3, "seconds": {"sample": 100.0, "pairs": 2.0, "learn": 12.0, "evaluate": 8.0}}
        counted = {"sft": 6, "align": 4, "heldout": 2, "quarantined": 0}
        run.write_json(
            "summary.json", {"status": "finished", "studies": counted, "features": "stored", "rounds": [told]}
        )
        return run.path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One such run for all tests, which leave it as it is."""
    judgements = [judgement(case, index, "rules", 0, 0) for case in range(CASES) for index in range(N)]
    return build_run(tmp_path_factory.mktemp("runs"), judgements)


@pytest.fixture
def small(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, free to be changed."""
    run = tmp_path / "small"
    shutil.copytree(finished, run)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(finished.parent), str(tmp_path)))
    return run


def test_a_runs_rates_are_of_one_actor(finished: Path) -> None:
    rates = rates_of(finished)
    assert rates.counts == Counts(6, 4, 2, 1, N, 0.75, 2.0, None)
    assert rates.tokens.value == TOKENS
    # Only what the last attempt sampled: 4 of 8 in 100 s, by 2 engines.
    assert rates.sample.value == 100.0 * 2 / 4
    assert rates.sample.made_of.endswith("; 0.2 tokens a second each")
    assert rates.pairs.value == 0.5
    # Batches of 2 and of 1 on 2 ranks: one pair after another.
    assert rates.learn.value == 12.0 / 2
    # Two epochs of batches of 4 and of 2 reports.
    assert rates.fine_tuning.value == 36.0 / (2 * (2 + 1))
    assert rates.evaluate.value == 8.0 * 2 / 4
    # Two of twelve studies were there before.
    assert (rates.read.value, rates.encode.value) == (1.5, 0.25)
    assert not rates.on_gpus


def test_stages_of_a_larger_run_on_a_larger_fleet(finished: Path) -> None:
    rates = rates_of(finished)
    counts = replace(rates.counts.of(1200), rounds=2)
    told = {one.what: one.seconds[0] for one in stages(rates, counts, [FLEET])}
    assert told["ingest: read, recipe"] == 1200 * 1.5 / 10
    assert told["ingest: encode, beside it"] == 1200 * 0.25 / 5
    assert told["fine-tuning"] == 6.0 * 2 * 600 / 4
    assert told["sample and judge, a round"] == 800 * 50.0 / 8 == 5000
    assert told["pairs, a round"] == 400 * 0.5
    # A batch has two pairs: two of the four ranks wait.
    assert told["learn, a round"] == 300 / 2 * 6.0 == 900
    assert told["evaluate, a round"] == 400 * 4.0 / 8
    assert told["all rounds, `run.staleness=0`"] == 2 * (5000 + 200 + 900 + 200)
    assert told["all rounds, `run.staleness=1`"] == 5000 + 5000 + 900 + 2 * 400


def test_bytes_are_those_of_files_shards_and_tensors(small: Path) -> None:
    store = small.parent / "cache" / "features" / "encoder"
    store.mkdir(parents=True)
    half = np.zeros((8, 4), np.float16)
    tensors = {"k0": half, "k0/lung": half, "k0/lung/mask": np.zeros(16, np.uint8), "k1": half, "other": half}
    save_file(tensors, store / "shard-a.safetensors")
    save_file({"k1": half}, store / "shard-b.safetensors")
    rates = rates_of(small)
    # k0 with its region and mask 144, k1 64 though it stands in two shards; another run's are not counted.
    assert features_of(rates).value == (144 + 64) / 2
    disk = {one.what: one for one in kept(rates, rates.counts.of(1200))}
    part = small / "round-000" / "candidates" / "part-000.parquet"
    assert disk["candidates"].total == part.stat().st_size / 8 * 800
    assert disk["feature store"].total == 104 * 1200
    assert "comparisons" not in disk
    checkpoint = small / "round-000" / "checkpoint"
    assert disk["policies"].each.value == sum(one.stat().st_size for one in checkpoint.rglob("*") if one.is_file())
    # Two checkpoints and the one being written; start and base in the cache, base in the run.
    (policies,) = (one.units for one in kept(rates, replace(rates.counts, rounds=9)) if one.what == "policies")
    assert disk["policies"].units == 4 and policies == 6
    wire = {one.what: one for one in sent(rates, rates.counts, [FLEET])}
    # The encoder stays where it is: 100 values of two bytes, 25 of four, at each of 8 engines.
    assert wire["weights, large"].total == 300 * 8
    assert passes(rates) == 2 and wire["features, learners"].total == 104 * 3 * 2
    assert wire["candidates to the controller"].each.value > TOKENS * 8


def test_without_the_store_features_are_those_of_the_policy(finished: Path) -> None:
    told = features_of(rates_of(finished))
    # 8 x 16 x 16 patches, pooled to 4 x 8 x 8, of 768 values of two bytes.
    assert told.value == 256 * 768 * 2 and "the store is gone" in told.made_of


def test_what_a_run_does_not_tell_is_named(small: Path) -> None:
    Table(small / "features", Ingested).replace([Ingested("s0", "k0")])
    mark = small / "ledger" / "base.json"
    mark.write_text(mark.read_text().replace('"trained": true', '"trained": false'))
    rates = rates_of(small)
    assert rates.read.value is None and "another cache.root" in rates.read.made_of
    assert rates.fine_tuning.value is None and "take one that fine-tunes" in rates.fine_tuning.made_of
    text = scale_tables(rates, rates.counts.of(100), [FLEET], rates.judges, None)
    assert "| ingest: read, recipe | - | 100 | - | readers" in text
    assert "without GPUs" in text


def test_questions_tokens_and_dollars_of_judges(tmp_path: Path) -> None:
    graded = [judgement(case, index, "gpt4", 500, 20) for case in range(CASES) for index in range(N)]
    # An equal text's verdict took nothing.
    graded[1] = judgement(0, 1, "gpt4", 0, 0, cached=True)
    # What both orders took stands with the first of the two; one comparison was answered from the cache.
    compared = [judgement(case, 0, "llm", 1200, 30) for case in range(1, CASES)]
    compared += [judgement(0, 0, "llm", 0, 0, cached=True), *(judgement(case, 1, "llm", 0, 0) for case in range(CASES))]
    asked = [
        Comparison(f"c{case}.{order}", f"c{case}", 0, "llm", f"c{case}.0.0", f"c{case}.0.1", order, "a", None, "A")
        for case in range(CASES)
        for order in ("ab", "ba")
    ]
    rates = rates_of(build_run(tmp_path, [*graded, *compared], asked))
    counts = replace(rates.counts.of(1200), rounds=2)
    gpt4, llm = rates.judges
    assert (gpt4.prompt_tokens, gpt4.completion_tokens, gpt4.questions_a_case) == (500, 20, 2)
    # 400 cases of 2 candidates in 2 rounds, 200 held out in 3 evaluations.
    assert gpt4.questions(counts) == 400 * 2 * 2 + 200 * 3
    assert gpt4.usd is None
    assert gpt4.priced(2.0, 10.0).usd == pytest.approx((500 * 2 + 20 * 10) / 1e6)
    # Two candidates compared in both orders; held-out reports with the base's after each of two rounds.
    assert llm.pairwise and llm.questions(counts) == 400 * 2 * 2 + 200 * 2 * 2
    assert (llm.prompt_tokens, llm.completion_tokens) == (600, 15)
    assert assumed_judge("llm_parser", 546, 16, 6).questions_a_case == 18
    assert assumed_judge("gpt4", 531, 21, 6).questions_a_case == 6
    text = scale_tables(rates, counts, [FLEET], [gpt4.priced(2.0, 10.0)], 100.0)
    assert "| gpt4 | 2 | 2,200 | 1,100,000 | 44,000 | 3 | 22 min |" in text


def test_engines_that_came_and_went_tell_nothing_of_one(small: Path) -> None:
    config = small / "config.yaml"
    config.write_text(config.read_text().replace("  actors: 2\n", "  actors: 2\n  max_actors: 4\n"))
    rates = rates_of(small)
    assert rates.sample.value is None and rates.evaluate.value is None and rates.learn.value is not None


def test_a_judge_of_held_out_reports_alone_is_asked_about_nothing_else(small: Path) -> None:
    Table(small / "heldout-judging" / "base" / "judgements", Judgement).replace([judgement(0, 0, "gpt4", 500, 20)])
    second = judgement(0, 1, "gpt4", 600, 30)
    Table(small / "heldout-judging" / "round-000" / "judgements", Judgement).replace([second])
    rates = rates_of(small)
    gpt4, rules = rates.judges
    assert (gpt4.name, gpt4.questions_a_case, gpt4.prompt_tokens, gpt4.completion_tokens) == ("gpt4", 0, 550, 25)
    # 200 held out of 1,200, of the base and after each of two rounds.
    assert gpt4.questions(replace(rates.counts.of(1200), rounds=2)) == 200 * 3
    assert rules.questions(rates.counts) == 0


def test_the_command_line_counts_readers_by_node_and_takes_none_to_fine_tune_on(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = small / "ledger" / "base.json"
    mark.write_text(mark.read_text().replace('"trained": true', '"trained": false'))
    monkeypatch.syspath_prepend(PROJECT / "scripts")
    from scale import main

    asked = ["scale.py", str(small), "--split", "0", "400", "200", "--readers", "5", "--scale-to", "gpus_64"]
    monkeypatch.setattr(sys, "argv", asked)
    main()
    told = capsys.readouterr().out
    assert "600 studies: 0 to fine-tune on, 400 to align on, 200 held out" in told
    # Three nodes of the run, eight of the preset.
    assert "readers 15, encoders 1" in told and "readers 40, encoders 64" in told
    assert "| fine-tuning | - | 0 | 0 s | 0 s |" in told


def test_at_most_so_many_are_held_out_at_any_size(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, mark = small / "config.yaml", small / "ledger" / "heldout" / "round-000.json"
    config.write_text(config.read_text().replace("limit: null", "limit: 1"))
    mark.write_text(mark.read_text().replace('"reports": 4', '"reports": 2'))
    rates = rates_of(small)
    # One case of two, with its control.
    assert rates.counts.reports_a_case == 2.0 and rates.counts.reports == 2
    assert rates.counts.of(1200).reports == 2
    assert assumed_judge("gpt4", 500, 20, N).questions(rates.counts) == 4 * N + 1 * 2
    monkeypatch.syspath_prepend(PROJECT / "scripts")
    from scale import main

    monkeypatch.setattr(sys, "argv", ["scale.py", str(small), "--split", "0", "400", "200", "--heldout-limit", "150"])
    main()
    told = capsys.readouterr().out
    assert "200 held out, of which heldout.limit=150 are evaluated" in told and "| held-out | " in told
    assert "| evaluate, a round | 8 s a report | 300 |" in told


def test_reinforcement_learns_from_reports_builds_no_pairs_and_never_samples_ahead(small: Path) -> None:
    config, summary = small / "config.yaml", small / "summary.json"
    config.write_text(config.read_text().replace("alignment: dpo", "alignment: ppo"))
    summary.write_text(summary.read_text().replace('"pairs": 3', '"reports": 7'))
    (small / "ledger" / "round-000" / "pairs.json").unlink()
    shutil.rmtree(small / "round-000" / "pairs")
    rates = rates_of(small)
    assert passes(rates) == 3
    text = scale_tables(rates, rates.counts, [FLEET], rates.judges, None)
    assert "staleness=1" not in text and "staleness=0" in text
    assert "pair" not in text
    assert "1.75 reports to learn from a case" in text and "3 s a report and epoch" in text


def test_a_base_of_another_run_tells_nothing_of_fine_tuning(small: Path) -> None:
    mark = small / "ledger" / "base.json"
    known = json.loads(mark.read_text())
    # Runs before this one noted the trainings of the other run as their own, of no seconds.
    facts = {"seconds": 0.0, "trained": True, "cases": 6, "ran": ["sft"], "start_from": "/runs/first"}
    mark.write_text(json.dumps(known | {"facts": facts}))
    told = rates_of(small).fine_tuning
    assert told.value is None and told.made_of == "this run took its base from /runs/first: ask that one"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--requests-per-minute", "0"], "--requests-per-minute: 0 is no number above 0"),
        (["--requests-per-minute", "-5"], "-5 is no number above 0"),
        (["--requests-per-minute", "nan"], "nan is no number above 0"),
        (["--usd-per-million", "x", "1"], "--usd-per-million: x is no number of 0 or more"),
        (["--judge", "gpt4", "-500", "20"], "--judge gpt4: -500 is no number above 0"),
        (["--judge", "gpt4", "500", "nan"], "--judge gpt4: nan is no number above 0"),
        (["--studies", "9" * 500], "is no whole number from 1 to 1,000,000,000"),
        (["--split", "a", "2", "3"], "--split: a is no whole number from 0 to 1,000,000,000"),
        (["--split", "1", "2", "3" * 5000], "is no whole number from 0 to 1,000,000,000"),
    ],
)
def test_a_command_line_that_cannot_be_is_refused_in_a_sentence(
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.syspath_prepend(PROJECT / "scripts")
    from scale import main

    monkeypatch.setattr(sys, "argv", ["scale.py", str(finished), *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    last = capsys.readouterr().err.splitlines()[-1]
    assert caught.value.code == 2 and said in last and len(last) < 200


Spoil = Callable[[Path], object]


def written(name: str, text: str) -> Spoil:
    return lambda run: (run / name).write_text(text)


def summarised(**changed: Any) -> Spoil:
    """Changes keys of the summary."""
    return lambda run: (run / "summary.json").write_text(
        json.dumps(json.loads((run / "summary.json").read_text()) | changed)
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda run: (run / "config.yaml").unlink(), "is no run folder"),
        (lambda run: (run / "summary.json").unlink(), "is not finished"),
        (summarised(rounds=[]), "has no round"),
        (summarised(rounds=[{"given": {"a": 1}, "pairs": 1, "seconds": {"learn": 1.0}}]), "taken from a file"),
        (lambda run: (run / "ledger" / "base.json").unlink(), "has no stage base"),
        # Torn, or not what was written there.
        (written("summary.json", '{"status": "fin'), r"summary\.json is damaged \(Invalid JSON"),
        (written("summary.json", "null"), r"summary\.json is damaged"),
        (summarised(studies=None), r"summary\.json is damaged \(studies: "),
        (summarised(rounds=[{"pairs": 3, "seconds": {}}]), r"damaged \(rounds\.0\.seconds\.learn: Field required"),
        (summarised(rounds=[{"seconds": {"learn": 1.0}}]), "neither pairs nor reports"),
        (written("ledger/base.json", "{"), r"base\.json is damaged"),
        (written("ledger/round-000/sample.json", '{"facts": {}}'), r"sample\.json is damaged \(finished_at"),
        (written("config.yaml", "a: [1"), r"config\.yaml is not YAML"),
        (written("config.yaml", "policy: {}\nlearner: {}"), r"config\.yaml is damaged \(run: Field required"),
        (lambda run: shutil.rmtree(run / "round-000" / "candidates"), "round-000/candidates is gone or empty"),
        # Another job's folder, or nobody's.
        (written("config.yaml", "job: regimes"), "is no run of a loop"),
        (written("config.yaml", ""), "is no run of a loop"),
        (written("config.yaml", "run: {}\nscore: {}"), "is no run of a loop"),
    ],
)
def test_a_folder_that_tells_nothing_is_refused_with_what_to_do(small: Path, spoil: Spoil, said: str) -> None:
    spoil(small)
    with pytest.raises(RunError, match=said):
        rates_of(small)


def test_what_came_from_the_cache_tells_nothing_of_fine_tuning(small: Path) -> None:
    mark, config = small / "ledger" / "base.json", small / "config.yaml"
    known = json.loads(mark.read_text())

    def fine_tuning(**facts: Any) -> tuple[float | None, str]:
        mark.write_text(json.dumps(known | {"facts": {"seconds": 36.0, "trained": True, "cases": 6} | facts}))
        told = rates_of(small).fine_tuning
        return told.value, told.made_of

    config.write_text(config.read_text().replace("pretrain: null", "pretrain: {epochs: 5, batch: 1, train: []}"))
    # Two epochs of two batches; five of six batches of one.
    assert fine_tuning(ran=["sft"])[0] == 36.0 / (2 * (2 + 1))
    assert fine_tuning(ran=["pretrain"])[0] == 36.0 / (5 * 6)
    assert fine_tuning(ran=["pretrain", "sft"])[0] == 36.0 / (2 * (2 + 1) + 5 * 6)
    value, why = fine_tuning(ran=[])
    assert value is None and "another cache.root" in why
    value, why = fine_tuning()
    assert value is None and "earlier version" in why
    (policies,) = (one.units for one in kept(rates_of(small), rates_of(small).counts) if one.what == "policies")
    assert policies == 5
