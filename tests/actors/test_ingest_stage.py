"""The ingest stage of a run: sizes told before, answers kept, what is done not done again."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from actors.ingest_stage import check_studies, ingest_studies, tell_size, waiting_studies
from actors.preparation import TooManyBad
from rlaif.config import ConfigurationError
from rlaif.datasets import phantom
from rlaif.datasets.phantom_settings import PhantomSettings
from rlaif.datasets.registry import load_phantom
from rlaif.datasets.settings import PhantomDataSettings
from rlaif.features import FeatureStore
from rlaif.ledger import RunFolder
from rlaif.models.connectors.settings import MlpSettings
from rlaif.models.encoders.build import new_encoder
from rlaif.models.encoders.settings import CTViTSettings
from rlaif.models.settings import PolicySettings, read_settings
from rlaif.records import Ingested, Quarantined, Study
from rlaif.tables import Table
from rlaif.vision import StoredFeatures, StudyVoxels

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four CTs of the phantom."""
    root = tmp_path_factory.mktemp("phantom")
    phantom.generate(root, PhantomSettings(sft=4, align=0, heldout=0, seed=4), workers=1)
    return sorted(root.rglob("*.nii.gz"))


def open_run(small: Any, root: Path, name: str, volumes: list[Path], *overrides: str) -> tuple[RunFolder, Any]:
    config = small.config(f"run.root={root}", f"cache.root={root / 'cache'}", f"run.name={name}", *overrides)
    run = RunFolder.open(root, name, config.plain())
    if not run.done("studies"):
        run.replace("studies", Study, [Study(path.stem, path.stem, "t", "align", str(path)) for path in volumes])
        run.replace("quarantine", Quarantined, [Quarantined("row", "row", "dataset", "the row names no path")])
        run.finish("studies")
    return run, config


def stored(run: RunFolder, config: Any, small: Any) -> Path:
    vision = ingest_studies(run, config, small.first)
    assert isinstance(vision, StoredFeatures)
    return vision.folder


