"""What a sync of new weights costs beside a plain copy of them: prints tables, then one line of JSON.

python benchmarks/sync.py [--syncs 7] [--threads 2] [--lora] [--round-seconds S]

A language model of 135 M parameters of SmolLM2's shape in float32, on a CPU. A sync begins when the learner has the
trained policy in memory and ends when the sampler's engine uses it and has proved it; it goes by the roads of
`actors/weight_road.py` between real actors. Copies of the same bytes are made in turn with the syncs, to new memory and
to memory that is there; the first of each is not counted. `vs_copy` is the median of the copies to new memory over the
median of the syncs, larger is better; `vs_copy_in_place` the same of the others. With --round-seconds (the `seconds`
of a run's summary, added up) the share of a round is printed, too. With --lora, adapters go alone.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor
from transformers import AutoModelForCausalLM
from untrained_policy import reports

from actors.cluster import joined
from actors.learner_group import LearnerGroup
from actors.outages import Outages
from actors.placement import Placement
from actors.sampler_group import SamplerGroup
from actors.weight_road import send_weights
from rlaif.config import Config, load_config
from rlaif.launch import CONFIGS, PROJECT, checked_overrides, sized
from rlaif.models.new_policy import language_configuration, train_tokenizer
from rlaif.models.policy import Policy
from rlaif.models.settings import LanguageModelSettings, PolicySettings

LANGUAGE = LanguageModelSettings(
    hidden=576, layers=30, heads=9, key_value_heads=3, intermediate=1536, vocabulary=49152, positions=512, tied=True
)
LORA = "learner.lora={rank: 16, alpha: 32, dropout: 0.0, targets: all-linear, parts: [language_model]}"
TIMEOUT_S = 600.0


def untrained(folder: Path) -> int:
    """Writes an untrained text policy; gives its number of parameters."""
    torch.manual_seed(1)
    tokenizer = train_tokenizer(reports(300), 900)
    model = AutoModelForCausalLM.from_config(language_configuration(LANGUAGE, LANGUAGE.vocabulary))
    settings = PolicySettings(name="rgro", size="135m", recipe=None, encoder=None, connector=None)
    Policy(settings, model, tokenizer, None).save_pretrained(folder, None)
    return sum(one.numel() for one in model.parameters())


def configuration(root: Path, threads: int, *, lora: bool) -> Config:
    """One sampler and one rank, each with all threads: they work one after the other."""
    overrides = checked_overrides(
        [
            "experiment=smoke",
            "policy=rgro",
            "run.target=impression",
            "cluster.address=local",
            f"run.root={root / 'runs'}",
            f"cache.root={root / 'cache'}",
            f"sampler.threads={threads}",
            "sampler.max_tokens=32",
            "sampler.max_length=128",
            f"policy.language_model.positions={LANGUAGE.positions}",
            "learner.ranks=1",
            "learner.zero_stage=0",
            f"learner.threads={threads}",
            "learner.dpo.train=[language_model]",
            *([LORA] if lora else []),
        ]
    )
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return load_config(sized(compose("config", overrides), overrides), PROJECT)


def timed(work: Callable[[], Any]) -> float:
    """Seconds of a piece of work."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def hold_trained(learner: Any, base: str, target: str) -> None:
    """Leaves a learner as a training on preferences does: with the trained policy in memory and in its folder."""
    from actors.policy_loading import KeptPolicy, PolicyForm, load_policy, record_checksum
    from actors.weights import checksum_of

    form = PolicyForm(torch.float32, False, learner.settings.lora, Path(base))
    policy = load_policy(Path(base), form)
    policy.train_only(["language_model"])
    with torch.no_grad():
        for one in policy.parameters():
            if one.requires_grad:
                one.add_(torch.randn_like(one), alpha=1e-3)
    policy.save_pretrained(Path(target), None)
    checksum = checksum_of(policy.weights())
    record_checksum(Path(target), checksum)
    learner._kept = KeptPolicy(checksum, form, policy)


