"""The policy: a connector and a language model that write a report from encoder features.

A policy lives in a folder whose `language_model/` is an ordinary Hugging Face checkpoint:

    policy.json             PolicySettings
    encoder.safetensors     the vision encoder (image policies)
    connector.safetensors   the connector (image policies)
    language_model/         config, weights and tokenizer
    adapters.safetensors    adapters that are merged into the above, to go on training from

Shape letters: B batch, L positions, V visual tokens, D language hidden.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from rlaif.models.adapters import add_adapters, is_adapter, merged, targets_of
from rlaif.models.connectors.build import Connector, new_connector
from rlaif.models.encoders.build import new_encoder
from rlaif.models.pair_attention import allow_pairs, pair_states
from rlaif.models.pair_tokens import PairTokens, collate_pairs
from rlaif.models.prompt import Prompt, PromptWriter, Tokens
from rlaif.models.settings import POLICY_FILE, LoraSettings, Part, PolicyError, PolicySettings, read_settings
from rlaif.models.splicing import encoded, visual_tokens
from rlaif.models.tensor_files import write_tensors
from rlaif.models.visual_input import VisualInput

ENCODER_FILE, CONNECTOR_FILE, LANGUAGE_MODEL = "encoder.safetensors", "connector.safetensors", "language_model"
ADAPTERS_FILE = "adapters.safetensors"


class Policy(nn.Module):
    """Connector and language model under one roof; the forward pass gives the answers' log-probs.

    `encoder` is None where studies are given as encoder features; a policy with its encoder on board takes voxels.
    """

    def __init__(
        self,
        settings: PolicySettings,
        language_model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        connector: Connector | None,
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.language_model = language_model
        self.tokenizer = tokenizer
        self.connector = connector
        self.encoder = encoder
        allow_pairs(language_model)
        self.positions: int = language_model.config.max_position_embeddings
        self.writer = PromptWriter(settings, tokenizer, self.positions)

    @classmethod
    def from_pretrained(
        cls, folder: Path, *, dtype: torch.dtype = torch.float32, with_encoder: bool = False
    ) -> "Policy":
        """The policy of a folder, in evaluation mode on the CPU; `with_encoder` takes its encoder on board.

        Raises PolicyError where the folder is no policy, or its parts do not fit each other.
        """
        settings = read_settings(folder)
        place = folder / LANGUAGE_MODEL
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                place, dtype=dtype, local_files_only=True, trust_remote_code=False, output_loading_info=True
            )
            language_model, told = loaded
            tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise PolicyError(f"{place} holds no language model that can be read: {_one_line(error)}") from error
        # What is missing would begin with random values.
        if wrong := {kind: sorted(names) for kind in ("missing_keys", "unexpected_keys") if (names := told[kind])}:
            raise PolicyError(f"{place} does not hold the weights that its configuration describes: {wrong}")
        check_logits(language_model.config, place)
        connector = None
        if settings.connector is not None and settings.encoder is not None:
            hidden = language_model.config.hidden_size
            connector = fitting_connector(settings, hidden).to(dtype)
            _fill(connector, folder / CONNECTOR_FILE, f"the encoder's {settings.encoder.hidden} to {hidden} values")
        encoder = load_encoder(folder).to(dtype) if with_encoder and settings.encoder is not None else None
        return cls(settings, language_model, tokenizer, connector, encoder).eval()

    def prompt(self, text: str) -> Prompt:
        """The prompt of a text, with its placeholders spread; raises PolicyError as `PromptWriter.prompt`."""
        return self.writer.prompt(text)

    def answer(self, text: str) -> list[int]:
        """The token ids of a report that ends where it should."""
        return self.writer.answer(text)

    def collate(self, prompts: list[Prompt], answers: list[list[int]]) -> Tokens:
        """One right-padded batch; raises PolicyError for more positions than the language model has."""
        return self.writer.collate(prompts, answers)

    def collate_pairs(self, prompts: list[Prompt], chosen: list[list[int]], rejected: list[list[int]]) -> PairTokens:
        """One right-padded batch of pairs, whose prompts go through the model once; raises PolicyError as
        `pair_tokens.collate_pairs`, and for more positions than the language model's attention reaches over.
        """
        tokens = collate_pairs(self.writer, prompts, chosen, rejected)
        window = getattr(self.language_model.config, "sliding_window", None)
        longest = max(prompt + max(answers) for prompt, *answers in tokens.parts)
        if window is not None and longest > window:
            raise PolicyError(
                f"a pair takes {longest} positions, and the language model's attention reaches over {window}: "
                "shorten the prompts or the reports"
            )
        return tokens

    def embed(self, tokens: Tokens, visual: Sequence[VisualInput] | None) -> Tensor:
        """The input embeddings `[B, L, D]`: visual tokens where the prompts have image tokens, words elsewhere.

        A policy may sample an image token into its answer: there it stays a word.
        """
        words = self.language_model.get_input_embeddings()
        if self.connector is None or self.settings.encoder is None:
            return words(tokens.ids)
        if visual is None:
            raise PolicyError("an image policy needs encoder features with every prompt")
        if self.encoder is not None:
            visual = encoded(self.encoder, visual)
        spliced = visual_tokens(self.connector, tokens.prompts, visual, self.settings.encoder.hidden, words)
        places = (tokens.ids == self.writer.image_token_id) & ~tokens.answer
        if int(places.sum()) != len(spliced):
            raise PolicyError(f"{int(places.sum())} image tokens for {len(spliced)} visual tokens")
        # The image token may be the tokenizer's alone, beyond the language model's own vocabulary.
        return words(tokens.ids.masked_fill(places, 0)).masked_scatter(places.unsqueeze(-1), spliced)

    def forward(self, tokens: Tokens, visual: Sequence[VisualInput] | None) -> Tensor:
        """The log-probs `[B, L]` float32 of the answers' tokens, zero elsewhere; `visual` has one study for a row."""
        return self.logprobs(self.states(tokens, visual), tokens)

    def states(self, tokens: Tokens, visual: Sequence[VisualInput] | None) -> Tensor:
        """The last hidden states `[A, D]` before each of the A answer tokens of all rows."""
        model, embeddings = self.language_model, self.embed(tokens, visual)
        if isinstance(tokens, PairTokens):
            return pair_states(model, embeddings, tokens)
        states = model.base_model(
            inputs_embeds=embeddings, attention_mask=tokens.mask.long(), use_cache=False
        ).last_hidden_state
        return states[:, :-1][tokens.answer[:, 1:]]

    def logprobs(self, states: Tensor, tokens: Tokens) -> Tensor:
        """The log-probs `[B, L]` float32 of the answers' tokens from the states before them, zero elsewhere.

        The vocabulary is computed for answers alone.
        """
        logits = self.language_model.get_output_embeddings()(states)
        chosen = functional.cross_entropy(logits.float(), tokens.ids[tokens.answer], reduction="none")
        logprobs = torch.zeros(tokens.ids.shape, dtype=torch.float32, device=chosen.device)
        return logprobs.masked_scatter(tokens.answer, -chosen)

    def train_only(self, names: Sequence[str]) -> None:
        """Makes the named parameters train and freezes all others; where a part bears adapters, those alone train.

        A name is a part (`connector`), a module below it (`connector.mask_encoder`) or a pattern (`connector.*norm*`).
        Parts that this policy lacks count for nothing. Raises PolicyError for another name of which nothing trains.
        """
        parameters = dict(self.named_parameters())
        adapted = {name.partition(".")[0] for name in parameters if is_adapter(name)}
        able = [name for name in parameters if name.partition(".")[0] not in adapted or is_adapter(name)]
        for wanted in names:
            part = wanted.partition(".")[0]
            found = any(_matches(name, wanted) for name in parameters)
            if part not in get_args(Part) or (part in self._parts and not found):
                raise PolicyError(
                    f"no parameter of the policy is called {wanted}; its parts are {', '.join(self._parts)}"
                )
            if found and not any(_matches(name, wanted) for name in able):
                raise PolicyError(f"{wanted} stays frozen: the {part} bears adapters, which alone train in it")
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in able and any(_matches(name, wanted) for wanted in names))

    @property
    def _parts(self) -> dict[str, nn.Module]:
        parts = {"language_model": self.language_model, "connector": self.connector, "encoder": self.encoder}
        return {name: part for name, part in parts.items() if part is not None}

    def weights(self) -> dict[str, Tensor]:
        """Every part as the sampler loads it, adapters merged, by checkpoint names."""
        weights = {
            f"{part}.{name}": one for part, module in self._parts.items() for name, one in merged(module).items()
        }
        if self.language_model.config.tie_word_embeddings:
            weights.pop("language_model.lm_head.weight", None)
        return {name: tensor.detach().contiguous() for name, tensor in weights.items()}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Takes a state dict as `weights` gives it; the policy must bear no adapters.

        Raises PolicyError where a tensor is missing or unknown.
        """
        state = dict(weights)
        if self.language_model.config.tie_word_embeddings:
            words = self.language_model.get_input_embeddings().weight
            tied = next(name for name, one in self.named_parameters() if one is words)
            state["language_model.lm_head.weight"] = state[tied]
        try:
            self.load_state_dict(state)
        except RuntimeError as error:
            raise PolicyError(f"the weights do not fit this policy: {error}") from error

    def add_adapters(self, lora: LoraSettings) -> None:
        """Puts adapters onto the parts that the settings name; they alone train there."""
        for part in lora.parts:
            if (module := self._parts.get(part)) is not None:
                add_adapters(module, lora, targets_of(part, lora))

    def adapters(self) -> dict[str, Tensor]:
        """The adapters' own weights, to go on training from."""
        return {name: one.detach().clone() for name, one in self.state_dict().items() if is_adapter(name)}

    def save_pretrained(self, folder: Path, encoder: Path | None, tensors: Mapping[str, Tensor] | None = None) -> None:
        """Writes the policy as a folder with its adapters merged; `encoder` is the encoder file to carry along, for a
        policy without its encoder on board.

        `tensors` are what `weights` and `adapters` give, for a policy whose own are shared out over processes.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if tensors is None:
            tensors = self.weights() | self.adapters()
        adapters: dict[str, Tensor] = {}
        parts: dict[str, dict[str, Tensor]] = {part: {} for part in get_args(Part)}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            if is_adapter(name):
                adapters[name] = tensor
            else:
                parts[part][rest] = tensor
        target = folder / LANGUAGE_MODEL
        # A new model's configuration does not name its class, by which engines choose theirs.
        self.language_model.config.architectures = [type(self.language_model).__name__]
        self.language_model.config.save_pretrained(target)
        if self.language_model.generation_config is not None:
            self.language_model.generation_config.save_pretrained(target)
        write_tensors(parts["language_model"], target / "model.safetensors")
        self.tokenizer.save_pretrained(target)
        if parts["connector"]:
            write_tensors(parts["connector"], folder / CONNECTOR_FILE)
        if parts["encoder"]:
            write_tensors(parts["encoder"], folder / ENCODER_FILE)
        elif encoder is not None:
            shutil.copyfile(encoder, folder / ENCODER_FILE)
        if adapters:
            write_tensors(adapters, folder / ADAPTERS_FILE)
        (folder / POLICY_FILE).write_text(json.dumps(self.settings.model_dump(mode="json"), indent=2), encoding="utf-8")


def fitting_connector(settings: PolicySettings, hidden: int) -> Connector:
    """A new connector to a language model of the given width; raises PolicyError where the parts do not fit."""
    assert settings.connector is not None and settings.encoder is not None
    try:
        return new_connector(settings.connector, settings.encoder, hidden)
    except ValueError as error:
        raise PolicyError(f"the connector does not fit a language model of width {hidden}: {error}") from error


def check_logits(configuration: PretrainedConfig, place: Path) -> None:
    """Raises PolicyError for a language model that scales or caps its logits, which our log-probs do not."""
    for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(configuration, name, None) not in (None, 1, 1.0):
            raise PolicyError(
                f"{place}: {configuration.model_type} has {name}={getattr(configuration, name)}: language models that "
                "scale or cap their logits are not supported; take a Llama, Qwen or GPT-2"
            )


def load_encoder(folder: Path) -> nn.Module:
    """The vision encoder of a policy folder, frozen and in evaluation mode; raises PolicyError where it has none."""
    settings = read_settings(folder)
    if settings.encoder is None:
        raise PolicyError(f"{folder} is a text-only policy: it has no vision encoder")
    encoder = new_encoder(settings.encoder)
    _fill(encoder, folder / ENCODER_FILE, f"a {settings.encoder.kind} of {settings.encoder.hidden} values")
    return encoder.eval().requires_grad_(False)


def _fill(module: nn.Module, path: Path, what: str) -> None:
    """Loads a part's weights, strictly."""
    try:
        module.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise PolicyError(f"{path} does not hold what policy.json says ({what}): {_one_line(error)}") from error


def _matches(name: str, wanted: str) -> bool:
    return name == wanted or name.startswith(f"{wanted}.") or fnmatchcase(name, wanted)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
