"""Ingest on Ray Data: features are those of a direct computation, bad studies are set aside, nothing is done twice."""

import gzip
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

from actors.ingest import IngestStalled, in_time, ingest, read_studies, rows_of
from actors.ingest_steps import batch_of
from rlaif.datasets import phantom
from rlaif.datasets.phantom_settings import PhantomSettings
from rlaif.datasets.registry import load_phantom
from rlaif.datasets.settings import PhantomDataSettings
from rlaif.features import FeatureStore
from rlaif.files import checksum_of
from rlaif.models.policy import load_encoder
from rlaif.records import Ingested, Quarantined, Study
from rlaif.volumes.grid import read_grid
from rlaif.volumes.recipes import RECIPES
from rlaif.volumes.regions import RegionMasks, region_inputs
from rlaif.volumes.resampling import apply
from rlaif.volumes.source import VolumeSource
from rlaif.volumes.volume import read_volume

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
GUIDED = 11
"""Views of a region-guided policy: the scan, and ten regions."""


def study(name: str, volume: Path | str) -> Study:
    return Study(name, f"patient-{name}", "phantom", "align", str(volume))


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five CTs of the phantom."""
    root = tmp_path_factory.mktemp("phantom")
    phantom.generate(root, PhantomSettings(sft=5, align=0, heldout=0, seed=3), workers=1)
    return sorted(root.rglob("*.nii.gz"))


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory) -> list[Study]:
    """Three studies of the phantom with their regions."""
    root = tmp_path_factory.mktemp("regions")
    settings = PhantomDataSettings(sft=3, align=0, heldout=0, seed=5, regions=True)
    phantom.generate(root, settings.generator, workers=1)
    return load_phantom(settings, root).studies


def answers(
    studies: list[Study], small: Any, store: Path | None, *, views: int = 1
) -> dict[str, Ingested | Quarantined]:
    """Every study's answer; what the store holds already is asked for again."""
    settings = small.config("ingest.batch=2").ingest
    encoder = checksum_of(small.first / "encoder.safetensors")
    keys = {}
    for one in studies:
        with suppress(FileNotFoundError):
            masks = one.regions or {} if views > 1 else None
            keys[one.study_id] = VolumeSource.of(one).feature_key(RECIPES["phantom"], "canonical", encoder, masks)
    found: dict[str, Ingested | Quarantined] = {}
    where = None if store is None else (small.first, store)
    for one in ingest(studies, keys, "phantom", "canonical", settings, where, views=views):
        assert one.study_id not in found
        found[one.study_id] = one
    return found


def run(studies: list[Study], small: Any, store: Path | None) -> tuple[dict[str, str | None], dict[str, str]]:
    """Feature keys of the good studies and reasons of the bad ones, each by study."""
    found = answers(studies, small, store)
    assert found.keys() == {one.study_id for one in studies}
    bad = {name: one for name, one in found.items() if isinstance(one, Quarantined)}
    assert all(one.stage == "ingest" for one in bad.values())
    keys = {name: one.feature_key for name, one in found.items() if isinstance(one, Ingested)}
    return keys, {name: one.reason for name, one in bad.items()}


def direct(small: Any, volume: Path) -> Tensor:
    voxels = torch.from_numpy(apply(RECIPES["phantom"], read_volume(volume))).half().float()
    with torch.inference_mode():
        return load_encoder(small.first)(voxels[None])[0]


def test_good_studies_get_their_features_and_bad_ones_a_reason(
    cluster: None, small: Any, volumes: list[Path], tmp_path: Path
) -> None:
    torn, empty = tmp_path / "torn.nii.gz", tmp_path / "empty.nii.gz"
    torn.write_bytes(volumes[4].read_bytes()[:-4000])
    empty.touch()
    studies = [study(f"good-{number}", volume) for number, volume in enumerate(volumes[:4])]
    studies[2:2] = [study("torn", torn), study("gone", tmp_path / "gone.nii.gz"), study("empty", empty)]
    keys, reasons = run(studies, small, tmp_path / "store")
    assert keys.keys() == {"good-0", "good-1", "good-2", "good-3"}
    assert reasons.keys() == {"torn", "gone", "empty"}
    assert "gone.nii.gz" in reasons["gone"] and "torn.nii.gz" in reasons["torn"]
    assert all("\n" not in reason for reason in reasons.values())
    store = FeatureStore(tmp_path / "store")
    assert store.keys() == set(keys.values())
    for number, volume in enumerate(volumes[:4]):
        expected = direct(small, volume)
        key = keys[f"good-{number}"]
        assert key is not None
        found = store.get(key).image
        assert found.dtype == torch.float16 and found.shape == expected.shape
        assert float((found.float() - expected).abs().max()) < 2e-3 * float(expected.abs().max())


