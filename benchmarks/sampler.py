"""How fast the sampler writes, beside transformers.generate and bare vLLM: prints a table, then one line of JSON.

python benchmarks/sampler.py [--rounds 5] [--threads 2] [--profile]

Six candidates a case at temperature 1 from prompts of 512 visual tokens, given as embeddings, and a Llama of about
3 M parameters (hidden 256, 4 layers) that hardly ever ends a report, so that all write as many tokens; float32. Each
peer has a process of its own with the same policy, and they are taken in turn; medians. The sampler also
reads features, computes the connector, and gives seeds, log-probs and records; the peers get finished embeddings.
Engines begin each round with an empty prefix cache. `vs_bare_vllm` is against LLM.generate with the same sampling
parameters, seeds and log-probs included; `vs_plainest_vllm` is without the two. Ratios are of tokens a second, times
faster than the peer, larger is better. `--profile` shows instead where the sampler's time goes.
"""

import argparse
import cProfile
import json
import os
import pstats
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from in_turn import Step, Turns, side
from untrained_policy import PROMPT, reports

from actors.quiet import QUIET
from actors.requests import Request
from actors.sampler_group import engine_environment
from rlaif.config import Config, load_config
from rlaif.features import FeatureStore
from rlaif.launch import CONFIGS, PROJECT, checked_overrides, sized
from rlaif.models.new_policy import new_policy
from rlaif.models.policy import Policy
from rlaif.models.visual_input import VisualInput
from rlaif.records import Case
from rlaif.vision import StoredFeatures

CASES, CANDIDATES, TOKENS = 32, 6, 64
# transformers.generate is given batches of so many cases, and keeps the fastest; so many cases in each of its rounds.
BATCHES, GENERATED_CASES = (2, 4, 8), 8
# What a round of a peer gives: its tokens.
Measured = Callable[[], int]


def configuration(root: Path, threads: int) -> Config:
    given = [
        "experiment=smoke",
        f"run.root={root / 'runs'}",
        f"cache.root={root / 'cache'}",
        "policy.encoder.patch=[4,6,6]",
        "policy.encoder.pool=1",
        "policy.language_model.hidden=256",
        "policy.language_model.heads=4",
        "policy.language_model.intermediate=688",
        "policy.language_model.positions=1024",
        "sampler.max_length=768",
        f"sampler.max_tokens={TOKENS}",
        f"sampler.max_sequences={CASES * CANDIDATES}",
        f"sampler.threads={threads}",
        # Reports that are cut off are what is to be measured here.
        "sampler.attempts=1",
    ]
    checked = checked_overrides(given)
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return load_config(sized(compose("config", checked), checked), PROJECT)


def write_policy(config: Config, root: Path) -> int:
    """An untrained policy in `root/policy`, with features of all cases beside it; gives its parameters."""
    language, encoder = config.policy.language_model, config.policy.encoder
    if language is None or encoder is None:
        raise ValueError("the policy has no encoder or no language model of its own")
    torch.manual_seed(5)
    policy = new_policy(config.policy.settings(), language, reports(500), seed=1)
    policy.save_pretrained(root / "policy", None)
    shape = encoder.tokens, encoder.hidden
    FeatureStore(root / "features").write({f"f{number}": VisualInput(torch.randn(shape)) for number in range(CASES)})
    return sum(one.numel() for one in policy.language_model.parameters())


# --- the peers, each in a process of its own ---


def sampler(config: Config, root: Path) -> Measured:
    from actors.sampler import Sampler

    cases = [Case(f"c{one}", f"s{one}", f"p{one}", PROMPT, None, None, f"f{one}") for one in range(CASES)]
    requests = [Request(case, case.feature_key, CANDIDATES, 1.0) for case in cases]
    ours = Sampler(str(root / "policy"), 0, StoredFeatures(root / "features"), config.sampler, config.run.seed)

    def measure() -> int:
        ours.engine.reset_prefix_cache()
        return sum(len(one.token_ids) for written in ours.sample(requests, 0) for one in written)

    return measure


def embeddings(root: Path, policy: Policy, count: int) -> list[torch.Tensor]:
    """The finished prompts `[positions, hidden]` of so many cases."""
    store, prompt = FeatureStore(root / "features"), policy.prompt(PROMPT)
    with torch.inference_mode():
        tokens = policy.collate([prompt], [[]])
        return [policy.embed(tokens, [store.get(f"f{number}")])[0].clone() for number in range(count)]


def vllm(config: Config, root: Path, **parameters: Any) -> Measured:
    from vllm import LLM, SamplingParams

    from actors.sampler import engine_arguments

    policy = Policy.from_pretrained(root / "policy")
    prompts: Any = [{"prompt_embeds": one} for one in embeddings(root, policy, CASES)]
    engine = LLM(**engine_arguments(root / "policy", policy, config.sampler, config.run.seed))
    chosen = SamplingParams(n=CANDIDATES, temperature=1.0, top_p=1.0, max_tokens=TOKENS, **parameters)

    def measure() -> int:
        engine.reset_prefix_cache()
        written = engine.generate(prompts, chosen, use_tqdm=False)
        return sum(len(one.token_ids) for case in written for one in case.outputs)

    return measure


