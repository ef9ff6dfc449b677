"""The settings of the judges, one class a kind."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from rlaif.judges.tournament import rounds_of
from rlaif.section import Section, check_most

JUDGE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PORTS = {"http": 80, "https": 443}


class JudgeSection(Section):
    """What every judge has."""

    name: str = Field(pattern=JUDGE_NAME)
    """By this its verdicts stand in the tables and its scores in the summary."""
    threshold: float
    """The score from which a candidate counts as good, on the judge's own scale."""
    actors: int = Field(default=1, ge=1)
    max_actors: int | None = Field(default=None, ge=1)
    """Actors at most: further ones are started while batches wait, and end once everything is written and none waits.
    None: no further ones."""
    cpus: float = Field(default=0.25, ge=0)
    gpus: float = Field(default=0.0, ge=0)
    batch: int = Field(default=96, ge=1)
    """Candidates in one call; those of a case are never parted."""
    calls: int = Field(default=2, ge=1)
    """Calls that wait at one actor or run in it."""
    timeout_s: float = Field(default=600.0, gt=0, le=1e6)
    """Longest time of a question, from its turn behind others to its last attempt: it fails by then."""

    @model_validator(mode="after")
    def _most(self) -> "JudgeSection":
        check_most("judge", self.actors, self.max_actors)
        return self

    def longest_chain(self, candidates: int) -> int:
        """How often `timeout_s` can pass, once after another, in a case of so many candidates; 0: nothing is asked."""
        return 0


class RulesJudgeSettings(JudgeSection):
    """GREEN's error classes by rules, offline."""

    kind: Literal["rules"]


class ChatJudgeSection(JudgeSection):
    """What judges have that ask a chat model behind an OpenAI-compatible address."""

    base_url: str
    """The address that `/chat/completions` is put behind."""
    model: str = Field(min_length=1)
    prompt: str
    """The prompt's file in `rlaif/judges/prompts`, without its ending."""
    temperature: float = Field(default=0.0, ge=0)
    max_tokens: int = Field(default=512, ge=1)
    structured: Literal["auto", "on", "off"] = "auto"
    """Whether the server holds the model to a JSON schema; `auto` tries, and does without where it refuses."""
    explanation_characters: int = Field(default=2000, ge=1)
    """Longest explanation, where the server holds the model to a schema; its words are most of the cost."""
    max_characters: int = Field(default=20_000, ge=1)
    """A longer report is not sent: its candidate fails as `invalid_candidate`."""
    allowed_hosts: tuple[str, ...] = LOOPBACK
    """Hosts that report text may be sent to."""
    environment_proxy: bool = False
    """Whether HTTPS_PROXY and its kin are obeyed."""
    identifiers: Literal["block", "warn", "ignore"] = "block"
    """What happens to a report that seems to name a patient, a date or a record number."""
    key_variable: str = Field(default="OPENAI_API_KEY", pattern=r"^[A-Z][A-Z0-9_]*$")
    """The environment variable with the key; with _FILE behind its name, that of a file (mode 0600) that holds it."""
    concurrency: int = Field(default=32, ge=1)
    """Most questions in flight at the address, over the whole cluster; fewer while the service pushes back."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    attempts: int = Field(default=6, ge=1)
    """How often a question is sent before it counts as failed."""
    request_timeout_s: float = Field(default=120.0, gt=0, le=1e5)
    """Longest wait for one reply."""
    usd_per_million_prompt_tokens: float | None = Field(default=None, ge=0)
    usd_per_million_completion_tokens: float | None = Field(default=None, ge=0)
    max_cost_usd: float | None = Field(default=None, ge=0)
    """What a run may spend on this judge: at the cap nothing more is asked, and what was paid for is kept."""

    @property
    def host(self) -> str:
        """The host of the address."""
        return urlsplit(self.base_url).hostname or ""

    @property
    def place(self) -> str:
        """The address's HOST[:PORT], without the port that its scheme implies."""
        parts = urlsplit(self.base_url)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if parts.port in (None, PORTS[parts.scheme]) else f"{host}:{parts.port}"

    @property
    def address(self) -> str:
        """The address in one form, whatever its case, its port and its last slash are written like."""
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{self.place}{parts.path.rstrip('/')}"

    @property
    def version(self) -> str:
        """PROMPT:MODEL@HOST[:PORT]#HASH: everything that a verdict depends on beside the reports.

        The hash is that of the whole address, `temperature`, `structured`, `max_tokens` and `explanation_characters`.
        """
        rest = [self.address, self.temperature, self.structured, self.max_tokens, self.explanation_characters]
        short = hashlib.sha256(json.dumps(rest).encode()).hexdigest()[:8]
        return f"{self.prompt}:{self.model}@{self.place}#{short}"

    def longest_chain(self, candidates: int) -> int:
        """A question and its repair."""
        return 2 if candidates else 0

    @model_validator(mode="after")
    def _may_be_asked(self) -> "ChatJudgeSection":
        parts = urlsplit(self.base_url)
        try:
            sound = parts.scheme in PORTS and parts.hostname and parts.port != 0
        except ValueError:
            sound = False
        if not sound or parts.username or parts.password:
            raise ValueError(f"base_url={self.base_url} is no address: write http(s)://HOST[:PORT]/v1, without a key")
        if parts.query or parts.fragment:
            raise ValueError(f"base_url={self.base_url}: an address takes neither ? nor #")
        if self.host not in self.allowed_hosts:
            raise ValueError(
                f"judge {self.name} would send report text to {self.host}, which is not in allowed_hosts "
                f"({', '.join(self.allowed_hosts)}): if it may leave for there, add it to allowed_hosts, or set "
                "base_url to a model of your own"
            )
        if parts.scheme == "http" and self.host not in LOOPBACK:
            raise ValueError(f"base_url={self.base_url} is not encrypted: use https:// for a host that is not this one")
        if self.max_cost_usd is not None and None in (
            self.usd_per_million_prompt_tokens,
            self.usd_per_million_completion_tokens,
        ):
            raise ValueError(
                "max_cost_usd needs usd_per_million_prompt_tokens and usd_per_million_completion_tokens: "
                "set both from the service's price list"
            )
        return self

    def cost_usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What so many tokens cost; 0 where no prices are set."""
        prices = self.usd_per_million_prompt_tokens or 0.0, self.usd_per_million_completion_tokens or 0.0
        return (prompt_tokens * prices[0] + completion_tokens * prices[1]) / 1e6


class Gpt4JudgeSettings(ChatJudgeSection):
    """3D-CT-GPT++'s judge: a chat model that scores from 1 to 5."""

    kind: Literal["gpt4"]