def test_a_run_takes_from_the_store_what_another_has_made(
    cluster: None, small: Any, volumes: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, config = open_run(small, tmp_path, "one", volumes[:3])
    with run:
        store = stored(run, config, small)
        facts = run.facts("ingest")
        assert (facts["volumes"], facts["kept"], facts["reused"], facts["quarantined"]) == (3, 3, 0, 0)
        assert facts["features"] == "stored"
    assert (
        "features: 3 studies x 18 tokens x 96 values in float16 = 10 KiB; 0 are there already"
        in capsys.readouterr().out
    )
    written = {path: path.stat().st_mtime_ns for path in store.glob("shard-*")}

    run, config = open_run(small, tmp_path, "two", volumes)
    with run:
        assert stored(run, config, small) == store
        facts = run.facts("ingest")
        assert (facts["volumes"], facts["kept"], facts["reused"]) == (4, 4, 3)
        keys = {one.feature_key for one in run.read("features", Ingested)}
        assert len(run.read("quarantine", Quarantined)) == 1
    assert FeatureStore(store).keys() == keys and len(keys) == 4
    assert "1 studies x" in capsys.readouterr().out
    # Compacted with the new one, or left as they were: not written anew beside it.
    assert (
        len(list(store.glob("shard-*"))) == 1
        or written.items() <= {path: path.stat().st_mtime_ns for path in store.glob("shard-*")}.items()
    )


def test_a_second_start_looks_again_at_what_was_set_aside_and_at_nothing_else(
    cluster: None, small: Any, volumes: list[Path], tmp_path: Path
) -> None:
    copies = [Path(shutil.copy(path, tmp_path)) for path in volumes]
    copies[0].write_bytes(b"torn")
    run, config = open_run(small, tmp_path, "run", copies, "run.max_bad_fraction=0.2")
    with run, pytest.raises(TooManyBad, match=r"1 of 4 studies are bad, more than run\.max_bad_fraction=0\.2"):
        ingest_studies(run, config, small.first)
    # The reason is on disk although the run stopped.
    assert [one.stage for one in Table(run.path / "quarantine", Quarantined).read()] == ["dataset", "ingest"]
    shutil.copy(volumes[0], copies[0])
    run, config = open_run(small, tmp_path, "run", copies, "run.max_bad_fraction=0.2")
    with run:
        assert copies[0].stem in {one.study_id for one in waiting_studies(run)}
        ingest_studies(run, config, small.first)
        assert run.facts("ingest")["kept"] == 4
        assert [one.stage for one in run.read("quarantine", Quarantined)] == ["dataset"]
        assert not waiting_studies(run)


def test_features_that_the_cache_has_lost_are_made_again(
    cluster: None, small: Any, volumes: list[Path], tmp_path: Path
) -> None:
    run, config = open_run(small, tmp_path, "run", volumes)
    with run:
        store = stored(run, config, small)
        keys = FeatureStore(store).keys()
        shutil.rmtree(store)
        assert stored(run, config, small) == store
        assert FeatureStore(store).keys() == keys and len(keys) == 4
        assert {one.feature_key for one in run.read("features", Ingested)} == keys


def test_one_file_of_weights_pooled_in_two_ways_has_two_sets_of_features(
    cluster: None, small: Any, volumes: list[Path], tmp_path: Path
) -> None:
    settings = read_settings(small.first)
    assert settings.encoder is not None and settings.encoder.pool == 2
    finer = tmp_path / "policy"
    finer.mkdir()
    shutil.copy(small.first / "encoder.safetensors", finer)
    unpooled = settings.model_copy(update={"encoder": settings.encoder.model_copy(update={"pool": 1})})
    (finer / "policy.json").write_text(unpooled.model_dump_json())
    found = {}
    for name, policy in (("pooled", small.first), ("finer", finer)):
        run, config = open_run(small, tmp_path, name, volumes[:1])
        with run:
            vision = ingest_studies(run, config, policy)
            assert isinstance(vision, StoredFeatures) and run.facts("ingest")["reused"] == 0
            (row,) = run.read("features", Ingested)
            found[name] = vision.folder, row.feature_key, vision.open().get(str(row.feature_key)).image.shape
    assert all(one != other for one, other in zip(*found.values(), strict=True))
    assert (found["pooled"][2], found["finer"][2]) == ((18, 96), (144, 96))


def test_one_bad_study_in_ten_is_set_aside_and_counts_add_up(
    cluster: None, small: Any, volumes: list[Path], tmp_path: Path
) -> None:
    copies = [Path(shutil.copy(volumes[number % 4], tmp_path / f"ct{number}.nii.gz")) for number in range(20)]
    copies[3].write_bytes(volumes[3].read_bytes()[:-4000])
    copies[13].write_bytes(b"no NIfTI at all, but long enough to be taken for one" * 20)
    run, config = open_run(small, tmp_path, "run", copies, "ingest.encode=false", "recipe=ctclip_v2")
    with run:
        check_studies(run, config)
        facts = run.facts("ingest")
        assert (facts["recipe"], facts["volumes"], facts["kept"], facts["quarantined"]) == ("ctclip_v2", 20, 18, 2)
        assert facts["features"] == "none"
        kept = {one.study_id for one in run.read("features", Ingested)}
        bad = {one.study_id for one in run.read("quarantine", Quarantined) if one.stage == "ingest"}
    assert len(kept) == 18 and bad == {copies[3].stem, copies[13].stem} and not kept & bad


@pytest.fixture(scope="module")
def guided_policy(configured: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As much of a region-guided policy's folder as an ingest needs."""
    settings = configured("policy=reg2rg").policy.settings()
    assert settings.reads == "regions" and settings.encoder is not None
    folder = tmp_path_factory.mktemp("guided")
    save_file(new_encoder(settings.encoder).state_dict(), folder / "encoder.safetensors")
    (folder / "policy.json").write_text(settings.model_dump_json())
    return folder


def test_reused_features_bring_their_regions_along(
    cluster: None, small: Any, guided_policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = PhantomDataSettings(sft=3, align=0, heldout=0, seed=8, regions=True)
    phantom.generate(tmp_path / "data", settings.generator, workers=1)
    studies = load_phantom(settings, tmp_path / "data").studies
    assert studies[0].regions is not None and studies[1].regions is not None
    studies[1] = replace(studies[1], regions={"lung": studies[1].regions["lung"]})
    without = replace(studies[2], regions=None)

    def ingested(name: str, chosen: list[Study]) -> tuple[dict[str, Ingested], dict[str, str], dict[str, Any]]:
        run, config = open_run(small, tmp_path, name, [], "run.max_bad_fraction=0.5")
        with run:
            run.replace("studies", Study, chosen)
            vision = ingest_studies(run, config, guided_policy)
            assert isinstance(vision, StoredFeatures)
            rows = {one.study_id: one for one in run.read("features", Ingested)}
            for row in rows.values():
                assert tuple(vision.open().get(str(row.feature_key)).regions) == row.regions
            bad = {one.study_id: one.reason for one in run.read("quarantine", Quarantined) if one.stage == "ingest"}
            return rows, bad, run.facts("ingest")

    first, bad, _ = ingested("one", [*studies[:2], without])
    assert first[studies[0].study_id].regions == tuple(sorted(studies[0].regions))
    assert first[studies[1].study_id].regions == ("lung",)
    assert bad.keys() == {without.study_id} and "no region masks" in bad[without.study_id]
    assert "features: 3 studies x 11 views x 144 tokens x 96 values in float16" in capsys.readouterr().out

    again, bad, facts = ingested("two", studies)
    assert (facts["reused"], facts["read"], facts["quarantined"]) == (2, 1, 0) and not bad
    for study in studies[:2]:
        assert again[study.study_id].feature_key == first[study.study_id].feature_key
        assert again[study.study_id].regions == first[study.study_id].regions
    # Another mask is another key: what was made of the old one is not taken for it.
    studies[1] = replace(studies[1], regions={"lung": studies[0].regions["lung"]})
    other, _, facts = ingested("three", studies)
    assert facts["reused"] == 2 and other[studies[1].study_id].feature_key != first[studies[1].study_id].feature_key


def test_where_the_encoder_trains_studies_are_read_with_their_regions(
    cluster: None, small: Any, guided_policy: Path, tmp_path: Path
) -> None:
    settings = PhantomDataSettings(sft=2, align=0, heldout=0, seed=8, regions=True)
    phantom.generate(tmp_path / "data", settings.generator, workers=1)
    one, other = load_phantom(settings, tmp_path / "data").studies
    trains = "learner.sft.train=[encoder,connector,language_model]"
    run, config = open_run(small, tmp_path, "run", [], "run.max_bad_fraction=0.5", trains)
    with run:
        run.replace("studies", Study, [one, replace(other, regions=None)])
        vision = ingest_studies(run, config, guided_policy)
        (row,) = run.read("features", Ingested)
        assert run.facts("ingest")["features"] == "bypassed"
    assert isinstance(vision, StudyVoxels) and vision.regions and vision.with_encoder
    assert row.study_id == one.study_id and row.regions == tuple(sorted(one.regions or {}))
    found = vision.open().get(str(row.feature_key))
    assert found.image.shape == (1, 32, 48, 48) and tuple(found.regions) == row.regions
    assert not (tmp_path / "cache" / "features").exists()


def test_a_recipe_that_serves_no_regions_is_refused_before_any_study_is_read(
    small: Any, guided_policy: Path, tmp_path: Path
) -> None:
    settings = read_settings(guided_policy).model_copy(update={"recipe": "m3d"})
    (tmp_path / "policy.json").write_text(settings.model_dump_json())
    run, config = open_run(small, tmp_path, "run", [])
    with run, pytest.raises(ConfigurationError, match="recipe m3d takes its range from each volume"):
        ingest_studies(run, config, tmp_path)


def test_features_that_do_not_fit_on_the_disk_are_refused_before_any_is_made(tmp_path: Path) -> None:
    encoder = CTViTSettings(volume=(240, 480, 480), patch=(15, 30, 30))
    policy = PolicySettings(name="x", size="x", recipe="ctclip_v1", encoder=encoder, connector=MlpSettings())
    with pytest.raises(ConfigurationError, match=r"the encoder features need 4768\.4 TiB and .* free"):
        tell_size(10**10, 0, policy, tmp_path / "store")