def in_sampler(sampler: Any, weights: Any) -> dict[str, float]:
    """Seconds of the parts of taking weights in, each done once more by itself."""
    from actors.weights import digests_of

    tensors: dict[str, Tensor] = dict(weights.tensors)
    language = {name.removeprefix("language_model."): one for name, one in tensors.items()}
    language["lm_head.weight"] = tensors["language_model.model.embed_tokens.weight"]
    load = ("load_policy_weights", None, (language, True))
    return {
        "  of which: hash what arrived": timed(lambda: digests_of(tensors)),
        "  of which: pack it into the engine and prove it": timed(lambda: sampler.engine.collective_rpc(*load)),
    }


def main() -> None:
    """Times copies and syncs in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--syncs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--round-seconds", type=float)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    os.environ |= {"RAY_worker_niceness": "0"}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        parameters = untrained(root / "base")
        config = configuration(root, given.threads, lora=given.lora)
        # What actors and stages say while they are measured goes to the standard error.
        with contextlib.redirect_stdout(sys.stderr), joined(config):
            standing = Placement(config), Outages()
            learners, samplers = LearnerGroup(config, None, *standing), SamplerGroup(config, None, *standing)
            try:
                sides, parts = run(given, root, parameters, learners, samplers)
            finally:
                samplers.close()
                learners.close()
    report(given, parameters, sides, parts)


def run(
    given: argparse.Namespace, root: Path, parameters: int, learners: LearnerGroup, samplers: SamplerGroup
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Copies and syncs in turn: seconds of each, and of the syncs' parts."""
    base, trained = root / "base", root / "trained"
    learner = learners.ranks[0]
    ray.get(learner.__ray_call__.remote(hold_trained, str(base), str(trained)), timeout=TIMEOUT_S)
    samplers.use(base, 0, None)
    sampler = samplers.actors[0]
    source = torch.randn(parameters)
    target = torch.empty_like(source)
    new, in_place, syncs = list[float](), list[float](), list[float]()
    parts: dict[str, list[float]] = {}
    for version in range(1, given.syncs + 2):
        new.append(timed(source.clone))
        in_place.append(timed(lambda: target.copy_(source)))
        syncs.append(timed(partial(send_weights, learners, [sampler], trained, version, TIMEOUT_S)))
        steps: dict[str, float] = {}
        weights = learner.weights.remote(str(trained), version)
        ready = partial(ray.wait, [weights], timeout=TIMEOUT_S, fetch_local=False)
        steps["learner: to the object store"] = timed(ready)
        steps["sampler: take it in"] = timed(partial(ray.get, sampler.load.remote(weights), timeout=TIMEOUT_S))
        if not given.lora:
            steps |= ray.get(sampler.__ray_call__.remote(in_sampler, weights), timeout=TIMEOUT_S)
        # Else the object store would hold it beside the next one.
        del weights, ready
        for name, seconds in steps.items():
            parts.setdefault(name, []).append(seconds)
    return {"copy to new memory": new, "copy in place": in_place, "sync": syncs}, parts


def report(
    given: argparse.Namespace, parameters: int, sides: dict[str, list[float]], parts: dict[str, list[float]]
) -> None:
    """Prints the tables and the line of JSON; the first of each is a warm-up."""
    median = {name: statistics.median(seconds[1:]) for name, seconds in sides.items()}
    print(f"{parameters / 1e6:.1f} M parameters, float32, load average {os.getloadavg()[0]:.1f}")
    print(f"{'ms, median of ' + str(given.syncs):50} {'median':>8} {'least':>8} {'most':>8}")
    for name, seconds in [*sides.items(), *parts.items()]:
        rest = sorted(seconds[1:])
        print(f"{name:50} {statistics.median(rest) * 1e3:8.0f} {rest[0] * 1e3:8.0f} {rest[-1] * 1e3:8.0f}")
    if given.round_seconds:
        print(f"share of a round of {given.round_seconds:g} s: {median['sync'] / given.round_seconds:.2%}")
    key = "vs_copy_lora" if given.lora else "vs_copy"
    ratios = {key: median["copy to new memory"], f"{key}_in_place": median["copy in place"]}
    print(json.dumps({name: round(seconds / median["sync"], 3) for name, seconds in ratios.items()}))


if __name__ == "__main__":
    main()
