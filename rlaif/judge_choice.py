"""Judges by name: wherever a configuration lists judges, each is a name, or a mapping with a name and what differs.

`[rules, {judge: gpt4, name: local, model: my-model}]` takes the values of configs/judge/rules.yaml, and those of
configs/judge/gpt4.yaml with another name and model.
"""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from rlaif.config_faults import nearest


def with_judges(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The configuration's values with `judge.members`, `heldout.judges` and `score.judges` in full, from the files of
    `folder`.

    Raises ValueError for a judge that is not there and for an entry that names none.
    """
    placed = deepcopy(values)
    for section, key in (("judge", "members"), ("heldout", "judges"), ("score", "judges")):
        part = placed.get(section)
        if isinstance(part, dict) and isinstance(part.get(key), list):
            part[key] = [named_judge(entry, f"{section}.{key}", folder) for entry in part[key]]
    for section in ("heldout", "score"):
        for judge in (placed.get(section) or {}).get("judges") or ():
            if isinstance(judge, dict) and isinstance(judge.get("members"), list):
                judge["members"] = [named_judge(entry, "members", folder) for entry in judge["members"]]
    return placed


def named_judge(entry: Any, place: str, folder: Path) -> Any:
    """The values of one entry of a list of judges; one that says its kind itself stays as it is."""
    if isinstance(entry, Mapping) and "kind" in entry and "judge" not in entry:
        return dict(entry)
    name = entry.get("judge") if isinstance(entry, Mapping) else entry
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in names:
        near = nearest(str(name), names)
        hint = f"; did you mean {near}?" if near else ""
        raise ValueError(f"{place}: there is no judge {name}{hint}; there are {', '.join(names)}")
    own = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    changed = {key: value for key, value in entry.items() if key != "judge"} if isinstance(entry, Mapping) else {}
    values = {**own, **changed}
    if missing := [key for key, value in values.items() if value == "???"]:
        raise ValueError(f"{place}: judge {name} needs {missing[0]}: write {{judge: {name}, {missing[0]}: ...}}")
    return values
