"""Prompts as token ids: where the text has a placeholder, one image token stands for each visual token."""

from dataclasses import dataclass
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlaif.models.settings import PolicyError, PolicySettings
from rlaif.reports.placeholders import IMAGE_TOKEN, PLACEHOLDER, slots_of


@dataclass(frozen=True)
class Prompt:
    """A prompt as the policy takes it.

    `ids` holds the image token at every visual position; `slots` are what stands there, in order: None for the whole
    scan, else a region's name; `question` are the ids of the words alone.
    """

    ids: tuple[int, ...]
    slots: tuple[str | None, ...] = ()
    question: tuple[int, ...] = ()


@dataclass(frozen=True)
class Tokens:
    """A batch of prompts and answers, right-padded.

    `ids` [B, L] int64 with the image token at the visual positions, `mask` [B, L] bool marks what is no padding,
    `answer` [B, L] bool marks the answer's tokens; `prompts` are the rows' prompts.
    """

    ids: Tensor
    mask: Tensor
    answer: Tensor
    prompts: tuple[Prompt, ...]

    def to(self, device: torch.device) -> "Tokens":
        """The same on a device."""
        return Tokens(self.ids.to(device), self.mask.to(device), self.answer.to(device), self.prompts)


class PromptWriter:
    """Turns texts into token ids for one policy."""

    def __init__(self, settings: PolicySettings, tokenizer: PreTrainedTokenizerBase, positions: int) -> None:
        self.settings, self.tokenizer, self.positions = settings, tokenizer, positions
        added = tokenizer.added_tokens_decoder.values()
        self._specials = tuple(one.content for one in added if one.special and len(one.content) > 1)
        self.image_token_id: Any = None
        if settings.image_tokens:
            self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
            if self.image_token_id in (None, tokenizer.unk_token_id):
                raise PolicyError(f"the tokenizer has no {IMAGE_TOKEN}: add it as a special token, and save it again")

    def prompt(self, text: str) -> Prompt:
        """The prompt of a text.

        Raises PolicyError for an image policy's text without `<image>` or with two, and for regions that the policy
        does not read or that stand twice.
        """
        if not self.settings.image_tokens:
            return Prompt(tuple(self._ids(self._framed(self._plain(text)))))
        slots = slots_of(text)
        self._check(text, slots)
        # A group of the pattern would come along: what it found is left out.
        words = [self._plain(part) for part in PLACEHOLDER.split(text)[:: PLACEHOLDER.groups + 1]]
        ids = self._ids(self._framed(IMAGE_TOKEN.join(words)))
        if ids.count(self.image_token_id) != len(slots):
            raise PolicyError(f"the chat template changes the number of {IMAGE_TOKEN}: {text[:80]!r}")
        spread: list[int] = []
        waiting = iter(slots)
        for one in ids:
            count = 1
            if one == self.image_token_id:
                count = self.settings.image_tokens if next(waiting) is None else self.settings.region_tokens
            spread += [one] * count
        question = tuple(self.tokenizer(" ".join(" ".join(words).split()), add_special_tokens=False)["input_ids"])
        return Prompt(tuple(spread), slots, question)

    def answer(self, text: str) -> list[int]:
        """The token ids of a report that ends where it should."""
        ids: list[int] = self.tokenizer(self._plain(text), add_special_tokens=False)["input_ids"]
        end: Any = self.tokenizer.eos_token_id
        return [*ids, end]

    def collate(self, prompts: list[Prompt], answers: list[list[int]]) -> Tokens:
        """One right-padded batch of prompts and answers; raises PolicyError for one that the model has no room for."""
        self.check_room(prompts, answers)
        return self.padded(prompts, answers)

    def check_room(self, prompts: list[Prompt], answers: list[list[int]]) -> None:
        """Raises PolicyError where a prompt with its answer takes more positions than the language model has."""
        longest = max(len(prompt.ids) + len(answer) for prompt, answer in zip(prompts, answers, strict=True))
        if longest > self.positions:
            raise PolicyError(f"prompt and report take {longest} positions, the language model has {self.positions}")

    def padded(self, prompts: list[Prompt], answers: list[list[int]]) -> Tokens:
        """One right-padded batch of prompts and answers, of any length."""
        lengths = [len(prompt.ids) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)]
        padding = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0
        shape = len(prompts), max(lengths)
        ids = torch.full(shape, padding, dtype=torch.long)
        mask, answer_mask = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
        for row, (prompt, answer, end) in enumerate(zip(prompts, answers, lengths, strict=True)):
            ids[row, :end] = torch.tensor([*prompt.ids, *answer])
            mask[row, :end] = True
            answer_mask[row, len(prompt.ids) : end] = True
        return Tokens(ids, mask, answer_mask, tuple(prompts))

    def _plain(self, text: str) -> str:
        """Text from outside without the tokenizer's special tokens: a report's `</s>` ends no report."""
        for special in self._specials:
            text = text.replace(special, f"{special[0]} {special[1:]}")
        return text

    def _framed(self, text: str) -> str:
        tokenizer = self.tokenizer
        if self.settings.template is not None:
            return self.settings.template.replace("{prompt}", text)
        if tokenizer.chat_template:
            message = [{"role": "user", "content": text}]
            try:
                return str(tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
            except TemplateError as error:
                raise PolicyError(
                    f"the tokenizer's chat template fails ({error}): mend it, or set template to its words"
                ) from error
        return text

    def _ids(self, framed: str) -> list[int]:
        ids: list[int] = self.tokenizer(framed, add_special_tokens=False)["input_ids"]
        beginning: Any = self.tokenizer.bos_token_id
        # A chat template writes the beginning itself.
        chat = self.settings.template is None and self.tokenizer.chat_template
        return ids if chat or beginning is None else [beginning, *ids]

    def _check(self, text: str, slots: tuple[str | None, ...]) -> None:
        shown = f"{text[:80]!r}"
        if slots.count(None) != 1:
            found = "no" if None not in slots else slots.count(None)
            raise PolicyError(f"the prompt has {found} {IMAGE_TOKEN}, where the scan goes once: {shown}")
        regions = [slot for slot in slots if slot is not None]
        if regions and not self.settings.region_tokens:
            raise PolicyError(
                f"the prompt asks for regions {regions}, which {self.settings.name} does not read: {shown}"
            )
        if len(set(regions)) != len(regions):
            raise PolicyError(f"the prompt names a region twice ({', '.join(regions)}): {shown}")
