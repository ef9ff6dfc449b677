"""A small policy from nothing: a tokenizer of its own and a small Llama-architecture language model."""

from collections.abc import Iterable

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rlaif.models.connector import Connector
from rlaif.models.policy import IMAGE_TOKEN, Policy, PolicySettings


class LanguageModelSettings(BaseModel):
    """The widths of a small Llama and the size of its vocabulary."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: int = Field(ge=1)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    intermediate: int = Field(ge=1)
    vocabulary: int = Field(ge=260)
    """At least the 256 bytes and the four special tokens, so that any text can be spelt."""
    positions: int = Field(ge=1)

    @model_validator(mode="after")
    def _heads_fit(self) -> "LanguageModelSettings":
        # Rotary positions turn the two halves of each head against each other.
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden {self.hidden} is no multiple of 2 x heads {self.heads}: change one of the two")
        return self


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on the reports: it can spell any text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "<s>", "</s>", IMAGE_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=[IMAGE_TOKEN],
        clean_up_tokenization_spaces=False,
    )


def new_policy(settings: PolicySettings, language: LanguageModelSettings, texts: Iterable[str], *, seed: int) -> Policy:
    """An untrained policy whose tokenizer fits the texts; the same seed gives the same weights."""
    tokenizer = train_tokenizer(texts, language.vocabulary)
    configuration = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=language.hidden,
        num_hidden_layers=language.layers,
        num_attention_heads=language.heads,
        num_key_value_heads=language.heads,
        intermediate_size=language.intermediate,
        max_position_embeddings=language.positions,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        language_model = LlamaForCausalLM(configuration)
        connector = None
        if settings.encoder is not None:
            connector = Connector(settings.encoder.hidden, language.hidden)
    return Policy(settings, language_model, tokenizer, connector)
