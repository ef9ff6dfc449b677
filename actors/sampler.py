"""The sampler: a long-lived actor with a vLLM engine that writes candidates from features.

Vision goes in as prompt embeddings: the sampler runs its own copy of the connector on the stored
features. One request asks for all candidates of a case, so that they share the prompt's cache.
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import ray
import torch

from actors.requests import Feed, Request
from actors.sampler_weights import SamplerWeights
from actors.stale_weights import StaleWeights
from actors.weights import Weights
from rlaif.config import SamplerSettings
from rlaif.models.policy import LANGUAGE_MODEL, Policy
from rlaif.models.settings import PolicyError
from rlaif.records import NOT_WRITTEN, Candidate
from rlaif.vision import Vision

# How long a stage's `sample` waits for more to write.
IDLE_S = 60.0
# Sequences given to the engine, in those that it writes at once: some wait, so that none of its places stays empty.
AHEAD = 1.125
# How long a part of an engine may take to end, once the others have lost it.
DYING_S = 10.0


@dataclass
class _Sampled:
    """A request whose candidates are being written: what the engine is given, and the candidates that stand."""

    request: Request
    prompt: Any = None
    candidates: dict[int, Candidate] = field(default_factory=dict)


@dataclass(frozen=True)
class _Writing:
    """A request in the engine: which candidates of a case it writes, and at which attempt."""

    case: _Sampled
    attempt: int
    indices: range


def engine_arguments(folder: Path, policy: Policy, settings: SamplerSettings, seed: int) -> dict[str, Any]:
    """What vLLM's `LLM` is told, to write with the policy of a folder."""
    return {
        "model": str(folder / LANGUAGE_MODEL),
        "dtype": settings.dtype,
        "enable_prompt_embeds": policy.connector is not None,
        # On a CPU, compiling takes longer than it saves.
        "enforce_eager": settings.gpus == 0,
        "enable_prefix_caching": True,
        # A prompt cut in two makes vLLM rewind its seeded generator, which a CPU generator cannot.
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(settings.max_length, 8192),
        "max_model_len": settings.max_length,
        "max_num_seqs": settings.max_sequences,
        "gpu_memory_utilization": settings.gpu_memory,
        "worker_extension_cls": "actors.weight_loader.WeightLoader",
        "weight_transfer_config": {"backend": settings.weights} if settings.weights in ("nccl", "ipc") else None,
        "disable_log_stats": True,
        "seed": seed,
        "tensor_parallel_size": settings.tensor_parallel,
        # Within a placement group vLLM would look for actors of its own.
        "distributed_executor_backend": "mp" if settings.tensor_parallel > 1 else "uni",
    }


