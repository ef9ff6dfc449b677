"""A small policy from nothing: a tokenizer of its own, a small language model and a new connector."""

from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PretrainedConfig, PreTrainedTokenizerFast

from rlaif.models.connectors.build import Connector
from rlaif.models.policy import Policy, fitting_connector
from rlaif.models.settings import LanguageModelSettings, PolicySettings
from rlaif.reports.placeholders import IMAGE_TOKEN


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


def language_configuration(language: LanguageModelSettings, vocabulary: int) -> PretrainedConfig:
    """The configuration of a language model with the given widths, for a tokenizer of so many tokens."""
    if language.architecture == "gpt2":
        return GPT2Config(
            vocab_size=vocabulary,
            n_embd=language.hidden,
            n_layer=language.layers,
            n_head=language.heads,
            n_inner=language.intermediate,
            n_positions=language.positions,
            tie_word_embeddings=language.tied,
            # The log-probs of sampler and learner are compared: no part of the model may be left to chance.
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=language.hidden,
        num_hidden_layers=language.layers,
        num_attention_heads=language.heads,
        num_key_value_heads=language.key_value_heads or language.heads,
        intermediate_size=language.intermediate,
        max_position_embeddings=language.positions,
        tie_word_embeddings=language.tied,
    )


def seeded_connector(settings: PolicySettings, hidden: int, *, seed: int) -> Connector | None:
    """A new connector for a language model of the given width; None for a text-only policy."""
    if settings.encoder is None or settings.connector is None:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return fitting_connector(settings, hidden)


def new_policy(settings: PolicySettings, language: LanguageModelSettings, texts: Iterable[str], *, seed: int) -> Policy:
    """An untrained policy whose tokenizer fits the texts; the same seed gives the same weights."""
    tokenizer = train_tokenizer(texts, language.vocabulary)
    configuration = language_configuration(language, len(tokenizer))
    configuration.update(
        {
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        language_model = AutoModelForCausalLM.from_config(configuration)
    return Policy(settings, language_model, tokenizer, seeded_connector(settings, language.hidden, seed=seed))
