"""The examples of docs/cluster: what Ray, the jobs' settings and the presets say of them. No cluster is started."""

import os
import re
import shlex
import stat
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rlaif.config import Config

PROJECT = Path(__file__).resolve().parent.parent
EXAMPLES = PROJECT / "docs" / "cluster"
# What KubeRay 1.7 names in its reference, of what the example could use; the API server would drop or refuse others.
KNOWN = {
    "spec": "activeDeadlineSeconds backoffLimit rayClusterSpec submitterPodTemplate metadata submitterConfig suspend "
    "entrypoint deletionStrategy runtimeEnvYAML submissionMode ttlSecondsAfterFinished preRunningDeadlineSeconds "
    "shutdownAfterJobFinishes",
    "rayClusterSpec": "authOptions autoscalerOptions enableInTreeAutoscaling gcsFaultToleranceOptions headGroupSpec "
    "networkPolicy tlsOptions rayVersion workerGroupSpecs",
    "authOptions": "mode secretName enableK8sTokenAuth",
    "autoscalerOptions": "resources image imagePullPolicy securityContext idleTimeoutSeconds upscalingMode version env "
    "envFrom volumeMounts",
    "headGroupSpec": "template headService serviceType resources labels rayStartParams",
    "workerGroupSpecs": "groupName replicas minReplicas maxReplicas idleTimeoutSeconds priority resources labels "
    "rayStartParams template scaleStrategy numOfHosts",
}


def read(name: str) -> Any:
    return yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))


@pytest.fixture
def spec() -> Any:
    """The RayJob's spec."""
    return read("rayjob.yaml")["spec"]


def pods(spec: Any) -> dict[str, Any]:
    """The pods with Ray in them, by their roles."""
    cluster = spec["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    return {"head": cluster["headGroupSpec"]["template"]["spec"], "workers": workers["template"]["spec"]}


def containers(pod: Any) -> list[Any]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def ray_of(pod: Any) -> Any:
    (container,) = pod["containers"]
    return container


def overrides(spec: Any) -> list[str]:
    program, job, *given = shlex.split(spec["entrypoint"])
    assert program == "python" and (PROJECT / job).is_file()
    return given


@pytest.fixture
def config(spec: Any, configured: Callable[..., Config], tmp_path: Path) -> Config:
    """The configuration of the entrypoint, with a folder of ours in the place of /shared."""
    given = [one.replace("=/shared/", f"={tmp_path}/") for one in overrides(spec)]
    for one in given:
        if one.startswith(("data.path=", "policy.pretrained.path=")):
            Path(one.partition("=")[2]).mkdir(parents=True)
    return configured(*given)


def gib(quantity: str) -> float:
    return float(quantity.removesuffix("Gi"))


def start_options(parameters: dict[str, str]) -> list[str]:
    """As KubeRay writes a group's rayStartParams."""
    return [f"--{key}" if value == "true" else f"--{key}={value}" for key, value in parameters.items()]


def check_start_options(options: list[str]) -> None:
    """Raises click.UsageError where `ray start` knows no such option."""
    from ray.scripts.scripts import start

    start.make_context("start", options)


def test_the_rayjob_uses_fields_that_kuberay_has(spec: Any) -> None:
    manifest = read("rayjob.yaml")
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    # The operator's own bound: the names of what it makes are longer.
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,46}", manifest["metadata"]["name"])

    def sections(within: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        for key, value in within.items():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, dict) and key in KNOWN:
                    yield key, one
                    yield from sections(one)

    found = list(sections({"spec": spec}))
    assert {key for key, _ in found} == set(KNOWN)
    assert {f"{key}.{name}" for key, one in found for name in one if name not in KNOWN[key].split()} == set()
    for group in (spec["rayClusterSpec"]["headGroupSpec"], *spec["rayClusterSpec"]["workerGroupSpecs"]):
        check_start_options(start_options(group["rayStartParams"]))
    # The autoscaler that Ray 2.47 and later take refuses any other.
    assert {pod["restartPolicy"] for pod in pods(spec).values()} == {"Never"}


def test_the_rayjob_names_the_ray_that_the_project_pins(spec: Any) -> None:
    assert f"ray=={spec['rayClusterSpec']['rayVersion']}" in (PROJECT / "requirements-cpu.txt").read_text().splitlines()


@pytest.mark.slow
def test_the_entrypoint_is_a_run_that_its_preset_fits(
    spec: Any, config: Config, configured: Callable[..., Config], tmp_path: Path
) -> None:
    from rlaif.plan import check_memory

    # Without its path, or with an encoder that neither has weights nor begins anew, the job would be refused.
    assert config.policy.pretrained is not None and config.policy.pretrained.path is not None
    assert config.trains_encoder
    # The rest as the job checks it first, trainings and memory; the language model has the widths that the size names.
    given = [one for one in overrides(spec) if not one.startswith("policy.pretrained.path=")]
    check_memory(configured(*(one.replace("=/shared/", f"={tmp_path}/") for one in given)))


