"""What the papers' policies cost before the language model reads a word: prints tables, then one line of JSON.

python benchmarks/policies.py [policies] [encoders] [selection] [--rounds 5]

`policies`: encoder and connector of each paper's size. `encoders`: CTViT-V beside CTViT and a plain ViT3D on the same
volume. `selection`: the mu2 tokenizer's token selection beside a loop. All three where none is named. One study on a
CPU, two threads, float32, random weights, medians; peers are taken in turn. Memory is what a fresh process grows by
beyond weights and inputs. Ratios are times better than the peer, larger is better.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TypeVar

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from rlaif.config import load_config
from rlaif.launch import CONFIGS, PROJECT, checked_overrides, sized
from rlaif.models.connectors.build import Connector, new_connector
from rlaif.models.connectors.mu2 import Mu2Tokenizer
from rlaif.models.connectors.mu2_selection import SoftSelection
from rlaif.models.connectors.regions import RegionConnector
from rlaif.models.connectors.settings import ConnectorSettings, Mu2Settings
from rlaif.models.encoders.build import new_encoder
from rlaif.models.encoders.settings import CTViTSettings, EncoderSettings, ViTSettings
from rlaif.reports.regions import REGIONS

T = TypeVar("T")
THREADS = 2
MB = 1e6
QUESTION_WORDS = 32
# Names of the table, sizes of configs/size, and what is set otherwise there.
POLICIES = {
    "3D-CT-GPT++": ("ct_gpt_pp/7b", []),
    "3D-CT-GPT++ on CT-CLIP's CTViT": (
        "ct_gpt_pp/7b",
        ["policy.encoder.released=true", "policy.encoder.codebook=8192"],
    ),
    "M3D": ("m3d/7b", []),
    "Argus, normal resolution": ("argus/8b", []),
    "Argus, high resolution": ("argus/8b_high", []),
    "RadFM": ("radfm/13b", []),
    "Reg2RG, scan and 10 regions": ("reg2rg/7b", []),
    "mu2, 8 frames": ("mu2/1b", []),
}
VOXELS, PATCH = (240, 480, 480), (15, 30, 30)
# As wide as CTViT, of as many tokens, and of as many layers as make it as large: six, for CTViT's four and four.
VIT3D = ViTSettings(
    volume=VOXELS, patch=PATCH, hidden=512, layers=6, heads=8, intermediate=2048, class_token=False, pool=2
)
ENCODERS: dict[str, tuple[EncoderSettings, bool]] = {
    "ctvit_v": (CTViTSettings(volume=VOXELS, patch=PATCH), False),
    "ctvit": (CTViTSettings(volume=VOXELS, patch=PATCH, released=True), False),
    "ctvit_quantised": (CTViTSettings(volume=VOXELS, patch=PATCH, released=True, codebook=8192), False),
    "vit3d": (VIT3D, False),
    # With attention as MONAI's, which M3D's is: the weights of all pairs of tokens are kept.
    "vit3d_whole_attention": (VIT3D, True),
}


@dataclass(frozen=True)
class Cost:
    """Median seconds of encoder and connector for one study, and bytes of their weights and of the growth."""

    volumes: int
    voxels: tuple[int, int, int]
    encoder_s: float
    connector_s: float
    weights: int
    growth: int


def median_seconds(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Each call's median time, the calls taken in turn, after one round that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(1 + rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def alone(task: Callable[..., T], *arguments: object) -> T:
    """The task in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(task, *arguments).result()


def resident(key: str) -> int:
    """Bytes of this process, now (`VmRSS`) or at its peak (`VmHWM`)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[key].split()[0]) * 1024


def growth(call: Callable[[], object]) -> int:
    """Bytes that the process grows by, at the peak, while it makes the call."""
    # The peak begins anew: making the weights may have had a higher one.
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    call()
    return resident("VmHWM") - before


def weights(*modules: nn.Module) -> int:
    return sum(one.nbytes for module in modules for one in module.state_dict().values())


def paper_size(name: str, changes: list[str]) -> tuple[EncoderSettings, ConnectorSettings, int]:
    """A size's encoder and connector, and the width of its language model."""
    policy, size = name.split("/")
    given = checked_overrides([f"policy={policy}", f"policy.size={size}", *changes])
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = load_config(sized(compose("config", given), given), PROJECT).policy
    settings, language = config.settings(), config.language_model
    if settings.encoder is None or settings.connector is None or language is None:
        raise ValueError(f"{name} has no encoder, connector or language model")
    return settings.encoder, settings.connector, language.hidden