def bare_vllm(config: Config, root: Path) -> Measured:
    return vllm(config, root, seed=7, logprobs=0)


def plainest_vllm(config: Config, root: Path) -> Measured:
    return vllm(config, root)


def generate(config: Config, root: Path) -> Measured:
    """`transformers.generate` in the batch that suits it best."""
    policy = Policy.from_pretrained(root / "policy")
    language_model: Any = policy.language_model
    prompts = torch.stack(embeddings(root, policy, GENERATED_CASES))
    ends, pad = policy.tokenizer.eos_token_id, policy.tokenizer.pad_token_id

    def measured(batch: int) -> int:
        torch.manual_seed(7)
        tokens = 0
        for group in prompts.split(batch):
            written = language_model.generate(
                inputs_embeds=group,
                attention_mask=torch.ones(group.shape[:2], dtype=torch.long),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                num_return_sequences=CANDIDATES,
                max_new_tokens=TOKENS,
                pad_token_id=pad,
            )
            # Up to the end of each report, and that with it.
            tokens += int(((written == ends).cumsum(dim=1) - (written == ends).int() == 0).sum())
        return tokens

    with torch.inference_mode():
        measured(BATCHES[0])
        taken: dict[int, float] = {}
        for batch in BATCHES:
            started = time.process_time()
            measured(batch)
            taken[batch] = time.process_time() - started
        best = min(BATCHES, key=lambda batch: taken[batch])
    print(f"transformers.generate is fastest with {best} cases at once.", flush=True)
    return torch.inference_mode()(lambda: measured(best))


PEERS: dict[str, Callable[[Config, Path], Measured]] = {
    "sampler": sampler,
    "bare_vllm": bare_vllm,
    "plainest_vllm": plainest_vllm,
    "generate": generate,
}


def rounds_of(turns: Turns, name: str, config: Config, root: Path, threads: int) -> None:
    """A peer's process; its first round, which compiles kernels, is not counted."""
    torch.set_num_threads(threads)
    measure = PEERS[name](config, root)
    measure()
    while True:
        turns.wait()
        turns.done(measure())


def compare(config: Config, root: Path, rounds: int, threads: int) -> dict[str, list[Step]]:
    """Each peer's rounds, taken in turn; what they give is the number of tokens."""
    taken: dict[str, list[Step]] = {name: [] for name in PEERS}
    with ExitStack() as stack:
        sides = {name: stack.enter_context(side(name, rounds_of, name, config, root, threads)) for name in PEERS}
        for _ in range(rounds):
            for name, one in sides.items():
                taken[name].append(one.step())
    return taken


def profile(config: Config, root: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    measure = sampler(config, root)
    measure()
    profiler = cProfile.Profile()
    started = time.perf_counter()
    tokens = profiler.runcall(measure)
    print(f"{tokens / (time.perf_counter() - started):.0f} tokens a second, under the profiler")
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
    pstats.Stats(profiler).sort_stats("cumulative").print_stats(45)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of each peer")
    parser.add_argument("--profile", action="store_true", help="where the sampler's time goes")
    given = parser.parse_args()
    os.environ |= QUIET | engine_environment(1, given.threads)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        config = configuration(root, given.threads)
        parameters = write_policy(config, root)
        if given.profile:
            profile(config, root, given.threads)
            return
        print(f"Medians of {given.rounds} rounds. Load before: {os.getloadavg()[0]:.1f}.", flush=True)
        taken = compare(config, root, given.rounds, given.threads)
    print(f"\n{parameters:,} parameters, {given.threads} threads, {CANDIDATES} candidates a case.\n")
    print("| | tokens a round | tokens a second: median (lowest to highest) | tokens a second of CPU time |")
    print("| --- | ---: | ---: | ---: |")
    rates, on_cpu = {}, {}
    for name, steps in taken.items():
        each = [one.result / one.seconds for one in steps]
        rates[name] = statistics.median(each)
        on_cpu[name] = statistics.median(one.result / one.cpu_seconds for one in steps)
        spread = f"{rates[name]:,.0f} ({min(each):,.0f} to {max(each):,.0f})"
        print(f"| {name} | {steps[0].result:,} | {spread} | {on_cpu[name]:,.0f} |")
    print(f"\nLoad after: {os.getloadavg()[0]:.1f}.")
    peers = [one for one in PEERS if one != "sampler"]
    by_cpu = {f"vs_{peer}": round(on_cpu["sampler"] / on_cpu[peer], 2) for peer in peers}
    print(f"By CPU time, on which other work on the machine tells less: {by_cpu}")
    print(json.dumps({f"vs_{peer}": round(rates["sampler"] / rates[peer], 2) for peer in peers}))


if __name__ == "__main__":
    main()