class LlmParserJudgeSettings(ChatJudgeSection):
    """RGRO's judge: a chat model that says which of two reports is better."""

    kind: Literal["llm_parser"]

    def longest_chain(self, candidates: int) -> int:
        """A tournament's rounds, each of a question and its repair."""
        return 2 * rounds_of(candidates)


class GreenJudgeSettings(JudgeSection):
    """GREEN: a language model trained to list errors, on vLLM in actors of its own."""

    kind: Literal["green"]
    model: str = Field(min_length=1)
    """The folder of the model's weights and tokenizer."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float16"
    max_length: int = Field(default=4096, ge=256)
    """Positions of prompt and answer together."""
    max_tokens: int = Field(default=1024, ge=1)
    """Longest answer."""
    words: int = Field(default=300, ge=1)
    """First words of each report that the model is shown; 300 in the official prompt."""
    threads: int = Field(default=1, ge=1)
    gpu_memory: float = Field(default=0.9, gt=0, le=1)
    """Share of a GPU's memory for the engine."""
    kv_cache_gib: int = Field(default=1, ge=1)
    """GiB for the engine's cache on a CPU."""

    def longest_chain(self, candidates: int) -> int:
        """The engine's start, a question, and the same once more."""
        return 3 if candidates else 0

    @model_validator(mode="after")
    def _leaves_room(self) -> "GreenJudgeSettings":
        if self.max_tokens >= self.max_length:
            raise ValueError(
                f"max_tokens={self.max_tokens} leaves no room for a prompt within max_length={self.max_length}: "
                "lower the one or raise the other"
            )
        return self


LeafJudgeSettings: TypeAlias = Annotated[
    RulesJudgeSettings | Gpt4JudgeSettings | LlmParserJudgeSettings | GreenJudgeSettings,
    Field(discriminator="kind"),
]


class EnsembleJudgeSettings(Section):
    """Several judges as one."""

    kind: Literal["ensemble"]
    name: str = Field(pattern=JUDGE_NAME)
    threshold: float
    members: tuple[LeafJudgeSettings, ...] = Field(min_length=2)
    """Names of judges, or mappings with a name under `judge` and what differs from it."""
    weights: Mapping[str, float] = {}
    """Each member's weight; 1 where none is given."""
    max_disagreement: float | None = Field(default=None, gt=0, le=1)
    """Abstains where members' scores, each on a scale from 0 to 1, lie further apart."""
    minimum_members: int | None = Field(default=None, ge=1)
    """Fewest members with a score for the ensemble to have one; null: all of them."""

    @model_validator(mode="after")
    def _fits_together(self) -> "EnsembleJudgeSettings":
        names = [member.name for member in self.members]
        if len(set(names)) < len(names) or self.name in names:
            raise ValueError(f"members {', '.join(names)} of {self.name}: give each judge another name")
        if unknown := sorted(set(self.weights) - set(names)):
            raise ValueError(f"weights names {', '.join(unknown)}, which is no member; there are {', '.join(names)}")
        if any(weight < 0 for weight in self.weights.values()) or not any(
            self.weights.get(name, 1.0) > 0 for name in names
        ):
            raise ValueError("weights must not be negative, and one must be above 0")
        if (self.minimum_members or 0) > len(names):
            raise ValueError(f"minimum_members={self.minimum_members} is more than the {len(names)} members")
        return self


JudgeSettings: TypeAlias = Annotated[
    RulesJudgeSettings | Gpt4JudgeSettings | LlmParserJudgeSettings | GreenJudgeSettings | EnsembleJudgeSettings,
    Field(discriminator="kind"),
]
LeafJudge: TypeAlias = RulesJudgeSettings | Gpt4JudgeSettings | LlmParserJudgeSettings | GreenJudgeSettings
AnyJudge: TypeAlias = LeafJudge | EnsembleJudgeSettings


def leaves_of(judge: AnyJudge) -> tuple[LeafJudge, ...]:
    """The judges that score by themselves: the members of an ensemble, else the judge."""
    return judge.members if isinstance(judge, EnsembleJudgeSettings) else (judge,)
