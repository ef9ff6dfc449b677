"""What the judges that ask a chat model have in common: their prompt, their screen, and the form of their questions."""

from collections.abc import Mapping

from rlaif.judges.asking import Question
from rlaif.judges.prompts import explained, load_prompt
from rlaif.judges.screening import Screening
from rlaif.judges.settings import ChatJudgeSection


class ChatJudge:
    """A judge's settings with the prompt that they name."""

    def __init__(self, settings: ChatJudgeSection) -> None:
        self.settings = settings
        self.prompt = load_prompt(settings.prompt)
        self.screening = Screening(settings.max_characters, settings.identifiers)

    @property
    def version(self) -> str:
        """The settings' version: prompt, model, address, and what else may change a verdict."""
        return self.settings.version

    def question(self, texts: Mapping[str, str], verdict: str, values: Mapping[str, object]) -> Question:
        """The question about some texts, whose answer has a `verdict` of these `values` (a JSON schema)."""
        schema = None if self.settings.structured == "off" else explained(verdict, values, self.settings)
        return self.prompt.ask(texts, max_tokens=self.settings.max_tokens, schema=schema)