def test_the_workers_are_what_the_preset_is_made_for(spec: Any, config: Config) -> None:
    from actors.cluster import check_fits, check_placement, check_preset

    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    limits = ray_of(pods(spec)["workers"])["resources"]["limits"]
    assert limits == ray_of(pods(spec)["workers"])["resources"]["requests"]
    nodes = [float(limits["nvidia.com/gpu"])] * group["replicas"]
    assert nodes == [config.cluster.gpus] * config.cluster.nodes
    assert gib(limits["memory"]) == config.cluster.memory_gib
    # As the job checks it at its start; the head has no CPUs to give.
    check_preset(config, nodes)
    check_placement(config, nodes)
    check_fits(config, {"CPU": float(limits["cpu"]) * group["replicas"], "GPU": sum(nodes)})
    # A retry begins with `replicas`, and the autoscaler must leave as many.
    assert group["minReplicas"] == group["replicas"] <= group["maxReplicas"]
    head = spec["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]
    assert head["num-cpus"] == head["num-gpus"] == "0"
    assert "nvidia.com/gpu" not in str(ray_of(pods(spec)["head"])["resources"])


def test_the_samplers_that_the_comment_names_fill_the_most_nodes(
    spec: Any, config: Config, configured: Callable[..., Config]
) -> None:
    (most,) = set(re.findall(r"sampler\.max_actors=(\d+)", (EXAMPLES / "rayjob.yaml").read_text(encoding="utf-8")))
    grown = configured("cluster=gpus_64", f"sampler.max_actors={most}").sampler
    assert grown.max_actors is not None and config.cluster.gpus is not None
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    taken = config.learner.ranks * config.learner.gpus + grown.max_actors * grown.gpus
    assert taken == group["maxReplicas"] * config.cluster.gpus


@pytest.mark.parametrize("role", ["head", "workers"])
def test_what_a_container_names_is_there(spec: Any, role: str) -> None:
    pod = pods(spec)[role]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for container in containers(pod):
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounts.values()) <= volumes.keys(), container["name"]
        for variable in container.get("env", []):
            if variable["name"].endswith("_FILE"):
                assert str(Path(variable["value"]).parent) in mounts, variable["name"]
    mounts = {mount["mountPath"]: mount["name"] for mount in ray_of(pod)["volumeMounts"]}
    claim = read("shared.yaml")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert volumes[mounts["/shared"]]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
    assert gib(volumes[mounts["/dev/shm"]]["emptyDir"]["sizeLimit"]) < gib(ray_of(pod)["resources"]["limits"]["memory"])
    paths = [one.partition("=")[2] for one in overrides(spec) if "=/" in one]
    assert len(paths) == 4 and all(path.startswith("/shared/") for path in paths)


@pytest.mark.parametrize("role", ["head", "workers"])
def test_the_key_becomes_a_file_that_judges_take(spec: Any, role: str, tmp_path: Path) -> None:
    from actors.api_key import JudgeMisconfigured, read_owned

    pod = pods(spec)[role]
    (copy,) = pod["initContainers"]
    # As Kubernetes lays a Secret out: a link to a file of the Secret's mode.
    secret = {volume["name"]: volume for volume in pod["volumes"]}["judge-secret"]["secret"]
    folders = {mount["mountPath"]: tmp_path / mount["name"] for mount in copy["volumeMounts"]}
    script, variables = " ".join(copy["args"]), {one["name"]: one.get("value") for one in ray_of(pod)["env"]}
    key = variables["OPENAI_API_KEY_FILE"]
    for path, folder in folders.items():
        folder.mkdir()
        script = script.replace(f"{path}/", f"{folder}/")
        key = key.replace(f"{path}/", f"{folder}/")
    command = [*copy["command"], script]
    # Without a Secret, for judges that need none.
    assert secret["optional"]
    subprocess.run(command, check=True, timeout=60)
    assert not Path(key).exists()

    held = tmp_path / "judge-secret" / "held"
    held.write_text("sk-example\n")
    held.chmod(secret["defaultMode"])
    (tmp_path / "judge-secret" / Path(key).name).symlink_to(held)
    with pytest.raises(JudgeMisconfigured, match="others may read"):
        read_owned(held, "OPENAI_API_KEY_FILE")
    subprocess.run(command, check=True, timeout=60)
    assert read_owned(Path(key), "OPENAI_API_KEY_FILE") == "sk-example"
    assert stat.S_IMODE(os.stat(key).st_mode) == 0o600


