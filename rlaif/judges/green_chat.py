"""How a question becomes the token ids of a GREEN model, and its ids the text of a reply.

GREEN's models know a chat of turns `from` and `value`, not the usual `role` and `content`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import AutoTokenizer, LlamaTokenizer

from rlaif.judges.asking import Message

_MARKS = ("<|system|>", "<|user|>", "<|assistant|>")
_PROBE = "probe"


class UnaskableText(ValueError):
    """A text that would be read as something else than a report, with what it holds."""


@dataclass(frozen=True)
class GreenChat:
    """A model's tokenizer; `official` where it is asked as the package asks GREEN's models."""

    tokenizer: Any
    official: bool

    def ids(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a chat that the model is to continue.

        Raises UnaskableText where a message holds a control token: a report could end its own turn with it.
        """
        control = {*self.tokenizer.all_special_tokens, *(_MARKS if self.official else ())}
        for message in messages:
            held = sorted(token for token in control if token in message.content)
            if held:
                raise UnaskableText(f"It holds {held[0]}, which is a control token of the judge's model.")
        if not self.official:
            turns = [{"role": message.role, "content": message.content} for message in messages]
            text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            return list(self.tokenizer(text, add_special_tokens=False).input_ids)
        if [message.role for message in messages] != ["user"]:
            raise ValueError("a GREEN model is asked by one message of the user")
        # As the package does: an empty turn of the assistant goes before the one that the model is to write.
        end = self.tokenizer.eos_token
        text = f"<|user|>\n{messages[0].content}{end}\n<|assistant|>\n{end}\n<|assistant|>\n"
        return list(self.tokenizer(text).input_ids)

    def text(self, ids: Sequence[int]) -> str:
        """The text of a reply."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))


def green_chat(folder: Path) -> GreenChat:
    """The chat of a model folder: the official one unless the tokenizer's template is one of roles.

    Raises ValueError where it is of neither form.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if tokenizer.chat_template is None or _takes(tokenizer, {"from": "human", "value": _PROBE}):
        if isinstance(tokenizer, LlamaTokenizer):
            # The package has Llama's tokenizer end every prompt, so also this one, with the token for the end.
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, add_eos_token=True
            )
        return GreenChat(tokenizer, official=True)
    if not _takes(tokenizer, {"role": "user", "content": _PROBE}):
        raise ValueError(f"the chat template of {folder} takes neither GREEN's turns nor those of roles")
    return GreenChat(tokenizer, official=False)


def _takes(tokenizer: Any, turn: dict[str, str]) -> bool:
    try:
        text = tokenizer.apply_chat_template([turn], tokenize=False, add_generation_prompt=True)
    except (TemplateError, TypeError):
        return False
    return _PROBE in text