def connected(connector: Connector, hidden: int) -> Callable[[Tensor], Tensor]:
    """The connector with all inputs but the features: random masks of the regions, or a random question."""
    if isinstance(connector, RegionConnector):
        masks = torch.rand(len(REGIONS), *connector.mask_encoder.settings.volume)
        return lambda features: torch.cat(
            (connector(features[:1]).flatten(0, 1), connector.regions(features[1:], masks).flatten(0, 1))
        )
    if isinstance(connector, Mu2Tokenizer):
        question, mask = torch.randn(1, QUESTION_WORDS, hidden), torch.ones(1, QUESTION_WORDS, dtype=torch.bool)
        return lambda features: connector(features, question, mask)
    return connector


@torch.inference_mode()
def policy_cost(name: str, rounds: int) -> Cost:
    """One study through encoder and connector; the volumes of its regions one by one, as the ingest has them."""
    torch.set_num_threads(THREADS)
    encoder_settings, connector_settings, hidden = paper_size(*POLICIES[name])
    encoder = new_encoder(encoder_settings).eval()
    connector = new_connector(connector_settings, encoder_settings, hidden).eval()
    count = 1 + len(REGIONS) if isinstance(connector, RegionConnector) else 1
    volumes = torch.rand(count, 1, 1, *encoder_settings.volume)
    connect = connected(connector, hidden)

    def encode() -> Tensor:
        return torch.cat([encoder(volume) for volume in volumes])

    grown = growth(lambda: connect(encode()))
    features = encode()
    taken = median_seconds({"encoder": encode, "connector": lambda: connect(features)}, rounds)
    size = weights(encoder, connector)
    return Cost(count, encoder_settings.volume, taken["encoder"], taken["connector"], size, grown)


