"""Rounds: held-out reports and their blind controls, and the policy after a round without pairs."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from actors.heldout import heldout_report, heldout_requests
from actors.learning import learn
from actors.requests import Request
from actors.rounds import RoundFailed, check_room
from rlaif.ledger import RunFolder
from rlaif.records import NOT_WRITTEN, Candidate, Case
from rlaif.reports.region_reports import region_prompt, region_slots

if TYPE_CHECKING:
    from rlaif.config import Config

ORDERS = {"a": ("heart", "lung"), "b": ("pleura",), "c": ("lung", "bone"), "d": ("lung",)}
PATIENTS = {"a": "p1", "b": "p1", "c": "p2", "d": "p3"}
CASES = [
    Case(name, name, PATIENTS[name], region_prompt(order), "Moderate cardiomegaly.", None, f"key-{name}")
    for name, order in ORDERS.items()
]


def written(request: Request, text: str) -> Candidate:
    """What a sampler makes of a request."""
    case = request.case
    words = {"prompt": case.prompt, "text": text, "token_ids": (1,), "logprobs": (-1.0,), "finish_reason": "stop"}
    given = {"case_id": case.case_id, "study_id": case.study_id, "feature_key": request.feature_key}
    made = {"usable": True, "policy_version": 3, "weights_checksum": "", "seed": 0, "sampled_at": datetime.now(UTC)}
    return Candidate(candidate_id="x", round=3, index=0, attempt=0, **given, **words, **made)


def test_a_control_sees_another_patient_under_that_patients_prompt() -> None:
    requests = heldout_requests(CASES, blind_control=True)
    assert requests.keys() == {(name, control) for name in ORDERS for control in (False, True)}
    own = {name: requests[name, False] for name in ORDERS}
    assert all(
        one.case == case and one.feature_key == case.feature_key for one, case in zip(own.values(), CASES, strict=True)
    )
    # The next case of another patient, from the front again after the last.
    strangers = {"a": "c", "b": "c", "c": "d", "d": "a"}
    for name, other in strangers.items():
        blind = requests[name, True]
        assert (blind.case.case_id, blind.feature_key) == (name, f"key-{other}")
        assert region_slots(blind.case.prompt) == ORDERS[other]
        assert replace(blind.case, prompt=own[name].case.prompt) == own[name].case
    assert all((one.n, one.temperature) == (1, 0.0) for one in requests.values())


def test_cases_without_another_patient_or_without_an_image_have_no_control() -> None:
    assert heldout_requests(CASES[:2], blind_control=True).keys() == {("a", False), ("b", False)}
    text_only = [replace(case, feature_key=None) for case in CASES]
    assert not any(control for _, control in heldout_requests(text_only, blind_control=True))
    assert not any(control for _, control in heldout_requests(CASES, blind_control=False))
    assert heldout_requests([], blind_control=True) == {}


def test_metrics_see_the_sentences_and_the_names_are_counted_apart() -> None:
    requests = heldout_requests(CASES, blind_control=True)
    text = "The region 0 is heart: Moderate cardiomegaly The region 1 is bone: No fracture."
    report = heldout_report(written(requests["a", False], text), CASES[0])
    assert not report.control and report.text == text and report.policy_version == 3
    assert report.metrics["rules_score"] == report.metrics["finding_f1"] == 1.0
    # "Moderate cardiomegaly. No fracture."
    assert report.metrics["report_words"] == 4.0 and report.metrics["region_recognition"] == 0.5
    # The control is asked for the regions that it is shown, so that naming them is nothing it is blind to.
    control = heldout_report(written(requests["a", True], text), CASES[0])
    assert control.control and "region_recognition" not in control.metrics
    assert control.metrics["rules_score"] == 1.0


def test_a_prompt_without_room_for_a_report_has_no_metric() -> None:
    normal = replace(CASES[0], target="The lungs are clear.", labels=())
    candidate = replace(written(Request(normal, "key-a", 1, 0.0), ""), finish_reason=NOT_WRITTEN)
    assert heldout_report(candidate, normal).metrics == {}
    empty = heldout_report(replace(candidate, finish_reason="stop"), normal)
    assert empty.metrics["finding_f1"] == 0.0 and empty.metrics["report_words"] == 0.0


def test_a_stage_without_room_for_any_report_ends_the_run(configured: Callable[..., "Config"]) -> None:
    config = configured("experiment=smoke")
    check_room(config, "heldout/base", [NOT_WRITTEN, "stop"])
    check_room(config, "heldout/base", [])
    with pytest.raises(RoundFailed, match=r"^heldout/base: no prompt leaves room for sampler\.max_tokens=64 within"):
        check_room(config, "heldout/base", [NOT_WRITTEN, NOT_WRITTEN])


def test_a_plain_report_has_no_share_of_regions() -> None:
    case = replace(CASES[0], prompt="<image>\nDescribe the findings of this chest CT.")
    report = heldout_report(written(Request(case, "key-a", 1, 0.0), "No cardiomegaly."), case)
    assert "region_recognition" not in report.metrics and report.metrics["rules_score"] == pytest.approx(0.0)


def test_a_round_without_pairs_hands_on_its_own_adapters_and_not_those_of_the_base(
    configured: Callable[..., "Config"], tmp_path: Path
) -> None:
    # Nothing is learnt, so the learners answer for the gap alone.
    fleet: Any = SimpleNamespace(learners=SimpleNamespace(logprob_gap=lambda *_: {"mean": 0.0, "max": 0.0}))
    config = configured("experiment=smoke", f"run.root={tmp_path / 'runs'}", f"cache.root={tmp_path / 'cache'}")
    base = tmp_path / "base"
    for folder in (base, trained := tmp_path / "trained"):
        (folder / "language_model").mkdir(parents=True)
        for name in ("policy.json", "language_model/model.safetensors", "adapters.safetensors"):
            (folder / name).write_text(f"{folder.name} {name}")
    with RunFolder.open(tmp_path, "run", {}) as run:
        for round_, policy in enumerate((base, trained)):
            run.finish(f"round-{round_:03d}/sample", judging={}, version=round_)
            run.finish(f"round-{round_:03d}/pairs", pairs=0)
            copy = learn(run, config, fleet, policy, base, round_)
            names = {path.name for path in copy.rglob("*") if path.is_file()}
            # Those of a user's own base are merged into it, and made for another base than itself.
            adapters = set() if policy == base else {"adapters.safetensors"}
            assert names == {"policy.json", "model.safetensors"} | adapters
            assert (copy / "language_model" / "model.safetensors").read_text().startswith(policy.name)
