"""The keys of trackers: of those that leave this machine alone, asked for before a run and never its end after that."""

from pathlib import Path

import pytest

from actors import tracking
from actors.api_key import JudgeMisconfigured
from actors.tracking import check_tracking, track_stages, tracker_keys
from rlaif.config import Config, HeldoutSettings
from rlaif.ledger import RunFolder
from rlaif.trackers.settings import TrackerSettings
from rlaif.trackers.tracking import TrackerMissing

SERVER = {"mlflow": {"uri": "http://127.0.0.1:9"}}
ONLINE = {"wandb": {"mode": "online", "base_url": "http://127.0.0.1:9"}}


def config_of(**trackers: object) -> Config:
    """A configuration of trackers alone."""
    settings = TrackerSettings.model_validate({"tensorboard": False, **trackers})
    return Config.model_construct(trackers=settings, heldout=HeldoutSettings.model_construct(resamples=10))


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    monkeypatch.setattr(tracking, "check_trackers", lambda _: None)


def test_only_trackers_with_an_address_have_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_text("a-token\n")
    file.chmod(0o600)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN_FILE", str(file))
    monkeypatch.setenv("WANDB_API_KEY_FILE", str(tmp_path / "nowhere"))
    server = config_of(**SERVER, wandb={})
    check_tracking(server)
    assert tracker_keys(server.trackers, "mlflow") == {"MLFLOW_TRACKING_TOKEN": "a-token"}
    assert tracker_keys(server.trackers, "wandb") == {}
    assert tracker_keys(config_of(mlflow={}).trackers, "mlflow") == {}


def test_a_key_that_is_not_there_or_is_none_is_told_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrackerMissing, match="put WANDB_API_KEY into the environment where the job runs"):
        check_tracking(config_of(**ONLINE))
    monkeypatch.setenv("WANDB_API_KEY", "two words")
    with pytest.raises(JudgeMisconfigured, match="WANDB_API_KEY holds no key"):
        check_tracking(config_of(**ONLINE))
    monkeypatch.setenv("WANDB_API_KEY", "a-key")
    check_tracking(config_of(**ONLINE))


def test_a_key_that_is_gone_later_is_a_failure_of_its_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN_FILE", str(tmp_path / "nowhere"))
    with RunFolder.open(tmp_path / "runs", "run", {"run": {"rounds": 1}}) as run:
        run.finish("studies", seconds=1.0)
        track_stages(run, config_of(**SERVER))
    told = capsys.readouterr().out
    assert "warning: trackers.mlflow is not told of run" in told
    assert "MLFLOW_TRACKING_TOKEN_FILE names a file that cannot be read" in told
