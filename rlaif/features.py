"""The feature store: encoder features of studies, in safetensors shards addressed by key.

Every shard is written whole under a temporary name first, so a torn one is never read. A key that
stands in two shards (a kill while compacting) has the same features in both.
"""

import fcntl
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

ABANDONED_S = 3600.0


class ShardDamaged(RuntimeError):
    """A shard of the store that cannot be read: which, and what to do."""


class FeatureMissing(KeyError):
    """Features that were asked for and are not in the store."""

    def __str__(self) -> str:
        return str(self.args[0])


def feature_bytes(studies: int, tokens: int, hidden: int) -> int:
    """The bytes of float16 features of so many studies, told before they are made."""
    return studies * tokens * hidden * 2


class FeatureStore:
    """Reads and writes the shards of one folder; features are `[tokens, hidden]` float16."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._shards: dict[str, safe_open] = {}
        self._shard_of: dict[str, str] = {}
        self._written: dict[Path, int] = {}

    def _refresh(self) -> None:
        names = {path.name for path in self.folder.glob("shard-*.safetensors")}
        for gone in self._shards.keys() - names:
            del self._shards[gone]
        self._shard_of = {key: shard for key, shard in self._shard_of.items() if shard in names}
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

    def keys(self) -> set[str]:
        """Every key that is in the store now."""
        self._refresh()
        return set(self._shard_of)

    def get(self, key: str) -> Tensor:
        """The features of a key; raises FeatureMissing."""
        if key not in self._shard_of:
            self._refresh()
        if key not in self._shard_of:
            raise FeatureMissing(f"features {key} are not in {self.folder}: run the ingest again")
        return self._shards[self._shard_of[key]].get_tensor(key)

    def batch(self, keys: list[str]) -> Tensor:
        """The features `[keys, tokens, hidden]` of several keys."""
        return torch.stack([self.get(key) for key in keys])

    def write(self, features: dict[str, Tensor], compact_at: int | None = None) -> Path:
        """Writes one shard, atomically and durably.

        With `compact_at`, the shards that this writer wrote become one as soon as they hold so many bytes.
        """
        path = self.folder / f"shard-{uuid.uuid4().hex}.safetensors"
        temporary = self.folder / f".{path.name}.tmp"
        save_file({key: tensor.to(torch.float16).contiguous() for key, tensor in features.items()}, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o600)
        os.replace(temporary, path)
        if compact_at is not None:
            self._written[path] = path.stat().st_size
            if len(self._written) > 1 and sum(self._written.values()) >= compact_at:
                # Another run may have merged some of them meanwhile.
                self._locked(lambda: self._merge([one for one in self._written if one.exists()]))
                self._written = {}
        return path

    def compact(self, shard_bytes: int) -> None:
        """Merges small shards into shards of about the given size; nothing where another run is doing so."""
        self._locked(lambda: self._compact(shard_bytes))

    def _locked(self, action: Callable[[], None]) -> None:
        with (self.folder / ".compacting").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            action()

    def _compact(self, shard_bytes: int) -> None:
        # What a process left that was killed while it wrote a shard.
        for path in self.folder.glob(".shard-*.tmp"):
            if time.time() - path.stat().st_mtime > ABANDONED_S:
                path.unlink(missing_ok=True)
        small = sorted(
            path for path in self.folder.glob("shard-*.safetensors") if path.stat().st_size < shard_bytes // 2
        )
        group: list[Path] = []
        size = 0
        for path in small:
            group.append(path)
            size += path.stat().st_size
            if size >= shard_bytes:
                self._merge(group)
                group, size = [], 0
        if len(group) > 1:
            self._merge(group)

    def _merge(self, shards: list[Path]) -> None:
        merged: dict[str, Tensor] = {}
        for path in shards:
            with safe_open(path, framework="pt") as shard:
                merged |= {key: shard.get_tensor(key) for key in shard.keys()}  # noqa: SIM118 (not a dict)
        self.write(merged)
        for path in shards:
            path.unlink()
