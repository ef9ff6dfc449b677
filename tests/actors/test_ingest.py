"""Ingest on Ray Data: features are those of a direct computation, bad studies are set aside, nothing is done twice."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from actors.ingest import ingest
from rlaif.datasets import phantom
from rlaif.datasets.phantom_settings import PhantomSettings
from rlaif.features import FeatureStore
from rlaif.files import checksum_of
from rlaif.models.policy import load_encoder
from rlaif.records import Ingested, Quarantined, Study
from rlaif.volumes.recipes import RECIPES
from rlaif.volumes.resampling import apply
from rlaif.volumes.volume import read_volume

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def study(name: str, volume: Path) -> Study:
    return Study(name, f"patient-{name}", "phantom", "align", str(volume))


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five CTs of the phantom."""
    root = tmp_path_factory.mktemp("phantom")
    phantom.generate(root, PhantomSettings(sft=5, align=0, heldout=0, seed=3), workers=1)
    return sorted(root.rglob("*.nii.gz"))


def run(studies: list[Study], small: Any, store: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Feature keys of the good studies and reasons of the bad ones, each by study."""
    settings = small.config("ingest.batch=2").ingest
    encoder = checksum_of(small.first / "encoder.safetensors")
    keys: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for one in ingest(studies, small.first, store, "phantom", encoder, settings):
        assert one.study_id not in keys.keys() | reasons.keys()
        if isinstance(one, Ingested):
            keys[one.study_id] = one.feature_key
        else:
            assert isinstance(one, Quarantined) and one.stage == "ingest"
            reasons[one.study_id] = one.reason
    return keys, reasons


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
        found = store.get(keys[f"good-{number}"])
        assert found.dtype == torch.float16 and found.shape == expected.shape
        assert float((found.float() - expected).abs().max()) < 2e-3 * float(expected.abs().max())
    assert not torch.equal(store.get(keys["good-0"]), store.get(keys["good-1"]))


def test_what_the_store_holds_is_not_encoded_again(
    cluster: None, small: Any, volumes: list[Path], tmp_path: Path
) -> None:
    copies = [Path(shutil.copy2(volume, tmp_path)) for volume in volumes[:3]]
    studies = [study(f"s{number}", volume) for number, volume in enumerate(copies)]
    first, _ = run(studies[:2], small, tmp_path / "store")
    shards = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*.safetensors")}
    again, _ = run(studies[:2], small, tmp_path / "store")
    assert again == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*.safetensors")} == shards

    # One study more, and one whose file has changed: these two alone are encoded.
    copies[0].write_bytes(volumes[4].read_bytes())
    third, _ = run(studies, small, tmp_path / "store")
    assert third["s1"] == first["s1"] and third["s0"] != first["s0"]
    store = FeatureStore(tmp_path / "store")
    assert store.keys() == set(first.values()) | set(third.values()) and len(store.keys()) == 4
    assert list((tmp_path / "store").glob("*.tmp")) == []
