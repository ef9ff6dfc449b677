"""What a configuration of trackers may be, and that nothing leaves the site unasked."""

from typing import Any

import pytest
from pydantic import ValidationError

from rlaif.trackers.settings import TrackerSettings

ALLOWED = {"allowed_hosts": ["tracking.hospital.example"]}


def settings(**values: Any) -> TrackerSettings:
    return TrackerSettings.model_validate(values)


def test_by_default_nothing_leaves_this_machine() -> None:
    assert settings() == TrackerSettings(tensorboard=True, mlflow=None, wandb=None)
    assert settings(mlflow={}, wandb={}).addresses == {}


def test_addresses_are_those_of_allowed_hosts() -> None:
    server = {"uri": "https://tracking.hospital.example/mlflow"}
    assert settings(mlflow=server, **ALLOWED).addresses == {"mlflow.uri": server["uri"]}
    assert settings(mlflow={"uri": "http://127.0.0.1:5000"}).addresses == {"mlflow.uri": "http://127.0.0.1:5000"}
    own = {"mode": "online", "base_url": "https://tracking.hospital.example"}
    assert settings(wandb=own, **ALLOWED).addresses == {"wandb.base_url": own["base_url"]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mlflow": {"uri": "https://mlflow.example"}}, "to mlflow.example, which is not in trackers.allowed_hosts"),
        ({"mlflow": {"uri": "https://mlflow.example"}}, "trackers.mlflow.uri=null"),
        (
            {"wandb": {"mode": "online"}},
            "to api.wandb.ai, which is not in trackers.allowed_hosts .127.0.0.1, localhost",
        ),
        ({"wandb": {"mode": "online"}}, "trackers.wandb.mode=offline"),
        ({"mlflow": {"uri": "http://tracking.hospital.example"}, **ALLOWED}, "not encrypted"),
        ({"mlflow": {"uri": "https://user:pass@tracking.hospital.example"}, **ALLOWED}, "without a key"),
        ({"mlflow": {"uri": "https://tracking.hospital.example?token=x"}, **ALLOWED}, "without a key"),
        ({"mlflow": {"uri": "databricks"}}, "mlflow.uri is no address"),
        ({"mlflow": {"uri": "http://127.0.0.1:99999"}}, "mlflow.uri is no address"),
        ({"mlflow": {"experiment": ""}}, "mlflow.experiment"),
        ({"wandb": {"project": "../x"}}, "wandb.project"),
        ({"wandb": {"mode": "dryrun"}}, "'offline' or 'online'"),
        ({"tensorbord": True}, "Extra inputs"),
        ({"timeout_s": 0}, "timeout_s"),
    ],
)
def test_what_may_not_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**values)


def test_a_key_in_an_address_is_not_shown() -> None:
    with pytest.raises(ValidationError) as refused:
        settings(mlflow={"uri": "https://user:hunter2@tracking.hospital.example"}, **ALLOWED)
    assert "hunter2" not in refused.value.errors()[0]["msg"]