def test_volumes_in_a_bucket_give_the_features_of_the_disk(
    cluster: None, small: Any, volumes: list[Path], bucket: Any, tmp_path: Path
) -> None:
    (tmp_path / "cts").mkdir()
    for volume in volumes[:2]:
        shutil.copy(volume, tmp_path / "cts")
    address = bucket.upload(tmp_path / "cts", "ingest")
    there = [address.replace("?", f"/{volume.name}?") for volume in volumes[:2]]
    studies = [study(f"s{number}", location) for number, location in enumerate(there)]
    found = answers([*studies, study("gone", address.replace("?", "/gone.nii.gz?"))], small, tmp_path / "store")
    gone = found.pop("gone")
    assert isinstance(gone, Quarantined) and "does not exist" in gone.reason
    store = FeatureStore(tmp_path / "store")
    for one, volume in zip(found.values(), sorted(volumes[:2]), strict=True):
        assert isinstance(one, Ingested) and one.feature_key is not None
        assert one.read_s > 0 and one.recipe_s > 0 and one.encode_s > 0
        expected = direct(small, volume)
        assert float((store.get(one.feature_key).image.float() - expected).abs().max()) < 2e-3 * float(
            expected.abs().max()
        )


def test_without_an_encoder_volumes_are_read_and_nothing_is_written(
    cluster: None, small: Any, volumes: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "torn.nii.gz").write_bytes(volumes[4].read_bytes()[:-4000])
    found = answers([study("good", volumes[0]), study("torn", tmp_path / "torn.nii.gz")], small, None)
    assert isinstance(found["torn"], Quarantined)
    good = found["good"]
    assert isinstance(good, Ingested) and good.read_s > 0 and good.recipe_s > 0 and good.encode_s == 0


def test_what_tables_say_of_a_volume_is_applied(cluster: None, small: Any, volumes: list[Path], tmp_path: Path) -> None:
    image = nibabel.load(volumes[0])
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj) + np.int16(1024), image.affine), tmp_path / "s.nii.gz")
    stored = study("stored", tmp_path / "s.nii.gz")
    keys, reasons = run([stored], small, tmp_path / "store")
    assert not keys and "not HU" in reasons["stored"]
    keys, reasons = run([replace(stored, rescale=(1.0, -1024.0))], small, tmp_path / "store")
    assert not reasons and keys["stored"] is not None
    expected = direct(small, volumes[0])
    found = FeatureStore(tmp_path / "store").get(keys["stored"]).image
    assert float((found.float() - expected).abs().max()) < 2e-3 * float(expected.abs().max())


def test_a_mask_that_lies_elsewhere_is_told_before_a_model_needs_it(
    cluster: None, small: Any, volumes: list[Path], tmp_path: Path
) -> None:
    image = nibabel.load(volumes[0])
    moved = image.affine.copy()
    moved[0, 3] += 30.0
    for name, affine in (("fits", image.affine), ("moved", moved)):
        nibabel.save(nibabel.Nifti1Image(np.ones(image.shape, np.uint8), affine), tmp_path / f"{name}.nii.gz")
    fitting, moved_mask = (str(tmp_path / f"{name}.nii.gz") for name in ("fits", "moved"))
    studies = [
        replace(study("fits", volumes[0]), regions={"lung": (fitting,), "heart": (f"{fitting}#1",)}),
        replace(study("moved", volumes[0]), regions={"lung": (fitting, moved_mask)}),
    ]
    found = answers(studies, small, None)
    fits, told = found["fits"], found["moved"]
    assert isinstance(fits, Ingested) and fits.remarks == ()
    assert isinstance(told, Ingested) and len(told.remarks) == 1
    assert "mask cannot be used" in told.remarks[0] and "30 mm off the voxels of the CT" in told.remarks[0]


