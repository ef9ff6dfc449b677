"""The feature store: shards that are whole or not there, and their size."""

import fcntl
import os
import threading
from pathlib import Path

import pytest
import torch

from rlaif.features import FeatureMissing, FeatureStore, ShardDamaged, feature_bytes
from rlaif.models.connectors.settings import MlpSettings, RegionSettings
from rlaif.models.encoders.settings import CTViTSettings, RadFMSettings
from rlaif.models.settings import PolicySettings
from rlaif.models.visual_input import RegionInput, VisualInput


def features(*keys: str) -> dict[str, VisualInput]:
    return {key: VisualInput(torch.full((3, 4), float(number))) for number, key in enumerate(keys)}


def test_what_is_written_is_read_back_as_float16(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "store")
    written = {"a": torch.randn(3, 4), "b": torch.randn(3, 4)}
    store.write({key: VisualInput(tensor) for key, tensor in written.items()})
    assert store.keys() == {"a", "b"}
    assert torch.equal(store.get("a").image, written["a"].half()) and store.regions("a") == ()


def test_a_studys_regions_come_back_with_their_masks(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    mask = (torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
    regions = {name: RegionInput(torch.randn(3, 4), mask.flip(number)) for number, name in enumerate(("lung", "bone"))}
    store.write({"a": VisualInput(torch.randn(3, 4), regions)} | features("b"))
    store.write(features("c"))
    store.compact(shard_bytes=10**6)
    for reader in (store, FeatureStore(tmp_path)):
        assert reader.keys() == {"a", "b", "c"} and reader.regions("a") == ("bone", "lung")
        found = reader.get("a")
        assert found.regions.keys() == {"lung", "bone"} and not reader.get("b").regions
        for name, region in regions.items():
            assert torch.equal(found.regions[name].image, region.image.half())
            assert torch.equal(found.regions[name].mask, region.mask)


def test_a_study_that_is_gone_has_no_regions_left(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    mask = torch.ones(2, 2, 2, dtype=torch.uint8)
    shard = store.write({"a": VisualInput(torch.randn(3, 4), {"lung": RegionInput(torch.randn(3, 4), mask)})})
    assert store.keys() == {"a"} and store.regions("a") == ("lung",)
    shard.unlink()
    assert store.keys() == set() and store.regions("a") == ()


def test_shards_of_other_writers_are_seen(tmp_path: Path) -> None:
    reader, writer = FeatureStore(tmp_path), FeatureStore(tmp_path)
    assert reader.keys() == set()
    writer.write(features("a"))
    assert reader.get("a").image.shape == (3, 4)


def test_a_missing_key_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FeatureMissing) as caught:
        FeatureStore(tmp_path).get("abc")
    assert str(caught.value) == f"features abc are not in {tmp_path}: run the ingest again"


def test_half_a_shard_is_never_read(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    path = store.write(features("a"))
    (tmp_path / f".{path.name}.tmp").write_bytes(path.read_bytes()[:20])
    assert FeatureStore(tmp_path).keys() == {"a"}


def test_the_store_is_its_owners_alone(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "store")
    path = store.write(features("a"))
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600


def test_compaction_keeps_every_key_and_readers_do_not_notice(tmp_path: Path) -> None:
    store, reader = FeatureStore(tmp_path), FeatureStore(tmp_path)
    for number in range(7):
        store.write({f"k{number}": VisualInput(torch.full((3, 4), float(number)))})
    assert len(reader.keys()) == 7
    store.compact(shard_bytes=400)
    shards = list(tmp_path.glob("shard-*.safetensors"))
    assert 1 <= len(shards) < 7
    for one in (store, reader, FeatureStore(tmp_path)):
        assert one.keys() == {f"k{number}" for number in range(7)}
        assert [float(one.get(f"k{number}").image[0, 0]) for number in range(7)] == [0, 1, 2, 3, 4, 5, 6]


def test_compaction_counts_what_was_encoded_twice_since_then(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    old = store.write({"a": VisualInput(torch.zeros(2, 3)), "b": VisualInput(torch.zeros(2, 3))})
    os.utime(old, (1000.0, 1000.0))
    for keys in ("ac", "cd", "d"):
        store.write({key: VisualInput(torch.ones(2, 3)) for key in keys})
    # a stands in one of before and one of since then; c and d in two of since then.
    assert store.compact(2**20, since=2000.0) == 2
    assert store.keys() == {"a", "b", "c", "d"} and len([*tmp_path.glob("shard-*")]) == 1
    store.write({"a": VisualInput(torch.ones(2, 3))})
    assert store.compact(2**20) == 0


def test_compaction_leaves_large_shards_and_a_single_small_one_alone(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    large = store.write({"large": VisualInput(torch.zeros(64, 64))})
    small = store.write(features("small"))
    store.compact(shard_bytes=4096)
    assert set(tmp_path.glob("shard-*")) == {large, small}


def test_a_second_compaction_at_the_same_time_does_nothing(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    shards = {store.write(features(key)) for key in "abc"}
    with (tmp_path / ".compacting").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        store.compact(shard_bytes=2**20)
    assert set(tmp_path.glob("shard-*")) == shards
    store.compact(shard_bytes=2**20)
    assert len(list(tmp_path.glob("shard-*"))) == 1


def test_readers_and_writers_share_a_store_that_is_compacted(tmp_path: Path) -> None:
    reader, stop = FeatureStore(tmp_path), threading.Event()
    written: list[str] = []

    def write_and_compact() -> None:
        writer = FeatureStore(tmp_path)
        for number in range(40):
            writer.write({f"k{number}": VisualInput(torch.full((3, 4), float(number)))})
            written.append(f"k{number}")
            if number % 4 == 3:
                writer.compact(shard_bytes=2000)
        stop.set()

    thread = threading.Thread(target=write_and_compact)
    thread.start()
    while not stop.is_set():
        known = len(written)
        assert [float(reader.get(f"k{number}").image[0, 0]) for number in range(known)] == list(range(known))
        assert len(FeatureStore(tmp_path).keys()) >= known
    thread.join()
    assert reader.keys() == {f"k{number}" for number in range(40)}


def test_a_kill_while_compacting_leaves_keys_twice_and_readable(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    store.write(features("a", "b"))
    store.write(features("a", "b", "c"))
    assert store.keys() == {"a", "b", "c"}
    store.compact(shard_bytes=2**20)
    assert len(list(tmp_path.glob("shard-*"))) == 1 and float(store.get("c").image[0, 0]) == 2.0


def test_the_size_of_features_is_known_before_they_are_made() -> None:
    # 3D-CT-GPT++'s pooled CTViT features of 50,000 studies, and mu2's eight frames of 256 tokens of 2,048 each.
    ctvit = CTViTSettings(volume=(240, 480, 480), patch=(15, 30, 30))
    radfm = RadFMSettings(volume=(64, 256, 256), patch=(4, 32, 32))
    common = {"name": "x", "size": "x", "recipe": "x"}
    assert feature_bytes(50_000, PolicySettings(**common, encoder=ctvit, connector=MlpSettings())) == 26_214_400_000
    regions = PolicySettings(**common, encoder=radfm, connector=RegionSettings())
    assert feature_bytes(24_000, regions) == 24_000 * 11 * 1024 * 768 * 2
    assert feature_bytes(9, PolicySettings(name="x", size="x", recipe=None, encoder=None, connector=None)) == 0


def test_a_writers_small_shards_become_one_as_they_reach_the_size(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    for number in range(40):
        store.write({f"k{number}": VisualInput(torch.full((64, 64), float(number)))}, compact_at=64 * 64 * 2 * 8)
        assert len(list(tmp_path.glob("shard-*"))) <= 40 // 8 + 8
    assert len(list(tmp_path.glob("shard-*"))) <= 40 // 8 + 1
    assert [float(store.get(f"k{number}").image[0, 0]) for number in range(40)] == list(range(40))


def test_two_writers_that_compact_lose_nothing(tmp_path: Path) -> None:
    def write(start: int) -> None:
        writer = FeatureStore(tmp_path)
        for number in range(start, start + 40):
            writer.write({f"k{number}": VisualInput(torch.full((16, 16), float(number)))}, compact_at=2000)

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = FeatureStore(tmp_path)
    assert store.keys() == {f"k{number}" for number in range(80)}
    assert all(float(store.get(f"k{number}").image[0, 0]) == number for number in range(80))
    store.compact(2**20)
    assert len(list(tmp_path.glob("shard-*"))) == 1 and len(store.keys()) == 80


def test_what_a_killed_writer_left_is_removed_when_it_is_old(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    old, new = tmp_path / ".shard-a.safetensors.tmp", tmp_path / ".shard-b.safetensors.tmp"
    for path in (old, new):
        path.write_bytes(b"torn")
    os.utime(old, (1e9, 1e9))
    store.compact(2**20)
    assert not old.exists() and new.exists()


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    path = FeatureStore(tmp_path).write(features("a"))
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ShardDamaged, match=f"{path.name} is damaged .* remove it"):
        FeatureStore(tmp_path).keys()
