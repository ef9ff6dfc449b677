"""What is said of a configuration that does not fit: the key in question, what is wrong, the nearest right one."""

import difflib
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel


def place_of(location: tuple[int | str, ...], values: Any) -> str:
    """The dotted key of a fault, without the names of union members that Pydantic puts in between."""
    parts: list[str] = []
    here = values
    for part in location:
        if isinstance(here, dict) and (part in here or part not in (here.get("name"), here.get("kind"))):
            parts.append(str(part))
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int):
            parts.append(str(part))
            here = here[part] if part < len(here) else None
    return ".".join(parts)


def explain(place: str, fault: Any, values: dict[str, Any], root: type[BaseModel]) -> str:
    """One line on a fault that Pydantic found in `values`, whose keys are those of `root`."""
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        known = known_keys(root)
        if place in known:
            section = place.partition(".")[0]
            return f"{place} is no setting of {section}={values[section].get('name')}: leave it out"
        near = nearest(place, known)
        return f"unknown key {place}" + (f"; did you mean {near}?" if near else "")
    if fault["type"] == "missing":
        return f"{place} is missing: set {place}=…"
    given = "" if isinstance(fault["input"], dict | BaseModel) else f" (got {fault['input']!r})"
    return (f"{place}: " if place else "") + message + given


def known_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted key that a section has, in any of its choices."""
    keys: dict[str, None] = {}
    for name, field in section.model_fields.items():
        keys[prefix + name] = None
        for kind in _sections(field.annotation):
            keys |= dict.fromkeys(known_keys(kind, f"{prefix}{name}."))
    return list(keys)


def keys_of_other_kinds(section: type[BaseModel], name: str, given: Any) -> list[str]:
    """The keys given for a part of a section that the part's `kind` lacks and another kind of it has."""
    parts = [part for part in _sections(section.model_fields[name].annotation) if "kind" in part.model_fields]
    kinds = {part.model_fields["kind"].default: set(part.model_fields) for part in parts}
    if not isinstance(given, dict) or given.get("kind") not in list(kinds):
        return []
    known = set().union(*kinds.values())
    return [key for key in given if key in known - kinds[given["kind"]]]


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections within an annotation, such as those of a union; those of a list have no key of their own."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in () if get_origin(annotation) is tuple else get_args(annotation):
        yield from _sections(part)


def nearest(key: str, keys: list[str]) -> str | None:
    """The known key that looks most like the given one, or that ends alike; None where none does."""
    close = difflib.get_close_matches(key, keys, n=1, cutoff=0.6)
    if not close:
        last = key.rpartition(".")[2]
        close = [known for known in keys if known.rpartition(".")[2] == last][:1]
    return close[0] if close else None
