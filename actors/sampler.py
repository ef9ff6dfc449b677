"""The sampler: a long-lived actor with a vLLM engine that writes candidates from features.

Vision goes in as prompt embeddings: the sampler runs its own copy of the connector on the stored
features. One request asks for all candidates of a case, so that they share the prompt's cache.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray
import torch
from torch import Tensor

from actors.requests import Request
from actors.weights import Weights, checksum_of
from rlaif.config import SamplerSettings
from rlaif.models.policy import LANGUAGE_MODEL, Policy
from rlaif.models.settings import PolicyError
from rlaif.records import Candidate
from rlaif.vision import Vision


class StaleWeights(RuntimeError):
    """The sampler's weights are not the ones that it was told to use."""


@dataclass
class _Open:
    """A request in the engine: its candidates so far, and the indices that are being written."""

    request: Request
    prompt: Any
    length: int
    attempt: int
    indices: list[int]
    candidates: dict[int, Candidate] = field(default_factory=dict)


class WeightLoader:
    """Worker extension of the engine: takes new weights in place, without a restart."""

    def load_policy_weights(self, weights: dict[str, Tensor]) -> None:
        """Loads a whole state dict by its checkpoint names."""
        from vllm.model_executor.model_loader.reload.meta import SKIP_LOAD_TENSORS

        # The rotary table is computed, no checkpoint has it: vLLM would warn of it at every reload.
        SKIP_LOAD_TENSORS.add("cos_sin_cache")
        # `load_weights` fails on CPU, where linear weights are packed once loaded; reloading unpacks them.
        self.model_runner.reload_weights(weights_iterator=iter(weights.items()))  # type: ignore[attr-defined]