def test_a_region_guided_policy_gets_scan_regions_and_masks(
    cluster: None, small: Any, guided: list[Study], tmp_path: Path
) -> None:
    found = answers(guided, small, tmp_path / "store", views=GUIDED)
    store, encoder = FeatureStore(tmp_path / "store"), load_encoder(small.first)
    assert store.keys() == {str(one.feature_key) for one in found.values() if isinstance(one, Ingested)}
    for study in guided:
        answer = found[study.study_id]
        assert isinstance(answer, Ingested) and answer.feature_key is not None and answer.remarks == ()
        assert study.regions is not None and study.volume is not None
        assert answer.regions == store.regions(answer.feature_key) == tuple(sorted(study.regions))
        volume, masks = read_volume(Path(study.volume)), RegionMasks(read_grid(Path(study.volume)))
        inputs = region_inputs(RECIPES["phantom"], volume, masks.read_all(study.regions))
        stored = store.get(answer.feature_key)
        parts = [(stored.image, apply(RECIPES["phantom"], volume))]
        parts += [(stored.regions[name].image, image) for name, image in inputs.images.items()]
        assert len(parts) == 1 + len(stored.regions) == 9
        for features, voxels in parts:
            with torch.inference_mode():
                expected = encoder(torch.from_numpy(voxels).half().float()[None])[0]
            assert features.dtype == torch.float16 and features.shape == expected.shape
            assert float((features.float() - expected).abs().max()) < 2e-3 * float(expected.abs().max())
        for name, mask in inputs.geometry.items():
            assert stored.regions[name].mask.dtype == torch.uint8
            assert np.array_equal(stored.regions[name].mask.numpy(), np.rint(mask[0] * 255))