def test_nobody_is_root_and_the_image_has_the_same_user(spec: Any) -> None:
    dockerfile = (EXAMPLES / "Dockerfile").read_text(encoding="utf-8")
    user, group = re.findall(r"^USER (\d+):(\d+)$", dockerfile, flags=re.MULTILINE)[-1]
    for pod in (*pods(spec).values(), spec["submitterPodTemplate"]["spec"]):
        context = pod["securityContext"]
        assert context["runAsNonRoot"] and (context["runAsUser"], context["runAsGroup"]) == (int(user), int(group))
        # With a group of the files, Kubernetes would let it read them.
        assert "fsGroup" not in context
        for container in containers(pod):
            assert not container["securityContext"]["allowPrivilegeEscalation"], container["name"]
    assert spec["rayClusterSpec"]["autoscalerOptions"]["securityContext"]["allowPrivilegeEscalation"] is False


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.iterdir()))
def test_no_secret_stands_in_an_example(name: str) -> None:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert not re.search(r"sk-\w|[A-Za-z0-9+/]{32,}|kind: Secret|stringData|PRIVATE KEY", text)
    # Neither as a shell gives it nor as a container's variable; files are named, and tokens taken from Secrets.
    assert not re.search(r"(KEY|TOKEN|PASSWORD)(=|, value:|\n\s+value:)", text)


def test_the_token_guards_both_clusters(spec: Any) -> None:
    assert spec["rayClusterSpec"]["authOptions"]["mode"] == "token"
    assert spec["rayClusterSpec"]["authOptions"]["secretName"]
    cluster = read("cluster.yaml")
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        (start,) = [command for command in cluster[commands] if "ray start" in command]
        assert "export RAY_AUTH_MODE=token" in start and "--disable-usage-stats" in start
        check_start_options(shlex.split(start.partition("ray start ")[2]))
    assert cluster["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}


def test_the_launcher_takes_its_file(configured: Callable[..., Config]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(read("cluster.yaml"))
    validate_config(config)
    hosts = [config["provider"]["head_ip"], *config["provider"]["worker_ips"]]
    assert len(set(hosts)) == len(hosts) == configured("cluster=gpus_64").cluster.nodes
    # All of them, always.
    (kind,) = config["available_node_types"].values()
    assert kind["min_workers"] == kind["max_workers"] == len(hosts) - 1


def test_the_start_commands_are_shell(tmp_path: Path) -> None:
    cluster = read("cluster.yaml")
    commands = [*cluster["setup_commands"], *cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    for command in commands:
        subprocess.run(["bash", "-n", "-c", command], check=True, timeout=60)
    # The token as `ray get-auth-token --generate` leaves it.
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("token")
    token.chmod(0o644)
    for command in cluster["setup_commands"]:
        subprocess.run(["bash", "-c", command], check=True, timeout=60, env={**os.environ, "HOME": str(tmp_path)})
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


def test_the_image_has_the_project_and_the_versions_that_were_tried(spec: Any) -> None:
    dockerfile = (EXAMPLES / "Dockerfile").read_text(encoding="utf-8")
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", dockerfile, flags=re.MULTILINE) for word in line.split()]
    assert all((PROJECT / path).exists() for path in copied)
    assert {"rlaif", "actors", "configs", shlex.split(spec["entrypoint"])[1].partition("/")[0]} <= set(copied)

    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (python,) = re.findall(r"^FROM python:(\d+\.\d+)-", dockerfile, flags=re.MULTILINE)
    assert project["requires-python"].startswith(f">={python},")
    (extras,) = re.findall(r"--editable '\.\[(.*)\]'", dockerfile)
    lines = [
        *project["dependencies"],
        *(one for extra in extras.split(",") for one in project["optional-dependencies"][extra]),
    ]
    (left_out,) = re.findall(r"grep -vE '(.*?)' requirements-cpu\.txt", dockerfile)
    pinned = [
        line.split("==")
        for line in (PROJECT / "requirements-cpu.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#") and not re.search(left_out, line)
    ]
    pins = {canonicalize_name(name): version for name, version in pinned}
    unmet = [
        line
        for line in lines
        if (name := canonicalize_name(Requirement(line).name)) in pins
        and not Requirement(line).specifier.contains(pins[name])
    ]
    assert unmet == []
    # A CPU's builds are no constraint for a GPU's.
    assert not [name for name, version in pins.items() if "+cpu" in version or "cpu" in name.split("-")]
    assert "pip uninstall --yes torchvision" in dockerfile
