"""Which policy writes a round's candidates, settled durably before the first of them.

Version 0 of the policy is the base, version k what round k - 1 learnt.
"""

from pathlib import Path

from rlaif.ledger import RunFolder


def round_name(round_: int) -> str:
    """The folder name of a round."""
    return f"round-{round_:03d}"


def policy_at(run: RunFolder, base: Path, version: int) -> Path:
    """The folder of a version of the policy."""
    return run.path / round_name(version - 1) / "checkpoint" if version else base


def planned_version(run: RunFolder, round_: int, version: int) -> int:
    """The version that writes a round's candidates of all cases: what was settled before, else `version` from now on.

    So a run that was killed goes on with the policy that it began the round with, whatever has been learnt since.
    """
    plan = f"{round_name(round_)}/sampling-plan.json"
    if not (run.path / plan).is_file():
        run.write_json(plan, {"version": version})
    return int(run.read_json(plan)["version"])


def needed_checkpoints(run: RunFolder) -> set[str]:
    """The rounds whose checkpoints write candidates of rounds that are not sampled yet."""
    pending = [path.parent.name for path in run.path.glob("round-*/sampling-plan.json")]
    versions = [run.read_json(f"{name}/sampling-plan.json")["version"] for name in pending]
    left = [version for name, version in zip(pending, versions, strict=True) if not run.done(f"{name}/learn")]
    return {round_name(version - 1) for version in left if version}
