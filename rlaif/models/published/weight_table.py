"""Published weights under our own names: a table of names, and loading that takes all of them or none."""

import json
import pickle
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

# An index names each tensor once: the largest known ones take a few hundred kilobytes.
_INDEX_BYTES = 64 * 2**20
_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLES = ("model.safetensors", "pytorch_model.bin")
_TRAINER_KEYS = ("state_dict", "model_state_dict", "model", "module")
_LISTED = 8
# ASCII, no longer than file systems take, and never empty, `.` or `..`.
_FILE_NAME = re.compile(r"\w[\w.+-]{0,199}", re.ASCII)
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# What torch's reader raises where bytes are wrong, each of it seen with flipped ones.
_DAMAGE = (
    RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AssertionError, AttributeError,
    ArithmeticError, MemoryError, pickle.PickleError, struct.error,
)  # fmt: skip


class PublishedWeightsError(ValueError):
    """Published weights that cannot be read, or do not fit the module, with the reason."""


@dataclass(frozen=True)
class WeightTable:
    """How a publication's parameters and buffers are named here.

    `renames` are pairs of a pattern, which must match a published name as a whole, and the template of our name
    (`re.Match.expand`); the first that matches counts, and a name that one takes is never dropped. `dropped` are
    patterns of published names that have no place here. `new` are patterns of our names that the publication lacks:
    they keep their start. `changes` are pairs of a pattern of our names and what is done to the published values,
    which keeps their shape.
    """

    renames: tuple[tuple[str, str], ...]
    dropped: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    changes: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = ()


def load_published(module: nn.Module, published: Mapping[str, Tensor], table: WeightTable, source: str) -> None:
    """Gives the module's parameters and buffers the published values, in the module's own types and devices.

    `source` is what messages call the weights, such as their path. Raises PublishedWeightsError, with all that is
    missing, unknown, named twice, of another shape or not finite, and loads nothing then.
    """
    ours = module.state_dict()
    values: dict[str, Tensor] = {}
    unknown, twice = [], []
    for name, value in published.items():
        renamed = _renamed(name, table)
        if renamed is None:
            if not _matches(name, table.dropped):
                unknown.append(name)
        elif renamed not in ours:
            unknown.append(f"{name} (here {renamed})")
        elif renamed in values:
            twice.append(f"{name} (here {renamed})")
        else:
            values[renamed] = value
    missing = [name for name in ours if name not in values and not _matches(name, table.new)]
    unlike = [
        f"{name} {_described(value)}, here {_described(ours[name])}"
        for name, value in values.items()
        if _described(value) != _described(ours[name])
    ]
    faults = (("missing", missing), ("unknown", unknown), ("twice", twice), ("of another shape", unlike))
    if any(names for _, names in faults):
        told = "; ".join(f"{len(names)} {fault}: {_listed(names)}" for fault, names in faults if names)
        raise PublishedWeightsError(
            f"{source} does not fit {type(module).__name__} ({told}): nothing was loaded; check that the file, the "
            "table of names and the policy's size belong to one publication"
        )
    if wild := [name for name, value in values.items() if not (value.is_meta or torch.isfinite(value).all())]:
        raise PublishedWeightsError(
            f"{source} has {len(wild)} weights with values that are not finite (NaN or infinite): {_listed(wild)}; "
            "nothing was loaded: take the file anew, or an earlier checkpoint"
        )
    for name in values:
        for pattern, change in table.changes:
            if re.fullmatch(pattern, name):
                values[name] = change(values[name])
    # Not strict: the names that the table calls new are absent, and all others were checked above.
    module.load_state_dict(values, strict=False)


def read_published(path: Path) -> dict[str, Tensor]:
    """All tensors of a .safetensors, .pt, .pth or .bin file, or of a Hugging Face folder, on the CPU.

    A folder has an index (`model.safetensors.index.json`, `pytorch_model.bin.index.json`) or one file of weights.
    Nothing but tensors is unpickled. Raises PublishedWeightsError, which names the path, for what cannot be read and
    for sparse or quantised (float8) tensors.
    """
    return _read_folder(path) if path.is_dir() else _plain(_read_file(path), path)


def _read_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise PublishedWeightsError(f"{path} does not exist: name a file of weights or a Hugging Face folder")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise _unreadable(path, error) from error
    if path.suffix not in (".pt", ".pth", ".bin"):
        raise PublishedWeightsError(
            f"{path} has the ending {path.suffix!r}: known are .safetensors, .pt, .pth, .bin and Hugging Face folders"
        )
    try:
        # A mapped file costs no memory until its tensors are copied; files older than torch 1.6 cannot be mapped.
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except pickle.UnpicklingError as error:
        # Torch's own words advise to let the file run code.
        found = re.search(r"Unsupported global: GLOBAL (\S{1,200})", str(error))
        raise PublishedWeightsError(
            f"{path} cannot be read: it is damaged or holds more than tensors{f' ({found[1]})' if found else ''}; take "
            "it anew, or export it as a plain state dict where you trust it"
        ) from error
    except _DAMAGE as error:
        raise _unreadable(path, error) from error
    return _tensors(loaded, path)