class Sampler:
    """One vLLM engine and one connector under one weights version; where the encoder trains, an encoder too."""

    def __init__(
        self, policy_folder: str, version: int, vision: Vision | None, settings: SamplerSettings, seed: int
    ) -> None:
        torch.set_num_threads(settings.threads)
        self.settings, self.seed = settings, seed
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
        self.engine = LLM(
            model=str(Path(policy_folder) / LANGUAGE_MODEL),
            dtype=settings.dtype,
            enable_prompt_embeds=self.policy.connector is not None,
            enforce_eager=True,
            enable_prefix_caching=True,
            # A prompt cut in two makes vLLM rewind its seeded generator, which a CPU generator cannot.
            enable_chunked_prefill=False,
            max_num_batched_tokens=max(settings.max_length, 8192),
            max_model_len=settings.max_length,
            max_num_seqs=settings.max_sequences,
            gpu_memory_utilization=settings.gpu_memory,
            worker_extension_cls="actors.sampler.WeightLoader",
            disable_log_stats=True,
            seed=seed,
        ).llm_engine
        self.version, self.checksum = version, checksum_of(self.policy.weights())

    def ready(self) -> tuple[int, str]:
        """The version and checksum of the weights in use; answers once the engine stands."""
        return self.version, self.checksum

    def load(self, weights: Weights) -> tuple[int, str]:
        """Takes new weights into connector, embeddings and engine; gives back what is now in use.

        Raises StaleWeights where what arrived is not what was sent.
        """
        received = checksum_of(weights.tensors)
        if received != weights.checksum:
            raise StaleWeights(f"weights version {weights.version} arrived as {received}, sent as {weights.checksum}")
        self.policy.load_weights(weights.tensors)
        language = {
            name.removeprefix("language_model."): tensor
            for name, tensor in weights.tensors.items()
            if name.startswith("language_model.")
        }
        # Also a head that is one with the embeddings: on a CPU vLLM keeps a packed copy of it, which would stay old.
        language["lm_head.weight"] = self.policy.language_model.get_output_embeddings().weight.detach()
        self.engine.collective_rpc("load_policy_weights", args=(language,))
        # The prefix cache holds keys and values that the old weights made.
        if not self.engine.reset_prefix_cache():
            raise StaleWeights(f"version {weights.version} came while requests were running: wait for them, then load")
        self.version, self.checksum = weights.version, checksum_of(self.policy.weights())
        return self.version, self.checksum

    def sample(self, requests: list[Request], round_: int) -> Iterator[list[Candidate]]:
        """Yields each request's candidates as soon as the last of them is written.

        A candidate that is unusable (cut off, or empty) is written again while attempts are left.
        """
        waiting = list(reversed(requests))
        running: dict[str, _Open] = {}
        while waiting or running:
            while waiting and sum(len(one.indices) for one in running.values()) < 2 * self.settings.max_sequences:
                request = waiting.pop()
                prompt, length = self._prompt(request)
                one = _Open(request, prompt, length, attempt=0, indices=list(range(request.n)))
                if prompt is None:
                    yield [self._candidate(one, index, round_, None) for index in one.indices]
                else:
                    self._submit(one, running, round_)
            outputs: list[Any] = self.engine.step()
            for output in outputs:
                if not output.finished:
                    continue
                one = running.pop(output.request_id)
                written = {
                    index: self._candidate(one, index, round_, completion)
                    for index, completion in zip(one.indices, output.outputs, strict=True)
                }
                one.candidates |= written
                again = [index for index, candidate in written.items() if not candidate.usable]
                # Greedy decoding would write the same again.
                if again and one.attempt + 1 < self.settings.attempts and one.request.temperature > 0:
                    one.attempt, one.indices = one.attempt + 1, again
                    self._submit(one, running, round_)
                else:
                    yield [one.candidates[index] for index in sorted(one.candidates)]

    def _prompt(self, request: Request) -> tuple[Any | None, int]:
        """What the engine is given, and its positions; None where they leave no room for a report."""
        prompt = self.policy.prompt(request.case.prompt)
        if len(prompt.ids) + self.settings.max_tokens > self.settings.max_length:
            return None, len(prompt.ids)
        if self.policy.connector is None:
            return {"prompt_token_ids": list(prompt.ids)}, len(prompt.ids)
        if self.vision is None or request.feature_key is None:
            raise PolicyError(
                f"case {request.case.case_id} has no features, and the policy needs an image: ingest it first"
            )
        with torch.inference_mode():
            tokens = self.policy.collate([prompt], [[]])
            embeddings = self.policy.embed(tokens, [self.vision.get(request.feature_key)])[0]
        return {"prompt_embeds": embeddings.to(getattr(torch, self.settings.dtype))}, len(prompt.ids)

    def _submit(self, one: _Open, running: dict[str, _Open], round_: int) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        request = one.request
        parameters = SamplingParams(
            n=len(one.indices),
            temperature=request.temperature,
            top_p=self.settings.top_p,
            max_tokens=self.settings.max_tokens,
            seed=self._seed(one, round_) if request.temperature > 0 else None,
            logprobs=0,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        name = f"{request.case.case_id}|{request.feature_key}|{one.attempt}"
        self.engine.add_request(name, one.prompt, parameters)
        running[name] = one

    def _seed(self, one: _Open, round_: int) -> int:
        identity = f"{self.seed}|{round_}|{one.request.case.case_id}|{one.attempt}"
        return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:4], "little") >> 1

    def _candidate(self, one: _Open, index: int, round_: int, completion: Any | None) -> Candidate:
        """The record of one completion; None stands for a prompt that is too long to be answered."""
        case = one.request.case
        ids: tuple[int, ...] = ()
        logprobs: tuple[float, ...] = ()
        text, reason = "", "prompt_too_long"
        if completion is not None:
            ids = tuple(completion.token_ids)
            logprobs = tuple(step[token].logprob for step, token in zip(completion.logprobs, ids, strict=True))
            text, reason = completion.text.strip(), completion.finish_reason
        return Candidate(
            candidate_id=f"{case.case_id}.{round_}.{index}",
            case_id=case.case_id,
            study_id=case.study_id,
            round=round_,
            index=index,
            attempt=one.attempt,
            prompt=case.prompt,
            text=text,
            token_ids=ids,
            logprobs=logprobs,
            finish_reason=reason,
            usable=reason == "stop" and bool(text),
            policy_version=self.version,
            weights_checksum=self.checksum,
            feature_key=one.request.feature_key,
            seed=self._seed(one, round_) + one.indices.index(index),
            sampled_at=datetime.now(UTC),
        )


SamplerActor = ray.remote(Sampler)
