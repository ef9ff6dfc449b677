"""The policy: a connector and a language model that write a report from encoder features.

A policy lives in a folder whose `language_model/` is an ordinary Hugging Face checkpoint:

    policy.json             PolicySettings
    encoder.safetensors     the frozen vision encoder (image policies)
    connector.safetensors   the connector (image policies)
    language_model/         config, weights and tokenizer

Shape letters: B batch, L positions, V visual tokens, F encoder hidden, D language hidden.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import Linear as AdaptedLinear
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from rlaif.models.connector import Connector
from rlaif.models.ctvit import CTViT
from rlaif.models.settings import POLICY_FILE, LoraSettings, PolicyError, PolicySettings, read_settings

IMAGE_TOKEN = "<image>"


@dataclass(frozen=True)
class Tokens:
    """A batch of prompts and answers, right-padded.

    `ids` [B, L] int64 with the image token at the visual positions, `mask` [B, L] bool marks what is
    no padding, `answer` [B, L] bool marks the answer's tokens.
    """

    ids: Tensor
    mask: Tensor
    answer: Tensor


class Policy(nn.Module):
    """Connector and language model under one roof; the forward pass gives the answers' log-probs."""

    def __init__(
        self,
        settings: PolicySettings,
        language_model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        connector: Connector | None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.language_model = language_model
        self.tokenizer = tokenizer
        self.connector = connector
        self.image_token_id: Any = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN) if connector is not None else None

    @classmethod
    def load(cls, folder: Path, *, dtype: torch.dtype = torch.float32) -> "Policy":
        """The policy of a folder, in evaluation mode on the CPU.

        Raises PolicyError where the folder is no policy.
        """
        settings = read_settings(folder)
        language_model = AutoModelForCausalLM.from_pretrained(
            folder / "language_model", dtype=dtype, local_files_only=True, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(
            folder / "language_model", local_files_only=True, trust_remote_code=False
        )
        connector = None
        if settings.encoder is not None:
            connector = Connector(settings.encoder.hidden, language_model.config.hidden_size).to(dtype)
            connector.load_state_dict(load_file(folder / "connector.safetensors"))
        return cls(settings, language_model, tokenizer, connector).eval()

    def prompt_ids(self, prompt: str) -> list[int]:
        """The token ids of a prompt, with one image token for each visual token."""
        tokenizer = self.tokenizer
        if self.image_token_id is not None:
            prompt = f"{IMAGE_TOKEN}\n{prompt}"
        if tokenizer.chat_template:
            message = [{"role": "user", "content": prompt}]
            prompt = str(tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
        ids: list[int] = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        beginning: Any = tokenizer.bos_token_id
        if not tokenizer.chat_template and beginning is not None:
            ids = [beginning, *ids]
        if self.image_token_id is None or self.settings.encoder is None:
            return ids
        if ids.count(self.image_token_id) != 1:
            raise PolicyError(f"the text of a prompt holds no {IMAGE_TOKEN} of its own: {prompt[:80]!r}")
        place = ids.index(self.image_token_id)
        return ids[:place] + [self.image_token_id] * self.settings.encoder.tokens + ids[place + 1 :]

    def answer_ids(self, text: str) -> list[int]:
        """The token ids of a report that ends where it should."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        end: Any = self.tokenizer.eos_token_id
        return [*ids, end]

    def collate(self, prompts: list[list[int]], answers: list[list[int]]) -> Tokens:
        """One right-padded batch of prompts and answers given as token ids."""
        length = max(len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True))
        padding = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0
        ids = torch.full((len(prompts), length), padding, dtype=torch.long)
        mask = torch.zeros((len(prompts), length), dtype=torch.bool)
        answer_mask = torch.zeros((len(prompts), length), dtype=torch.bool)
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            end = len(prompt) + len(answer)
            ids[row, :end] = torch.tensor(prompt + answer)
            mask[row, :end] = True
            answer_mask[row, len(prompt) : end] = True
        return Tokens(ids, mask, answer_mask)

    def embed(self, ids_BL: Tensor, prompt_BL: Tensor, features_BVF: Tensor | None) -> Tensor:
        """The input embeddings `[B, L, D]`: visual tokens where the prompt has image tokens, words elsewhere.

        A policy may sample an image token into its answer: `prompt_BL` keeps it a word there.
        """
        embeddings = self.language_model.get_input_embeddings()(ids_BL)
        if self.connector is None:
            return embeddings
        if features_BVF is None:
            raise PolicyError("an image policy needs encoder features with every prompt")
        visual = self.connector(features_BVF.to(embeddings.dtype))
        places = (ids_BL == self.image_token_id) & prompt_BL
        if int(places.sum()) != visual.shape[0] * visual.shape[1]:
            raise PolicyError(
                f"{int(places.sum())} image tokens for {visual.shape[0]} x {visual.shape[1]} visual tokens"
            )
        return embeddings.masked_scatter(places.unsqueeze(-1), visual)

    def forward(self, tokens: Tokens, features_BVF: Tensor | None) -> Tensor:
        """The log-probs `[B, L]` float32 of the answers' tokens, zero elsewhere."""
        embeddings = self.embed(tokens.ids, ~tokens.answer, features_BVF)
        model = self.language_model
        hidden = model.base_model(
            inputs_embeds=embeddings, attention_mask=tokens.mask.long(), use_cache=False
        ).last_hidden_state
        # A token's log-prob comes from the position before it; the vocabulary is computed for answers alone.
        before = tokens.answer[:, 1:]
        logits = model.get_output_embeddings()(hidden[:, :-1][before])
        chosen = functional.cross_entropy(logits.float(), tokens.ids[:, 1:][before], reduction="none")
        logprobs = torch.zeros(tokens.ids.shape, dtype=torch.float32, device=chosen.device)
        return logprobs.masked_scatter(tokens.answer, -chosen)

    def weights(self) -> dict[str, Tensor]:
        """Connector and language model as the sampler loads them, adapters merged, by checkpoint names."""
        merged: dict[str, Tensor] = {}
        deltas = {
            name: module.get_delta_weight("default")
            for name, module in self.language_model.named_modules()
            if isinstance(module, AdaptedLinear)
        }
        for name, tensor in self.language_model.state_dict().items():
            module, _, parameter = name.rpartition(".base_layer.")
            if "lora_" in name:
                continue
            if module:
                delta = deltas[module] if parameter == "weight" else 0
                merged[f"language_model.{module}.{parameter}"] = tensor + delta
            else:
                merged[f"language_model.{name}"] = tensor
        if self.language_model.config.tie_word_embeddings:
            merged.pop("language_model.lm_head.weight", None)
        if self.connector is not None:
            merged |= {f"connector.{name}": tensor for name, tensor in self.connector.state_dict().items()}
        return {name: tensor.detach().contiguous() for name, tensor in merged.items()}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Takes a state dict as `weights` gives it; the language model must bear no adapters.

        Raises PolicyError where a tensor is missing or unknown.
        """
        state = dict(weights)
        if self.language_model.config.tie_word_embeddings:
            state["language_model.lm_head.weight"] = state["language_model.model.embed_tokens.weight"]
        try:
            self.load_state_dict(state)
        except RuntimeError as error:
            raise PolicyError(f"the weights do not fit this policy: {error}") from error

    def add_adapters(self, lora: LoraSettings) -> None:
        """Freezes the language model and puts trainable adapters on it (`B` begins at zero: the same model)."""
        settings = LoraConfig(
            r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=lora.targets
        )
        # peft puts the adapters into the model in place; the wrapper that it returns is not needed.
        get_peft_model(self.language_model, settings)

    def adapters(self) -> dict[str, Tensor]:
        """The adapters' own weights, to go on training from."""
        return {
            name: tensor.detach().clone()
            for name, tensor in self.language_model.state_dict().items()
            if "lora_" in name
        }

    def save(self, folder: Path, encoder: Path | None) -> None:
        """Writes the policy as a folder with its adapters merged; `encoder` is the encoder file to carry along."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = self.weights()
        language = {
            name.removeprefix("language_model."): tensor
            for name, tensor in weights.items()
            if name.startswith("language_model.")
        }
        target = folder / "language_model"
        self.language_model.config.save_pretrained(target)
        if self.language_model.generation_config is not None:
            self.language_model.generation_config.save_pretrained(target)
        save_file(language, target / "model.safetensors", metadata={"format": "pt"})
        self.tokenizer.save_pretrained(target)
        if self.connector is not None:
            save_file(self.connector.state_dict(), folder / "connector.safetensors")
        if encoder is not None:
            (folder / "encoder.safetensors").write_bytes(encoder.read_bytes())
        if adapters := self.adapters():
            save_file(adapters, folder / "adapters.safetensors")
        (folder / POLICY_FILE).write_text(json.dumps(self.settings.model_dump(mode="json"), indent=2))


def load_encoder(folder: Path) -> CTViT:
    """The frozen vision encoder of a policy folder, in evaluation mode; raises PolicyError where it has none."""
    settings = read_settings(folder)
    if settings.encoder is None:
        raise PolicyError(f"{folder} is a text-only policy: it has no vision encoder")
    encoder = CTViT(settings.encoder)
    encoder.load_state_dict(load_file(folder / "encoder.safetensors"))
    return encoder.eval().requires_grad_(False)