def policies(rounds: int) -> None:
    """The table of the papers' sizes, each in a process of its own."""
    print(
        "\n| policy | volumes of one study | encoder, s | connector, s | volumes a second | weights, MB | memory, MB |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for name in POLICIES:
        cost = alone(policy_cost, name, rounds)
        cells = [
            f"{cost.volumes} of {' x '.join(map(str, cost.voxels))}",
            f"{cost.encoder_s:.2f}",
            f"{cost.connector_s:.3f}",
            f"{cost.volumes / (cost.encoder_s + cost.connector_s):.2f}",
            f"{cost.weights / MB:,.0f}",
            f"{cost.growth / MB:,.0f}",
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def encoder_step(name: str, volume: Tensor, *, training: bool) -> tuple[nn.Module, Callable[[], None]]:
    """An encoder, and a forward pass of it; for training, a backward pass to all weights as well."""
    settings, whole = ENCODERS[name]
    encoder = new_encoder(settings).train(training)

    def step() -> None:
        with sdpa_kernel(SDPBackend.MATH) if whole else nullcontext(), torch.inference_mode(not training):
            features = encoder(volume)
            if training:
                features.square().mean().backward()
        encoder.zero_grad()

    return encoder, step


def encoder_growth(name: str, training: bool) -> int:
    torch.set_num_threads(THREADS)
    _, step = encoder_step(name, torch.rand(1, 1, *VOXELS), training=training)
    return growth(step)


def encoders(rounds: int) -> dict[str, float]:
    """The table of CTViT-V and its peers, and how many times faster and smaller it is."""
    ratios: dict[str, float] = {}
    print(f"\n{prod(VOXELS):,} voxels, 4,096 patches, pooled to 512 tokens of 512 values.\n")
    print("| encoder | parameters | forward, s | memory, MB | forward and backward, s | memory, MB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    volume = torch.rand(1, 1, *VOXELS)
    cells: dict[str, list[str]] = {}
    for training in (False, True):
        made = {name: encoder_step(name, volume, training=training) for name in ENCODERS}
        # A training step takes ten times as long.
        taken = median_seconds({name: step for name, (_, step) in made.items()}, min(3, rounds) if training else rounds)
        grown = {name: alone(encoder_growth, name, training) for name in ENCODERS}
        for name, (encoder, _) in made.items():
            parameters = sum(one.numel() for one in encoder.parameters())
            cells.setdefault(name, [f"{parameters:,}"]).extend((f"{taken[name]:.2f}", f"{grown[name] / MB:,.0f}"))
            if name != "ctvit_v":
                ending = "_training" if training else ""
                ratios[f"ctvit_v_vs_{name}_time{ending}"] = taken[name] / taken["ctvit_v"]
                ratios[f"ctvit_v_vs_{name}_memory{ending}"] = grown[name] / grown["ctvit_v"]
    for name, row in cells.items():
        print(f"| {name} | {' | '.join(row)} |")
    return ratios


def loop(weights_BNS: Tensor, tokens_BND: Tensor) -> Tensor:
    """Selection as u2Tokenizer's code has it: tokens times weights, then their sum, soft token by soft token."""
    heads = weights_BNS.unbind(dim=2)
    return torch.stack([(head[:, :, None] * tokens_BND).sum(dim=1) for head in heads], dim=1)


def product_loop(weights_BNS: Tensor, tokens_BND: Tensor) -> Tensor:
    """The same loop with a product of vector and matrix, which never makes the weighted tokens."""
    return torch.cat([head[:, None] @ tokens_BND for head in weights_BNS.unbind(dim=2)], dim=1)


def selection(rounds: int) -> dict[str, float]:
    """The table of token selection, its scores included, and how many times faster it is than two loops."""
    encoder, settings, hidden = paper_size(*POLICIES["mu2, 8 frames"])
    if not isinstance(settings, Mu2Settings):
        raise ValueError("the size mu2/1b has another connector")
    ours = SoftSelection(settings, hidden)
    tokens = torch.randn(1, encoder.tokens, hidden, requires_grad=True)

    def looped(sum_up: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], Tensor]:
        return lambda: sum_up((ours.score_net(tokens) / settings.temperature).softmax(dim=1), tokens)

    peers: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: ours(tokens),
        "loop": looped(loop),
        "product_loop": looped(product_loop),
    }

    def trained(peer: Callable[[], Tensor]) -> Callable[[], None]:
        return lambda: peer().square().mean().backward()

    with torch.inference_mode():
        expected = peers["ours"]()
        for peer in peers.values():
            torch.testing.assert_close(peer(), expected)
        forward = median_seconds(peers, rounds)
    # A round of the loop takes about half a minute.
    training = median_seconds({name: trained(peer) for name, peer in peers.items()}, min(3, rounds))
    print(f"\n{settings.selected:,} soft tokens of {encoder.tokens:,}, {hidden:,} values wide, scores included.\n")
    print("| token selection | forward, s (times ours) | forward and backward, s (times ours) |")
    print("| --- | ---: | ---: |")
    for name in peers:
        parts = [f"{taken[name]:.3f} ({taken[name] / taken['ours']:.1f})" for taken in (forward, training)]
        print(f"| {name} | {' | '.join(parts)} |")
    return {
        f"token_selection_vs_{name}{ending}": taken[name] / taken["ours"]
        for ending, taken in (("", forward), ("_training", training))
        for name in ("loop", "product_loop")
    }


PARTS = ("policies", "encoders", "selection")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all where none is named")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    parts = given.parts or PARTS
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    print(f"Medians of {given.rounds} rounds, of training at most 3. Load before: {os.getloadavg()[0]:.1f}.")
    ratios: dict[str, float] = {}
    if "policies" in parts:
        policies(given.rounds)
    if "encoders" in parts:
        ratios |= encoders(given.rounds)
    if "selection" in parts:
        ratios |= selection(given.rounds)
    print(f"\nLoad after: {os.getloadavg()[0]:.1f}.")
    print(json.dumps({key: round(ratio, 2) for key, ratio in ratios.items()}))


if __name__ == "__main__":
    main()
