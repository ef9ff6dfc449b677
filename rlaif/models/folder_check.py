"""A policy folder, looked at before anything starts: its files' headers, its tokenizer, and the shortest prompt."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoTokenizer

from rlaif.models.policy import CONNECTOR_FILE, ENCODER_FILE, LANGUAGE_MODEL, Policy
from rlaif.models.prompt import PromptWriter
from rlaif.models.settings import PolicyError
from rlaif.reports.prompts import sample_prompt
from rlaif.volumes.recipes import check_recipe

_LISTED = 4
Shapes = Mapping[str, list[int]]


def check_folder(folder: Path, policy: Policy, *, max_length: int, max_tokens: int) -> None:
    """Raises PolicyError where a folder's weights are not those of the policy that its settings and configuration
    describe (on the meta device, with its encoder), or its prompts leave no room for a report.
    """
    settings = policy.settings
    if max_length > policy.positions:
        raise PolicyError(
            f"sampler.max_length={max_length} is more than the {policy.positions} positions of the language model in "
            f"{folder}: lower it"
        )
    if settings.recipe is not None and settings.encoder is not None:
        try:
            check_recipe(settings.recipe, settings.encoder.volume)
        except ValueError as error:
            raise PolicyError(f"{folder}: {error}") from error
    for part, name in ((policy.encoder, ENCODER_FILE), (policy.connector, CONNECTOR_FILE)):
        if part is not None:
            _compare(folder / name, _shapes(folder / name), part, set())
    place = folder / LANGUAGE_MODEL
    tied = {"lm_head.weight"} if policy.language_model.config.tie_word_embeddings else set()
    found: dict[str, list[int]] = {}
    for file in _files(place):
        found |= _shapes(file)
    if found:
        _compare(place, found, policy.language_model, tied)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise PolicyError(f"{place} holds no tokenizer that can be read: {' '.join(str(error).split())}") from error
    length = len(PromptWriter(settings, tokenizer, policy.positions).prompt(sample_prompt(settings)).ids)
    if length + max_tokens > max_length:
        raise PolicyError(
            f"the prompts of {folder} take {length} positions, which leaves no room for sampler.max_tokens="
            f"{max_tokens} in sampler.max_length={max_length}: raise the last, or lower the one before"
        )


def _files(place: Path) -> list[Path]:
    """The language model's files of weights; none where it has other ones than safetensors, which are not looked at."""
    index = place / "model.safetensors.index.json"
    if not index.is_file():
        single = place / "model.safetensors"
        if not single.is_file() and not any(place.glob("*.bin")):
            raise PolicyError(f"{place} holds no weights: it has no model.safetensors")
        return [single] if single.is_file() else []
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise PolicyError(f"{index} is no index of weights: take the folder anew") from error
    return [place / name for name in sorted(names)]


def _shapes(path: Path) -> dict[str, list[int]]:
    """Names and shapes of a file's tensors, from its header."""
    if not path.is_file():
        raise PolicyError(f"{path} is no file: a policy folder has one there")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise PolicyError(f"{path} is damaged ({error}): take it anew") from error


def _compare(path: Path, found: Shapes, module: nn.Module, optional: set[str]) -> None:
    expected = {name: list(one.shape) for name, one in module.state_dict().items()}
    missing = [name for name in expected if name not in found and name not in optional]
    unknown = [name for name in found if name not in expected]
    unlike = [
        f"{name} {found[name]}, not {shape}" for name, shape in expected.items() if found.get(name, shape) != shape
    ]
    faults = (("missing", missing), ("unknown", unknown), ("of another shape", unlike))
    if any(names for _, names in faults):
        told = "; ".join(f"{len(names)} {fault}: {_listed(names)}" for fault, names in faults if names)
        raise PolicyError(f"{path} does not hold what the folder says of itself ({told})")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
