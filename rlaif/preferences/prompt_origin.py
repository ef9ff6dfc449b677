"""Which study a prompt is of, told from the findings that it holds: a row without a study's id may hide one."""

from collections import defaultdict
from collections.abc import Iterable

from rlaif.records import Split, Study

_WINDOW = 8


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.lower().split())


class PromptOrigin:
    """Finds studies by their findings: anywhere in a prompt, or, of fewer than eight words, as a line of it.

    Several patients may have the same findings: a study to align on is then taken before others, and a held-out one
    before one of SFT.
    """

    def __init__(self, studies: Iterable[Study]) -> None:
        self._long: dict[tuple[str, ...], list[tuple[tuple[str, ...], Study]]] = defaultdict(list)
        self._short: dict[tuple[str, ...], list[Study]] = defaultdict(list)
        for study in studies:
            words = _words(study.findings or "")
            if len(words) >= _WINDOW:
                self._long[words[:_WINDOW]].append((words, study))
            elif words:
                self._short[words].append(study)

    def study_of(self, prompt: str) -> Study | None:
        """The study whose findings stand in the prompt, the longest of them where there are several."""
        words = _words(prompt)
        found: dict[int, list[Study]] = defaultdict(list)
        for place in range(len(words) - _WINDOW + 1):
            for own, study in self._long.get(words[place : place + _WINDOW], ()):
                if words[place : place + len(own)] == own:
                    found[len(own)].append(study)
        if found:
            return _first(found[max(found)])
        lines = [part for line in prompt.splitlines() for part in (line, line.partition(":")[2])]
        matched = [study for line in lines for study in self._short.get(_words(line), ())]
        return _first(matched) if matched else None


def _first(studies: list[Study]) -> Study:
    order: dict[Split, int] = {"align": 0, "heldout": 1, "sft": 2}
    return min(studies, key=lambda study: (order[study.split], study.study_id))
