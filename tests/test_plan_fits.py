"""What a dry run refuses, with its sum, and what the presets are made for."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hydra import compose, initialize_config_dir

from rlaif.config import ConfigurationError, load_config
from rlaif.launch import CONFIGS, PROJECT, sized
from rlaif.plan import check_memory, plan
from rlaif.plan_fits import check_fits_preset, shortages
from rlaif.plan_memory import GIB, Role
from rlaif.plan_placement import Actors, gpu_bytes, heaviest_on_one_gpu, host_bytes, placed

if TYPE_CHECKING:
    from rlaif.config import Config

Configured = Callable[..., "Config"]
ONE = ("cluster.gpus=1", "cluster.gpu_memory_gib=80", "cluster.memory_gib=100")


def of_size(*overrides: str) -> "Config":
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return load_config(sized(compose("config", [*overrides]), overrides), PROJECT)


def sampler(needs: float, *, gpus: float = 1, count: int = 1, share: float = 0.5, host: float = 1) -> Role:
    return Role("sampler", count, 1, gpus, host * GIB, "a", gpu_bytes=needs * GIB, gpu_made_of="b", gpu_share=share)


def learner(needs: float, *, gpus: float = 1, count: int = 1, host: float = 1) -> Role:
    return Role(
        "learner", count, 1, gpus, host * GIB, "weights", gpu_bytes=needs * GIB, gpu_made_of="all of it", advice="less"
    )


def test_a_role_that_needs_more_than_a_gpu_has_is_named_with_its_sum(configured: Configured) -> None:
    config = configured(*ONE)
    assert shortages(config, [learner(80)]) == ()
    assert shortages(config, [learner(81)]) == (
        "learner: needs 81.0 GiB on each GPU, has 80.0 GiB: all of it. What may help: less",
    )
    assert shortages(config, [sampler(40)]) == ()
    [short] = shortages(config, [sampler(41)])
    assert short.startswith("sampler: needs 41.0 GiB on each GPU, has 40.0 GiB (50% of a GPU's 80.0 GiB): b")


def test_roles_on_one_gpu_must_fit_together(configured: Configured) -> None:
    config = configured(*ONE)
    # An engine takes its whole share, whatever it needs.
    assert shortages(config, [sampler(10, gpus=0.5), learner(40, gpus=0.5)]) == ()
    [short] = shortages(config, [sampler(10, gpus=0.5), learner(41, gpus=0.5)])
    assert short.startswith("shared GPU: needs 81.0 GiB, has 80.0 GiB: sampler 1 x 40.0 GiB + learner 1 x 41.0 GiB")


def test_what_meets_on_a_gpu_is_what_fractions_allow() -> None:
    small, large = Actors("small", 4, 0.25, gpu_bytes=10), Actors("large", 2, 0.6, gpu_bytes=25)
    # One of 0.6 leaves room for one of 0.25; four of 0.25 take more together.
    assert heaviest_on_one_gpu([small, large]) == {small: 4}
    assert gpu_bytes(heaviest_on_one_gpu([small, Actors("large", 2, 0.6, gpu_bytes=35)])) == 45
    assert heaviest_on_one_gpu([Actors("whole", 8, 1, gpu_bytes=99)]) == {}


def test_an_actor_never_spans_nodes() -> None:
    engine, rank = Actors("sampler", 1, 4, host_bytes=5), Actors("learner", 4, 1, host_bytes=1)
    found = placed([rank, engine], [4, 4])
    assert found.homeless is None and [dict(node) for node in found.nodes] == [{engine: 1}, {rank: 4}]
    assert [host_bytes(node) for node in found.nodes] == [5, 4]
    assert placed([engine], [2, 2, 2]).homeless == engine
    assert placed([rank], [1, 1, 1]).homeless == rank


def test_more_gpus_than_the_preset_has_are_refused(configured: Configured) -> None:
    config = configured("cluster.gpus=8", "cluster.gpu_memory_gib=80")
    [short] = shortages(config, [sampler(1, count=5), learner(1, count=4)])
    assert short.startswith("GPUs: sampler 5 x 1 + learner 4 x 1 on 8: no node has 1 left for another learner; lower")


def test_a_nodes_memory_holds_all_that_stands_on_it(configured: Configured) -> None:
    config = configured("cluster.gpus=4", "cluster.nodes=2", "cluster.memory_gib=100")
    assert shortages(config, [learner(1, count=8, host=25)]) == ()
    [short] = shortages(config, [learner(1, count=8, host=26)])
    assert short.startswith("host memory: a node needs 104.0 GiB, has 100.0 GiB: learner 4 x 26.0 GiB (weights)")


def test_ranks_that_could_meet_on_one_gpu_are_refused(configured: Configured) -> None:
    [short] = shortages(configured("learner.gpus=0.5", "learner.ranks=2"), [])
    assert "lets two of 2 ranks meet on one GPU" in short
    assert shortages(configured("learner.gpus=0.6", "learner.ranks=2"), []) == ()


def test_heads_that_cannot_be_split_are_refused(configured: Configured) -> None:
    [short] = shortages(configured("sampler.tensor_parallel=3"), [])
    assert short.startswith("sampler: 4 attention heads cannot be split over sampler.tensor_parallel=3")


def test_a_cluster_that_says_nothing_is_not_asked(configured: Configured) -> None:
    config = configured("learner.gpus=1")
    check_fits_preset(config, [learner(10_000, host=10_000)])
    check_memory(config)


def test_a_dry_run_shows_the_sum_and_then_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        ConfigurationError, match=r"policy=ct_gpt_pp policy.size=tiny does not fit cluster=gpus_1: ingest: needs 1"
    ):
        plan(of_size("cluster=gpus_1", "cluster.gpu_memory_gib=1"))
    assert "on each GPU" in capsys.readouterr().out


@pytest.mark.parametrize("preset", sorted(path.stem for path in (CONFIGS / "cluster").glob("gpus_*.yaml")))
def test_presets_use_all_gpus_they_are_made_for(preset: str) -> None:
    config = of_size(f"cluster={preset}", "policy=argus", "policy.size=8b")
    cluster = config.cluster
    assert cluster.name == preset and cluster.gpus is not None
    used = config.sampler.actors * config.sampler.gpus + config.learner.ranks * config.learner.gpus
    assert used == cluster.nodes * cluster.gpus == int(preset.split("_")[1])
    assert config.ingest.encoders * config.ingest.gpus == used
    # A preset stands above the size, and what it says nothing of is the size's own.
    assert config.learner.dpo.batch == 16 and config.learner.gradient_checkpointing


@pytest.mark.parametrize(
    ("policy", "preset", "said"),
    [
        (("argus", "8b"), "gpus_1", None),
        (("radfm", "13b"), "gpus_1", None),
        (("argus", "8b"), "gpus_8", None),
        (("argus", "70b"), "gpus_1", r"(?s)sampler: needs 134\.\d GiB on each GPU, has 39\.5.*\nlearner: needs"),
    ],
)
def test_the_papers_sizes_on_their_presets(policy: tuple[str, str], preset: str, said: str | None) -> None:
    config = of_size(f"policy={policy[0]}", f"policy.size={policy[1]}", f"cluster={preset}")
    if said is None:
        check_memory(config)
    else:
        with pytest.raises(ConfigurationError, match=said):
            check_memory(config)


def test_the_page_tells_of_every_size_on_every_preset() -> None:
    page = (PROJECT / "docs" / "cluster.md").read_text(encoding="utf-8")
    for size in (path for path in (CONFIGS / "size").glob("*/*.yaml") if path.stem != "tiny"):
        for preset in ("gpus_1", "gpus_8", "gpus_64"):
            assert f"| `{size.parent.name}` | `{size.stem}` | `{preset}` |" in page
