"""The settings of the trackers: which of them a run tells its numbers, and where they may go."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from rlaif.judges.settings import LOOPBACK, PORTS
from rlaif.section import Section


class MlflowSettings(Section):
    """An MLflow store, of packages that the extra `mlflow` installs."""

    uri: str | None = None
    """The address of a tracking server; null: the SQLite file `mlflow.db` in run.root, which its runs share."""
    experiment: str = Field(default="rlaif", pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._/-]{0,199}$")


class WandbSettings(Section):
    """A run of Weights & Biases, by the package that the extra `wandb` installs."""

    project: str = Field(default="rlaif", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    entity: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    """The team or user; null: the key's own."""
    mode: Literal["offline", "online"] = "offline"
    """`offline` writes to the run folder alone."""
    base_url: str = "https://api.wandb.ai"
    """The address that `online` sends to."""


class TrackerSettings(Section):
    """What a run tells its numbers to, beside its own folder."""

    tensorboard: bool = True
    mlflow: MlflowSettings | None = None
    wandb: WandbSettings | None = None
    allowed_hosts: tuple[str, ...] = LOOPBACK
    """Hosts that numbers and settings may be sent to."""
    environment_proxy: bool = False
    """Whether HTTPS_PROXY and its kin are obeyed."""
    timeout_s: float = Field(default=60.0, gt=0, le=3600)
    """Longest time that one tracker may take to write what is new; it is tried again at the next stage."""

    @property
    def addresses(self) -> dict[str, str]:
        """The addresses that numbers are sent to, by the key that sets them."""
        mlflow, wandb = self.mlflow, self.wandb
        sent = {"mlflow.uri": mlflow.uri} if mlflow and mlflow.uri is not None else {}
        return sent | ({"wandb.base_url": wandb.base_url} if wandb and wandb.mode == "online" else {})

    @model_validator(mode="after")
    def _may_be_told(self) -> "TrackerSettings":
        for key, address in self.addresses.items():
            self._check(key, address)
        return self

    def _check(self, key: str, address: str) -> None:
        parts = urlsplit(address)
        try:
            sound = parts.scheme in PORTS and parts.hostname and parts.port != 0
        except ValueError:
            sound = False
        # The address itself may hold a key and is not shown.
        if not sound or parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(f"{key} is no address: write http(s)://HOST[:PORT], without a key, ? or #")
        if parts.hostname not in self.allowed_hosts:
            raise ValueError(
                f"{key} would send the run's numbers to {parts.hostname}, which is not in trackers.allowed_hosts "
                f"({', '.join(self.allowed_hosts)}): if they may leave for there, add it to trackers.allowed_hosts, or "
                f"set {'trackers.mlflow.uri=null' if key == 'mlflow.uri' else 'trackers.wandb.mode=offline'}"
            )
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ValueError(f"{key}={address} is not encrypted: use https:// for a host that is not this one")
