"""A small policy from nothing: a tokenizer of its own and a small Llama-architecture language model."""

from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rlaif.models.connector import Connector
from rlaif.models.policy import IMAGE_TOKEN, Policy
from rlaif.models.settings import LanguageModelSettings, PolicySettings


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


def llama_configuration(language: LanguageModelSettings, vocabulary: int) -> LlamaConfig:
    """The configuration of the small Llama, for a tokenizer of so many tokens."""
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=language.hidden,
        num_hidden_layers=language.layers,
        num_attention_heads=language.heads,
        num_key_value_heads=language.heads,
        intermediate_size=language.intermediate,
        max_position_embeddings=language.positions,
        tie_word_embeddings=False,
    )


def new_policy(settings: PolicySettings, language: LanguageModelSettings, texts: Iterable[str], *, seed: int) -> Policy:
    """An untrained policy whose tokenizer fits the texts; the same seed gives the same weights."""
    tokenizer = train_tokenizer(texts, language.vocabulary)
    configuration = llama_configuration(language, len(tokenizer))
    configuration.update(
        {
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        language_model = LlamaForCausalLM(configuration)
        connector = None
        if settings.encoder is not None:
            connector = Connector(settings.encoder.hidden, language.hidden)
    return Policy(settings, language_model, tokenizer, connector)
