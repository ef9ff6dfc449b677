"""A language model behind an OpenAI-compatible address: `ray.serve.llm` with a vLLM engine, on GPUs or CPUs."""

import ipaddress
import json
import logging
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from safetensors import SafetensorError, safe_open

from actors.quiet import QUIET
from rlaif.config import ConfigurationError
from rlaif.serve_settings import ServeSettings

APPLICATION = "served-model"
POLL_S = 1.0
FAILED = "DEPLOY_FAILED"


class ServedModelError(RuntimeError):
    """A model that cannot be served, or is served no longer, with the reason."""


@dataclass(frozen=True)
class ModelFolder:
    """A model that can be served: where it lies, and what requests call it."""

    path: Path
    name: str


def model_folder(settings: ServeSettings) -> ModelFolder:
    """The model that the settings name; raises ConfigurationError where it lacks what serving it takes."""
    if settings.model is None:
        raise ConfigurationError("serve.model is missing: set serve.model=FOLDER, the folder of a language model")
    path = Path(settings.model).expanduser().absolute()
    if not path.is_dir():
        raise ConfigurationError(f"serve.model: {path} is no folder; name the one that holds the model's config.json")
    positions = _read(path / "config.json").get("max_position_embeddings")
    if isinstance(positions, int) and settings.max_length > positions:
        raise ConfigurationError(
            f"serve.max_length={settings.max_length} is more than the {positions} positions of {path}: lower it"
        )
    _check_weights(path)
    if not _has_chat_template(path):
        raise ConfigurationError(
            f"serve.model: {path} has no chat template, so that it cannot be asked as a chat model; put its "
            "chat_template.jinja beside the tokenizer"
        )
    # As ServeSettings.name has it; a folder may be called anything.
    name = settings.name or re.sub(r"[^A-Za-z0-9._-]", "-", path.name).lstrip("._-") or "model"
    return ModelFolder(path, name)