def test_studies_whose_regions_cannot_be_used_are_set_aside_and_single_ones_left_out(
    cluster: None, small: Any, guided: list[Study], tmp_path: Path
) -> None:
    first, second, third = guided
    assert first.regions is not None and second.regions is not None and third.regions is not None
    image = nibabel.load(first.regions["lung"][0])
    empty = str(tmp_path / "empty.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), empty)
    moved = image.affine.copy()
    moved[0, 3] += 30.0
    nibabel.save(nibabel.Nifti1Image(np.ones(image.shape, np.uint8), moved), tmp_path / "moved.nii.gz")
    studies = [
        replace(first, study_id="none", regions=None),
        replace(first, study_id="empty", regions={"lung": (empty,)}),
        replace(second, study_id="moved", regions=second.regions | {"lung": (str(tmp_path / "moved.nii.gz"),)}),
        replace(third, study_id="lacking", regions=third.regions | {"lung": (empty,)}),
        replace(third, study_id="lacking-on-disk", regions=third.regions | {"lung": (str(tmp_path / "gone.nii.gz"),)}),
    ]
    found = answers(studies, small, tmp_path / "store", views=GUIDED)
    reasons = {name: one.reason for name, one in found.items() if isinstance(one, Quarantined)}
    assert reasons.keys() == {"none", "empty", "moved", "lacking-on-disk"}
    assert "no region masks, which a region-guided policy reads" in reasons["none"]
    assert "none of its regions can be used (lung: its mask is empty)" in reasons["empty"]
    assert (
        "moved.nii.gz: lies up to" in reasons["moved"] and "gone.nii.gz: does not exist" in reasons["lacking-on-disk"]
    )
    kept = found["lacking"]
    assert isinstance(kept, Ingested) and kept.regions == tuple(sorted(third.regions.keys() - {"lung"}))
    assert kept.remarks == ("region lung is left out: its mask is empty",)
    assert FeatureStore(tmp_path / "store").get(str(kept.feature_key)).regions.keys() == set(kept.regions)
    # The same studies are good enough for a policy that reads whole scans.
    whole = answers(studies[:2], small, tmp_path / "store")
    assert all(isinstance(one, Ingested) and one.regions is None for one in whole.values())


def test_regions_are_read_without_an_encoder_too(cluster: None, small: Any, guided: list[Study]) -> None:
    found = answers([guided[0], replace(guided[1], regions=None)], small, None, views=GUIDED)
    good, bad = found[guided[0].study_id], found[guided[1].study_id]
    assert isinstance(good, Ingested) and good.regions == tuple(sorted(guided[0].regions or {})) and good.recipe_s > 0
    assert isinstance(bad, Quarantined) and "no region masks" in bad.reason


def test_training_an_encoder_loses_no_study_without_a_word(cluster: None, small: Any, volumes: list[Path]) -> None:
    # What the ingest gives up is read again one by one; here it would be missing from the training.
    assert len(answers([study("a", volumes[0])], small, None)) == 1
    rows = rows_of([study("a", volumes[0])], {})
    data = read_studies(rows, "phantom", "canonical", small.config().ingest)
    assert data.context.max_errored_blocks == 0


def test_a_study_that_kills_every_process_that_reads_it_is_set_aside_and_the_others_are_kept(
    cluster: None, ray_head: Any, small: Any, volumes: list[Path], tmp_path: Path
) -> None:
    # Large enough to be seen while it is read.
    poison = tmp_path / "poison.nii.gz"
    with gzip.open(poison, "wb", compresslevel=1) as file:
        header = nibabel.Nifti1Header()
        header.set_data_dtype(np.int16)
        header.set_data_shape((512, 512, 300))
        header.set_sform(np.eye(4), code=1)
        header["vox_offset"] = 352
        noise = np.random.default_rng(0).integers(-1000, 1000, (512, 512), dtype=np.int16).tobytes()
        file.write(header.binaryblock + bytes(4) + noise * 300)
    stopped, deaths = threading.Event(), set[int]()

    def kill_readers() -> None:
        while not stopped.is_set():
            for process in psutil.Process(ray_head.pid).children(recursive=True):
                with suppress(psutil.Error):
                    if any(one.path == str(poison) for one in process.open_files()):
                        process.kill()
                        deaths.add(process.pid)
            time.sleep(0.01)

    killer = threading.Thread(target=kill_readers)
    killer.start()
    try:
        good = [study(f"good-{number}", volume) for number, volume in enumerate(volumes)]
        keys, reasons = run([*good[:2], study("poison", poison), *good[2:]], small, tmp_path / "store")
    finally:
        stopped.set()
        killer.join()
    assert keys.keys() == {one.study_id for one in good}
    assert "every process that read it died" in reasons["poison"]
    # Once and twice again in its block, and once alone.
    assert len(deaths) == 4


def test_rows_that_stop_coming_end_the_wait() -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"study_id": "a"}
        time.sleep(30)

    found = []
    with pytest.raises(IngestStalled, match=r"no study was finished in 0\.3 s"):
        for row in in_time(rows(), 0.3):
            found.append(row)
    assert found == [{"study_id": "a"}]


def test_an_error_among_rows_is_raised_where_they_are_waited_for() -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"study_id": "a"}
        raise ZeroDivisionError("a fault of ours")

    with pytest.raises(ZeroDivisionError, match="a fault of ours"):
        list(in_time(rows(), 5.0))


def test_batches_fit_in_memory_whatever_the_recipe() -> None:
    assert batch_of(RECIPES["phantom"].size, 1, 64) == 64
    assert batch_of(RECIPES["ctclip_v1"].size, 1, 64) == 1
    assert batch_of(RECIPES["m3d"].size, 1, 64) == 32
    assert batch_of(RECIPES["argus_high"].size, 1, 64) == 1
    # A region-guided policy's study is the scan and ten regions.
    assert batch_of(RECIPES["reg2rg"].size, 1, 64) == 16 and batch_of(RECIPES["reg2rg"].size, GUIDED, 64) == 1
    assert batch_of(RECIPES["phantom"].size, GUIDED, 64) == 64
