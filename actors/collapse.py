"""Whether a policy in reinforcement learning has collapsed: empty, endless or constant reports end the run."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from actors.rounds import RoundFailed
from actors.sampling_plan import round_name
from rlaif.config import Config
from rlaif.ledger import RunFolder
from rlaif.records import NOT_WRITTEN, Candidate, HeldoutReport

# Fewer reports may well be all alike.
FEWEST = 8


def check_round(run: RunFolder, config: Config, round_: int) -> None:
    """Raises RoundFailed where there is no learning from a round's reports: the policy that wrote them has collapsed,
    or the base writes nothing else.
    """
    name = round_name(round_)
    rows = run.arrow(f"{name}/candidates", Candidate, ["text", "finish_reason"])
    faults = _faults(config, rows.to_pylist())
    if faults and not round_:
        raise RoundFailed(
            f"{name}: nothing can be learnt from what the base policy writes: {' and '.join(faults.values())}. Raise "
            "sampler.max_tokens where reports are cut off, or fine-tune longer"
        )
    if faults:
        raise _collapsed(name, faults.values())


def check_heldout(run: RunFolder, config: Config, round_: int) -> None:
    """Raises RoundFailed where the policy that a round has learnt has collapsed on held-out cases in a way in which the
    base had not.
    """
    name = round_name(round_)
    if faults := _heldout(run, config, name):
        base = _heldout(run, config, "base")
        if own := [words for kind, words in faults.items() if kind not in base]:
            raise _collapsed(f"heldout/{name}", own)


def _heldout(run: RunFolder, config: Config, name: str) -> dict[str, str]:
    rows = run.arrow(f"heldout/{name}", HeldoutReport, ["text", "finish_reason", "control"]).to_pylist()
    return _faults(config, [row for row in rows if not row["control"]])


def _faults(config: Config, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What of a policy's reports is beyond which bound, in words; prompts without room for one tell nothing."""
    ppo = config.learner.ppo
    written = [row for row in rows if row["finish_reason"] != NOT_WRITTEN]
    if len(written) < FEWEST:
        return {}
    ended = sum(row["finish_reason"] == "stop" and bool(row["text"].strip()) for row in written)
    ((_, times),) = Counter(row["text"] for row in written).most_common(1)
    unusable, same = 1 - ended / len(written), times / len(written)
    faults = {}
    if unusable > ppo.max_unusable:
        faults["max_unusable"] = (
            f"of {len(written)} reports {unusable:.0%} are empty or do not end, more than learner.ppo.max_unusable="
            f"{ppo.max_unusable:g}"
        )
    if same > ppo.max_same:
        faults["max_same"] = (
            f"of {len(written)} reports {same:.0%} have the same words, more than learner.ppo.max_same={ppo.max_same:g}"
        )
    return faults


def _collapsed(what: str, faults: Iterable[str]) -> RoundFailed:
    return RoundFailed(
        f"{what}: the policy has collapsed: {' and '.join(faults)}. The checkpoint before it stays; under another "
        "run.name raise learner.ppo.kl_weight, or lower learner.ppo.lr or epochs"
    )
