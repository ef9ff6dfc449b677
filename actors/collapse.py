"""Whether a policy in reinforcement learning has collapsed: empty, endless or constant reports end the run."""

from collections import Counter
from collections.abc import Sequence

from actors.rounds import RoundFailed
from actors.sampling_plan import round_name
from rlaif.config import Config
from rlaif.ledger import RunFolder
from rlaif.records import Candidate, HeldoutReport

# Fewer reports may well be all alike.
FEWEST = 8


def check_round(run: RunFolder, config: Config, round_: int) -> None:
    """Raises RoundFailed where the policy that wrote a round's reports has collapsed: nothing is learnt from them."""
    name = round_name(round_)
    rows = run.arrow(f"{name}/candidates", Candidate, ["text", "usable"])
    _check(config, name, rows["text"].to_pylist(), rows["usable"].to_pylist())


def check_heldout(run: RunFolder, config: Config, round_: int) -> None:
    """The same of the held-out reports by the policy that a round has learnt."""
    name = round_name(round_)
    rows = run.arrow(f"heldout/{name}", HeldoutReport, ["text", "finish_reason", "control"]).to_pylist()
    own = [row for row in rows if not row["control"]]
    ended = [row["finish_reason"] == "stop" and bool(row["text"].strip()) for row in own]
    _check(config, f"heldout/{name}", [row["text"] for row in own], ended)


def _check(config: Config, name: str, texts: Sequence[str], usable: Sequence[bool]) -> None:
    ppo = config.learner.ppo
    if len(texts) < FEWEST:
        return
    ((_, times),) = Counter(texts).most_common(1)
    faults = []
    if (share := 1 - sum(usable) / len(usable)) > ppo.max_unusable:
        faults.append(f"{share:.0%} are empty or do not end, more than learner.ppo.max_unusable={ppo.max_unusable:g}")
    if times / len(texts) > ppo.max_same:
        faults.append(f"{times / len(texts):.0%} have the same words, more than learner.ppo.max_same={ppo.max_same:g}")
    if faults:
        raise RoundFailed(
            f"{name}: the policy has collapsed: of {len(texts)} reports {' and '.join(faults)}. The checkpoints before "
            "it stay; under another run.name raise learner.ppo.kl_weight, or lower learner.ppo.lr or epochs"
        )
