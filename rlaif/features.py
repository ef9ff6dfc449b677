"""The feature store: encoder features of studies, in safetensors shards addressed by key.

A study's scan stands under its key, its regions under `key/region` and `key/region/mask`, all in one shard. Every
shard is written whole under a temporary name first, so a torn one is never read. A key that stands in two shards (a
kill while compacting) has the same features in both.
"""

import fcntl
import math
import os
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rlaif.models.settings import PolicySettings
from rlaif.models.tensor_files import write_tensors
from rlaif.models.visual_input import RegionInput, VisualInput

ABANDONED_S = 3600.0


class ShardDamaged(RuntimeError):
    """A shard of the store that cannot be read: which, and what to do."""


class FeatureMissing(KeyError):
    """Features that were asked for and are not in the store."""

    def __str__(self) -> str:
        return str(self.args[0])


def feature_bytes(studies: int, policy: PolicySettings) -> int:
    """The bytes of float16 features of so many studies at most, told before they are made; masks take little."""
    return 0 if policy.encoder is None else studies * policy.views * policy.encoder.tokens * policy.encoder.hidden * 2


class FeatureStore:
    """Reads and writes the shards of one folder; features are `[tokens, hidden]` float16, masks are compressed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._shards: dict[str, safe_open] = {}
        self._shard_of: dict[str, str] = {}
        self._regions: dict[str, list[str]] = {}
        self._written: dict[Path, int] = {}

    def _refresh(self) -> None:
        names = {path.name for path in self.folder.glob("shard-*.safetensors")}
        for gone in self._shards.keys() - names:
            del self._shards[gone]
        self._shard_of = {key: shard for key, shard in self._shard_of.items() if shard in names}
        self._regions = {key: regions for key, regions in self._regions.items() if key in self._shard_of}
        for name in sorted(names - self._shards.keys()):
            try:
                shard = safe_open(self.folder / name, framework="pt")
            except FileNotFoundError:
                # Another run is compacting: what was in this shard now stands in a newer one.
                return self._refresh()
            except SafetensorError as error:
                raise ShardDamaged(
                    f"{self.folder / name} is damaged ({error}): remove it, and start again to have its features "
                    "made anew"
                ) from error
            self._shards[name] = shard
            self._shard_of |= dict.fromkeys(shard.keys(), name)
            regions: dict[str, list[str]] = {}
            for part in sorted(shard.keys()):
                key, _, region = part.partition("/")
                if region and not region.endswith("/mask"):
                    regions.setdefault(key, []).append(region)
            self._regions |= regions

    def keys(self) -> set[str]:
        """Every key that is in the store now."""
        self._refresh()
        return {name for name in self._shard_of if "/" not in name}

    def get(self, key: str) -> VisualInput:
        """The features of a key; raises FeatureMissing."""
        if key not in self._shard_of:
            self._refresh()
        if key not in self._shard_of:
            raise FeatureMissing(f"features {key} are not in {self.folder}: run the ingest again")
        shard = self._shards[self._shard_of[key]]
        regions = {
            name: RegionInput(shard.get_tensor(f"{key}/{name}"), _unpacked(shard.get_tensor(f"{key}/{name}/mask")))
            for name in self._regions.get(key, ())
        }
        return VisualInput(shard.get_tensor(key), regions)

    def regions(self, key: str) -> tuple[str, ...]:
        """The regions that a key's features have."""
        return tuple(self._regions.get(key, ()))

    def write(self, studies: dict[str, VisualInput], compact_at: int | None = None) -> Path:
        """Writes one shard of studies by key, atomically and durably.

        With `compact_at`, the shards that this writer wrote become one as soon as they hold so many bytes.
        """
        tensors: dict[str, Tensor] = {}
        for key, study in studies.items():
            tensors[key] = _half(study.image)
            for name, region in study.regions.items():
                tensors |= {f"{key}/{name}": _half(region.image), f"{key}/{name}/mask": _packed(region.mask)}
        path = self._write(tensors)
        if compact_at is not None:
            self._written[path] = path.stat().st_size
            if len(self._written) > 1 and sum(self._written.values()) >= compact_at:
                # Another run may have merged some of them meanwhile.
                self._locked(lambda: self._merge([one for one in self._written if one.exists()]))
                self._written = {}
        return path

    def _write(self, tensors: dict[str, Tensor]) -> Path:
        path = self.folder / f"shard-{uuid.uuid4().hex}.safetensors"
        temporary = self.folder / f".{path.name}.tmp"
        write_tensors(tensors, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o600)
        os.replace(temporary, path)
        return path

    def compact(self, shard_bytes: int, since: float = math.inf) -> int:
        """Merges small shards into shards of about the given size; nothing where another run is doing so.

        Gives how many studies stood in two shards of those that were written since then (a time of the file system)
        and became one: they had been encoded twice.
        """
        return self._locked(lambda: self._compact(shard_bytes, since))

    def _locked(self, action: Callable[[], int]) -> int:
        with (self.folder / ".compacting").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return 0
            return action()

    def _compact(self, shard_bytes: int, since: float) -> int:
        # What a process left that was killed while it wrote a shard.
        for path in self.folder.glob(".shard-*.tmp"):
            if time.time() - path.stat().st_mtime > ABANDONED_S:
                path.unlink(missing_ok=True)
        small = sorted(
            path for path in self.folder.glob("shard-*.safetensors") if path.stat().st_size < shard_bytes // 2
        )
        group: list[Path] = []
        size = twice = 0
        for path in small:
            group.append(path)
            size += path.stat().st_size
            if size >= shard_bytes:
                twice += self._merge(group, since)
                group, size = [], 0
        if len(group) > 1:
            twice += self._merge(group, since)
        return twice

    def _merge(self, shards: list[Path], since: float = math.inf) -> int:
        """Makes one shard of several; gives how many studies stood in two of those that were written since then."""
        merged: dict[str, Tensor] = {}
        fresh: Counter[str] = Counter()
        for path in shards:
            written = path.stat().st_mtime >= since
            with safe_open(path, framework="pt") as shard:
                keys = list(shard.keys())
                merged |= {key: shard.get_tensor(key) for key in keys}
            fresh.update(key for key in keys if written and "/" not in key)
        self._write(merged)
        for path in shards:
            path.unlink()
        return sum(number - 1 for number in fresh.values())


def _half(features: Tensor) -> Tensor:
    return features.to(torch.float16).contiguous()


def _packed(mask: Tensor) -> Tensor:
    """A mask's sides and its compressed bytes: most of a region's mask is one long run."""
    values = mask.cpu().numpy().astype(np.uint8)
    sides = np.array(values.shape, "<i4").tobytes()
    return torch.frombuffer(bytearray(sides + zlib.compress(values.tobytes(), 1)), dtype=torch.uint8)


def _unpacked(packed: Tensor) -> Tensor:
    data = packed.numpy().tobytes()
    sides = tuple(int(side) for side in np.frombuffer(data[:12], "<i4"))
    return torch.frombuffer(bytearray(zlib.decompress(data[12:])), dtype=torch.uint8).reshape(sides)