class Sampler:
    """One vLLM engine and one connector under one weights version; where the encoder trains, an encoder too."""

    def __init__(
        self, policy_folder: str, version: int, vision: Vision | None, settings: SamplerSettings, seed: int
    ) -> None:
        torch.set_num_threads(settings.threads)
        self.settings, self.seed = settings, seed
        self._feed = Feed()
        self.policy = Policy.from_pretrained(
            Path(policy_folder), with_encoder=vision is not None and vision.with_encoder
        )
        if settings.max_length > self.policy.positions:
            raise PolicyError(
                f"sampler.max_length={settings.max_length} is more than the {self.policy.positions} positions of the "
                f"language model in {policy_folder}: lower it"
            )
        from vllm import LLM

        self.vision = vision.open() if vision is not None else None
        self.engine = LLM(**engine_arguments(Path(policy_folder), self.policy, settings, seed)).llm_engine
        if settings.tensor_parallel > 1:
            # An actor is lost, and replaced, once its process has ended: it must not outlive a part of its engine.
            self.engine.model_executor.register_failure_callback(partial(os._exit, 1))
        self._weights = SamplerWeights(self.policy, Path(policy_folder), self.engine, version)
        self.version, self.checksum = version, self._weights.checksum

    def ready(self) -> tuple[int, str]:
        """The version and checksum of the weights in use; answers once the engine stands."""
        return self.version, self.checksum

    def load(self, weights: Weights) -> tuple[int, str]:
        """Takes new weights into connector, embeddings and engine; gives back what is now in use.

        Raises StaleWeights where what arrived is not what was sent, and while requests are running.
        """
        if self.engine.has_unfinished_requests():
            raise StaleWeights(f"version {weights.version} came while requests were running: wait for them, then load")
        self.version, self.checksum = self._weights.load(weights)
        return self.version, self.checksum

    def transfer(self, step: str, told: dict[str, Any]) -> None:
        """One step of the engine's weight transfer between GPUs; raises StaleWeights while requests are running."""
        if self.engine.has_unfinished_requests():
            raise StaleWeights("weights came while requests were running: wait for them, then send")
        self._weights.transfer(step, told)

    def adopt(self, weights: Weights) -> tuple[int, str]:
        """Ends a weight transfer with what the engine does not hold; gives back what is now in use."""
        self.version, self.checksum = self._weights.adopt(weights)
        return self.version, self.checksum

    @ray.method(concurrency_group="feed")
    def feed(self, stage: int, requests: list[Request], *, end: bool = False) -> None:
        """Gives requests to the `sample` of a stage, also while it writes; `end` ends it, and drops what it writes."""
        self._feed.put(stage, requests, end=end)

    def sample(self, requests: list[Request], round_: int, stage: int | None = None) -> Iterator[list[Candidate]]:
        """Yields each request's candidates as soon as the last of them is written.

        A candidate that is unusable (cut off, or empty) is written again while attempts are left. With a stage, it goes
        on with what is fed to that, until the stage ends or nothing has come for IDLE_S.
        """
        waiting = deque(requests)
        writing: dict[str, _Writing] = {}
        try:
            while True:
                if stage is not None:
                    fed = self._feed.take(stage, 0.0 if waiting or writing else IDLE_S)
                    if fed is None:
                        return
                    waiting.extend(fed)
                if not waiting and not writing:
                    return
                while waiting and self.engine.get_num_unfinished_requests() < AHEAD * self.settings.max_sequences:
                    case = _Sampled(waiting.popleft())
                    case.prompt = self._prompt(case.request)
                    if case.prompt is None:
                        yield [self._candidate(case, index, round_, 0, None) for index in range(case.request.n)]
                    else:
                        self._submit(_Writing(case, 0, range(case.request.n)), writing, round_)
                yield from self._step(writing, round_)
        finally:
            # Whoever asked has gone, or a case cannot be written: the next call must find an idle engine.
            self.engine.abort_request([*writing])

    def _step(self, writing: dict[str, _Writing], round_: int) -> Iterator[list[Candidate]]:
        """One step of the engine; yields the cases that it ended."""
        for output in self._outputs():
            if not output.finished:
                continue
            one = writing.pop(output.request_id)
            case = one.case
            for index, completion in zip(one.indices, output.outputs, strict=True):
                candidate = self._candidate(case, index, round_, one.attempt, completion)
                # Greedy decoding would write the same again.
                last = one.attempt + 1 >= self.settings.attempts or case.request.temperature == 0
                if candidate.usable or last:
                    case.candidates[index] = candidate
                else:
                    # Each by itself, so that its seed does not depend on which others failed.
                    self._submit(_Writing(case, one.attempt + 1, range(index, index + 1)), writing, round_)
            if len(case.candidates) == case.request.n:
                yield [case.candidates[index] for index in sorted(case.candidates)]

    def _outputs(self) -> list[Any]:
        """What a step of the engine gave; a split engine that has lost a part ends with this process."""
        try:
            return list(self.engine.step())
        except (RuntimeError, TimeoutError):
            parts = [part.proc.sentinel for part in getattr(self.engine.model_executor, "workers", ())]
            # The others notice before the system has ended it.
            if parts and wait(parts, DYING_S):
                os._exit(1)
            raise

    def _prompt(self, request: Request) -> Any | None:
        """What the engine is given; None where the prompt leaves no room for a report."""
        prompt = self.policy.prompt(request.case.prompt)
        if len(prompt.ids) + self.settings.max_tokens > self.settings.max_length:
            return None
        if self.policy.connector is None:
            return {"prompt_token_ids": list(prompt.ids)}
        if self.vision is None or request.feature_key is None:
            raise PolicyError(
                f"case {request.case.case_id} has no features, and the policy needs an image: ingest it first"
            )
        with torch.inference_mode():
            tokens = self.policy.collate([prompt], [[]])
            embeddings = self.policy.embed(tokens, [self.vision.get(request.feature_key)])[0]
        return {"prompt_embeds": embeddings.to(getattr(torch, self.settings.dtype))}

    def _submit(self, one: _Writing, writing: dict[str, _Writing], round_: int) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        request, first = one.case.request, one.indices[0]
        parameters = SamplingParams(
            n=len(one.indices),
            temperature=request.temperature,
            top_p=self.settings.top_p,
            max_tokens=self.settings.max_tokens,
            # The engine adds 0, 1, ... for the candidates of one request.
            seed=self._seed(request, round_, one.attempt) + first if request.temperature > 0 else None,
            logprobs=0,
            # The engine would spell out every token as it comes, and once more for its log-prob.
            detokenize=False,
            flat_logprobs=True,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        name = f"{request.case.case_id}|{request.feature_key}|{one.attempt}|{first}"
        self.engine.add_request(name, one.case.prompt, parameters)
        writing[name] = one

    def _seed(self, request: Request, round_: int, attempt: int) -> int:
        """The seed of a case's candidate 0; the others' follow it."""
        identity = f"{self.seed}|{round_}|{request.case.case_id}|{attempt}"
        return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:4], "little") >> 1

    def _candidate(self, one: _Sampled, index: int, round_: int, attempt: int, completion: Any | None) -> Candidate:
        """The record of one completion; None stands for a prompt that is too long to be answered."""
        case = one.request.case
        ids: tuple[int, ...] = ()
        logprobs: tuple[float, ...] = ()
        text, reason = "", NOT_WRITTEN
        if completion is not None:
            ids = tuple(completion.token_ids)
            logprobs, reason = tuple(completion.logprobs.logprobs), completion.finish_reason
            spelt = self.policy.tokenizer.decode(
                list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            text = str(spelt).strip()
        return Candidate(
            candidate_id=f"{case.case_id}.{round_}.{index}",
            case_id=case.case_id,
            study_id=case.study_id,
            round=round_,
            index=index,
            attempt=attempt,
            prompt=case.prompt,
            text=text,
            token_ids=ids,
            logprobs=logprobs,
            finish_reason=reason,
            usable=reason == "stop" and bool(text),
            policy_version=self.version,
            weights_checksum=self.checksum,
            feature_key=one.request.feature_key,
            seed=self._seed(one.request, round_, attempt) + index,
            sampled_at=datetime.now(UTC),
        )


# A thread of its own takes what is fed; all other calls come one after another, so that `load` waits for `sample`.
SamplerActor = ray.remote(concurrency_groups={"feed": 1})(Sampler)  # type: ignore[call-overload]
