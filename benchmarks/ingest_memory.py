"""Does memory stay flat over an ingest of 1,000 studies? Resident memory of every process, sampled as studies finish.

python benchmarks/ingest_memory.py [STUDIES]
"""

import json
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from statistics import median

import psutil
import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from actors.cluster import joined
from actors.ingest import ingest
from rlaif.config import Config, load_config
from rlaif.datasets import phantom
from rlaif.datasets.phantom_settings import PhantomSettings
from rlaif.files import checksum_of
from rlaif.launch import CONFIGS, PROJECT, sized
from rlaif.models.encoders.build import new_encoder
from rlaif.models.new_policy import new_policy
from rlaif.records import Ingested, Study
from rlaif.volumes.recipes import RECIPES
from rlaif.volumes.source import VolumeSource

STUDIES, PARTS = 1000, 5
MIB = 2**20


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else STUDIES
    with tempfile.TemporaryDirectory(prefix="rlaif-memory-") as name:
        folder = Path(name)
        config = configuration(folder)
        # Voxels of about 3.5 mm: 4 MB a volume, so that a leak of volumes would be seen.
        settings = PhantomSettings(sft=number, align=0, heldout=0, shape=(64, 96, 96), spacing_mm=(5.0, 3.5, 3.5))
        phantom.generate(folder / "data", settings)
        volumes = sorted((folder / "data").rglob("*.nii.gz"))
        policy = small_policy(config, folder)
        with joined(config):
            used = measured(config, volumes, policy, folder / "store")
    show(used)


def configuration(folder: Path) -> Config:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        overrides = [
            "experiment=smoke",
            f"run.root={folder}",
            f"cache.root={folder / 'cache'}",
            "cluster.address=local",
        ]
        return load_config(sized(compose("config", overrides), overrides), PROJECT)


def small_policy(config: Config, folder: Path) -> Path:
    """A policy folder with an untrained encoder: what it computes takes the memory of a trained one."""
    choice = config.policy
    assert choice.encoder is not None and choice.language_model is not None
    torch.manual_seed(0)
    save_file(new_encoder(choice.encoder).state_dict(), folder / "encoder.safetensors")
    new_policy(choice.settings(), choice.language_model, ["Clear lungs."] * 4, seed=0).save_pretrained(
        folder / "policy", folder / "encoder.safetensors"
    )
    return folder / "policy"


def measured(config: Config, volumes: list[Path], policy: Path, store: Path) -> list[tuple[float, float]]:
    """MiB of the controller and of all processes below it, at each finished study."""
    studies = [Study(path.name, path.name, "phantom", "sft", str(path)) for path in volumes]
    encoder, recipe = checksum_of(policy / "encoder.safetensors"), RECIPES["phantom"]
    keys = {one.study_id: VolumeSource.of(one).feature_key(recipe, "canonical", encoder) for one in studies}
    used = []
    for one in ingest(studies, keys, "phantom", "canonical", config.ingest, (policy, store)):
        assert isinstance(one, Ingested)
        used.append(memory())
    return used


def memory() -> tuple[float, float]:
    here = psutil.Process(os.getpid())
    below = 0
    for process in here.children(recursive=True):
        with suppress(psutil.Error):
            below += process.memory_info().rss
    return here.memory_info().rss / MIB, below / MIB


def show(used: list[tuple[float, float]]) -> None:
    """A row for each fifth of the studies; the last line has the second fifth's peak over the last fifth's."""
    table = Table(title=f"Resident memory over {len(used)} studies, MiB")
    for column in ("studies", "controller, median", "controller, peak", "all others, median", "all others, peak"):
        table.add_column(column, justify="right")
    size = -(-len(used) // PARTS)
    # The first studies come while processes still start: they are shown and not compared.
    parts = [used[start : start + size] for start in range(0, len(used), size)]
    for place, part in enumerate(parts):
        own, others = ([row[column] for row in part] for column in (0, 1))
        cells = (median(own), max(own), median(others), max(others))
        table.add_row(f"{place * size + 1} to {place * size + len(part)}", *(f"{cell:,.0f}" for cell in cells))
    Console(width=120).print(table)
    second, last = parts[1], parts[-1]
    ratios = {
        key: round(max(row[column] for row in second) / max(row[column] for row in last), 3)
        for column, key in ((0, "controller_flat"), (1, "workers_flat"))
    }
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