def _plain(weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    if sparse := [name for name, value in weights.items() if value.layout != torch.strided]:
        raise PublishedWeightsError(f"{path} holds sparse tensors: {_listed(sparse)}; export them dense")
    packed = [
        f"{name} ({str(value.dtype).removeprefix('torch.')})"
        for name, value in weights.items()
        if value.is_quantized or (value.is_floating_point() and value.dtype not in _FLOATS)
    ]
    if packed:
        raise PublishedWeightsError(
            f"{path} holds quantised tensors: {_listed(packed)}; take or export the weights as bfloat16, float16 or "
            "float32"
        )
    return weights


def _read_folder(folder: Path) -> dict[str, Tensor]:
    index = next((folder / name for name in _INDICES if (folder / name).is_file()), None)
    if index is None:
        single = next((folder / name for name in _SINGLES if (folder / name).is_file()), None)
        if single is None:
            raise PublishedWeightsError(f"{folder} holds no weights: it has none of {', '.join(_INDICES + _SINGLES)}")
        return read_published(single)
    files = _indexed_files(index)
    weights: dict[str, Tensor] = {}
    for file in sorted(set(files.values())):
        held = read_published(folder / file)
        named = [name for name in files if files[name] == file]
        if absent := [name for name in named if name not in held]:
            raise PublishedWeightsError(f"{folder / file} lacks what {index.name} says is in it: {_listed(absent)}")
        weights.update((name, held[name]) for name in named)
    return weights


def _indexed_files(index: Path) -> dict[str, str]:
    """The file of each tensor, by name: files of the index's own folder only."""
    if index.stat().st_size > _INDEX_BYTES:
        raise PublishedWeightsError(f"{index} is larger than {_INDEX_BYTES // 2**20} MB: it is no index of weights")
    try:
        content = json.loads(index.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _unreadable(index, error) from error
    files = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(files, dict) or not files or not all(isinstance(file, str) for file in files.values()):
        raise PublishedWeightsError(f"{index} has no weight_map of tensor names and files: take the index anew")
    for file in set(files.values()):
        # Names alone are compared, as the files of a Hugging Face cache are links to elsewhere.
        if not _FILE_NAME.fullmatch(file) or (index.parent / file).is_dir():
            raise PublishedWeightsError(
                f"{index} names the file {file[:80]!r}: it must stand in the index's own folder, as a file"
            )
    return files


def _tensors(loaded: Any, path: Path) -> dict[str, Tensor]:
    """The state dict that a file holds as it is, or under the key where trainers put it.

    State dicts of several parts, each under its name, become one: `part.name`.
    """
    if isinstance(loaded, Mapping):
        inner = [loaded[key] for key in _TRAINER_KEYS if isinstance(loaded.get(key), Mapping)]
        if len(inner) == 1:
            loaded = inner[0]
    if isinstance(loaded, Mapping) and loaded and all(isinstance(part, Mapping) for part in loaded.values()):
        loaded = {f"{part}.{name}": value for part, held in loaded.items() for name, value in held.items()}
    if not isinstance(loaded, Mapping) or not loaded:
        raise PublishedWeightsError(f"{path} holds no named tensors but {type(loaded).__name__}: export a state dict")
    if others := [str(name) for name, value in loaded.items() if not isinstance(value, Tensor)]:
        raise PublishedWeightsError(
            f"{path} holds more than named tensors: {_listed(others)}; export the state dict alone"
        )
    return {str(name): value for name, value in loaded.items()}


def _renamed(name: str, table: WeightTable) -> str | None:
    for pattern, template in table.renames:
        if match := re.fullmatch(pattern, name):
            return match.expand(template)
    return None


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def _described(value: Tensor) -> str:
    # A copy onto the meta device would do nothing and say nothing, so there must be values on both sides or neither.
    kind = "numbers" if value.is_floating_point() else str(value.dtype).removeprefix("torch.")
    return f"{list(value.shape)} {kind}{' without values (meta)' if value.is_meta else ''}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _unreadable(path: Path, error: Exception) -> PublishedWeightsError:
    reason = " ".join(str(error).split())[:300]
    return PublishedWeightsError(f"{path} cannot be read ({reason}): take the file anew from its publication")