def _check_weights(path: Path) -> None:
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise ConfigurationError(f"serve.model: {path} holds no .safetensors weights; other kinds are not loaded")
    for file in files:
        try:
            with safe_open(file, framework="np"):
                pass
        except (SafetensorError, OSError) as error:
            raise ConfigurationError(f"serve.model: {file} is damaged ({error}): take it anew") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"serve.model: {path.parent} has no {path.name}") from error
    except ValueError as error:
        raise ConfigurationError(f"serve.model: {path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"serve.model: {path} is no JSON object")
    return values


def _has_chat_template(path: Path) -> bool:
    if (path / "chat_template.jinja").is_file() or (path / "chat_template.json").is_file():
        return True
    return bool(_read(path / "tokenizer_config.json").get("chat_template"))


def address_of(settings: ServeSettings) -> str:
    """The address that clients on the same machine set as their `base_url`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/v1"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_port(settings: ServeSettings) -> None:
    """Raises ConfigurationError where the address cannot be listened on.

    Serve's own sockets share their port: of two models on one port, each would answer some of the requests.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(address)
    except OSError as error:
        raise ConfigurationError(
            f"serve.host={settings.host} serve.port={settings.port} cannot be listened on ({error.strerror}): "
            "set another serve.port, or serve.host to an address of this machine"
        ) from error


@contextmanager
def served(model: ModelFolder, settings: ServeSettings) -> Iterator[None]:
    """Within this context the model answers at `address_of(settings)`; the process must be part of a cluster.

    Raises ConfigurationError where the cluster has too little for it or runs Ray Serve already, ServedModelError
    where the model does not start.
    """
    from ray import serve
    from ray.serve.schema import LoggingConfig

    _check_room(settings)
    if serve.status().proxies:
        raise ConfigurationError(
            "Ray Serve runs in this cluster already, and has one address for all that it serves: end what it serves, "
            "or set cluster.address=local for a head of its own"
        )
    # Question and answer are report text: Ray's LLM server would write them to its log.
    os.environ["RAYLLM_ENABLE_REQUEST_PROMPT_LOGS"] = "0"
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
    try:
        # A proxy on every node: the loopback address then leads to the model from wherever a judge stands.
        serve.start("EveryNode", {"host": settings.host, "port": settings.port}, logging_config=quiet)
        target = serve.RunTarget(_application(model, settings), APPLICATION, "/", quiet)
        serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
        _wait(model, settings)
        yield
    finally:
        # A second Ctrl-C must not leave half of it running.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            serve.shutdown()
        finally:
            signal.signal(signal.SIGINT, before)


def stay(model: ModelFolder) -> None:
    """Returns never; raises ServedModelError once the model cannot be served any longer."""
    from ray import serve

    while True:
        time.sleep(POLL_S)
        application = serve.status().applications.get(APPLICATION)
        if application is None or application.status == FAILED:
            raise ServedModelError(f"{model.name} is served no longer: {_reason(application)}")


def _check_room(settings: ServeSettings) -> None:
    free = ray.available_resources()
    for kind, needed in (("CPU", settings.cpus), ("GPU", settings.gpus)):
        if needed > free.get(kind, 0.0) + 1e-6:
            raise ConfigurationError(
                f"the model needs {needed:g} {kind}s, of which the cluster has {free.get(kind, 0.0):g} free: lower "
                f"serve.{kind.lower()}s, wait for what runs there, or set cluster.address=local for a head of its own"
            )


def _application(model: ModelFolder, settings: ServeSettings) -> Any:
    """The Serve application: an engine, and on every node an entrance that speaks OpenAI's protocol."""
    from ray.serve.llm import LLMConfig, build_openai_app

    on_gpu = settings.gpus > 0
    workers = max(1, int(settings.gpus))
    bundles = [{"GPU": min(settings.gpus, 1.0)} for _ in range(workers)] if on_gpu else [{}]
    bundles[0] = {"CPU": settings.cpus, **bundles[0]}
    engine: dict[str, Any] = {
        # vLLM would halve float32, which most CPUs compute more slowly.
        "dtype": settings.dtype if on_gpu or settings.dtype != "auto" else "float32",
        "max_model_len": settings.max_length,
        "max_num_seqs": settings.max_sequences,
        "tensor_parallel_size": workers,
        "load_format": "safetensors",
        "use_tqdm_on_load": False,
        # What a request leaves out is neutral, not what the model's makers preferred.
        "generation_config": "vllm",
        # Small models that are held to a schema may otherwise write blanks to the end of their tokens.
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
    }
    environment = {**QUIET, "RAYLLM_ENABLE_REQUEST_PROMPT_LOGS": "0"}
    # Ray shows what its workers print: of that, errors alone are of use here.
    environment |= {"VLLM_LOGGING_LEVEL": "ERROR", "TORCH_CPP_LOG_LEVEL": "ERROR", "PYTHONWARNINGS": "ignore"}
    if on_gpu:
        engine |= {"gpu_memory_utilization": settings.gpu_memory}
    else:
        engine |= {"kv_cache_memory_bytes": settings.kv_cache_gib << 30, "enforce_eager": True}
        # Bound to cores, the engine would take all of them, and other engines of the machine the same ones.
        environment |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(settings.threads)}
        # Threads that wait by spinning keep others off a shared machine's cores.
        environment["OMP_WAIT_POLICY"] = "passive"
    accelerator: Any = {"kind": "gpu" if on_gpu else "cpu"}
    configuration = LLMConfig(
        model_loading_config={"model_id": model.name, "model_source": str(model.path)},
        accelerator_config=accelerator,
        placement_group_config={"bundles": bundles},
        engine_kwargs=engine,
        runtime_env={"env_vars": environment},
        log_engine_metrics=False,
        deployment_config={
            "num_replicas": 1,
            "max_constructor_retry_count": 1,
            "ray_actor_options": {"num_cpus": 0},
        },
    )
    entrance = {
        "num_replicas": sum(node["Alive"] for node in ray.nodes()),
        "max_replicas_per_node": 1,
        "autoscaling_config": None,
        "ray_actor_options": {"num_cpus": 0},
    }
    return build_openai_app({"llm_configs": [configuration], "ingress_deployment_config": entrance})


def _wait(model: ModelFolder, settings: ServeSettings) -> None:
    from ray import serve

    until = time.monotonic() + settings.timeout_s
    while (application := serve.status().applications.get(APPLICATION)) is None or application.status != "RUNNING":
        if application is not None and application.status == FAILED:
            raise ServedModelError(f"{model.path} could not be served: {_reason(application)}")
        if time.monotonic() > until:
            raise ServedModelError(
                f"{model.path} was not ready after {settings.timeout_s:g} s: raise serve.timeout_s, or read above "
                "what the engine says"
            )
        time.sleep(POLL_S)


def _reason(application: Any) -> str:
    """The last line of the error that ended a replica."""
    if application is None:
        return "its application is gone"
    told = "\n".join([application.message, *(one.message for one in application.deployments.values())])
    errors = re.findall(r"^\s*[\w.]+(?:Error|Exception)\b.*", told, flags=re.MULTILINE)
    return errors[-1].strip() if errors else " ".join(told.split())[:500]
