"""What the installation must hold: dependencies that are declared and pinned, floors that hold, free names."""

import ast
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parent.parent
# Modules of these folders are found by name, as their users find them.
OWN = {
    "rlaif",
    "actors",
    *(
        path.stem
        for at in ("benchmarks", "scripts", "tests/servers", "tests/actors")
        for path in (PROJECT / at).glob("*.py")
    ),
}
# Its metadata pins an old Python and torch, so that it stands in the pinned list alone.
PINNED_ONLY = {"green_score"}
ENGINES = {"ray", "vllm", "deepspeed"}


def imports(folder: str) -> Iterator[tuple[str, Path]]:
    """Top-level names that the folder's modules import, with the module."""
    for path in sorted((PROJECT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((alias.name.split(".")[0], path) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.split(".")[0], path


def declared(*extras: str) -> dict[str, Requirement]:
    """The requirements of pyproject.toml and of some of its extras, by canonical name."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in extras for line in optional[extra])]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def pinned() -> dict[str, str]:
    """The pinned list, by canonical name."""
    lines = (
        line.partition("#")[0].strip()
        for line in (PROJECT / "requirements-cpu.txt").read_text(encoding="utf-8").splitlines()
    )
    pairs = (line.split("==") for line in lines if line)
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("rlaif", ["cpu", "metrics", "mlflow", "wandb"]),
        ("actors", ["cpu"]),
        ("jobs", ["cpu"]),
        ("benchmarks", ["cpu", "dev"]),
        ("tests", ["cpu", "metrics", "mlflow", "wandb", "dev"]),
    ],
)
def test_every_import_is_a_declared_dependency(folder: str, extras: list[str]) -> None:
    names = declared(*extras)
    distributions = importlib.metadata.packages_distributions()
    undeclared = {
        f"{path.relative_to(PROJECT)} imports {name}"
        for name, path in imports(folder)
        if name not in sys.stdlib_module_names
        and name not in OWN | PINNED_ONLY
        and not any(canonicalize_name(owner) in names for owner in distributions.get(name, []))
    }
    assert undeclared == set()


def test_the_pinned_list_meets_every_declared_requirement() -> None:
    pins = pinned()
    wanted = declared("cpu", "metrics", "gguf", "mlflow", "wandb", "dev")
    unmet = [str(one) for name, one in wanted.items() if name not in pins or not one.specifier.contains(pins[name])]
    assert unmet == []


def test_the_environment_is_the_pinned_list_and_nothing_else() -> None:
    installed = {canonicalize_name(one.metadata["Name"]): one.version for one in importlib.metadata.distributions()}
    for own in ("rlaif-ct", "pip"):
        installed.pop(own, None)
    assert installed == pinned()


def test_what_breaks_vllm_on_a_cpu_is_absent() -> None:
    assert [name for name in ("torchvision", "torchaudio", "torchcodec") if importlib.util.find_spec(name)] == []


def test_no_job_bears_the_name_of_an_importable_module() -> None:
    jobs = sorted(path.stem for path in (PROJECT / "jobs").glob("*.py"))
    code = f"import importlib.util as u; print([name for name in {jobs!r} if u.find_spec(name)])"
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "dpo_loop" in jobs
    assert found.stdout.strip() == "[]"


def test_imports_go_down_only() -> None:
    assert {f"{path.name}: {name}" for name, path in imports("rlaif") if name in {*ENGINES, "actors", "jobs"}} == set()
    assert {f"{path.name}: {name}" for name, path in imports("actors") if name == "jobs"} == set()


@pytest.mark.slow
def test_the_whole_library_loads_no_engine() -> None:
    modules = sorted(
        ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        for path in (PROJECT / "rlaif").rglob("*.py")
        if path.name != "__init__.py"
    )
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(sorted({ENGINES!r} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"


def set_up(project: Path, pins: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the set-up of a copy of the project that has this pinned list."""
    (project / "scripts").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(PROJECT / "scripts" / "environment.py", project / "scripts" / "environment.py")
    (project / "requirements-cpu.txt").write_text(pins, encoding="utf-8")
    command = [sys.executable, str(project / "scripts" / "environment.py")]
    settings = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", **environment}
    return subprocess.run(command, env=settings, capture_output=True, text=True, timeout=240, check=False)


def wheel(folder: Path, name: str, version: str) -> None:
    """Writes an empty package as pip takes it."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.mark.slow
def test_a_missing_cpu_index_is_told_and_the_next_set_up_starts_anew(tmp_path: Path) -> None:
    wheels, project = tmp_path / "wheels", tmp_path / "project"
    wheel(wheels, "setuptools", "78.1.1")
    pins = "setuptools==78.1.1\ntorch==2.13.0+cpu\n"
    done = set_up(project, pins, PIP_FIND_LINKS=str(wheels))
    assert done.returncode == 1
    assert "torch==2.13.0+cpu is on none of the package indexes that pip knows" in done.stderr
    assert "pip config set global.extra-index-url" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project / ".venv" / ".installed").exists()

    (project / ".venv" / "half-made").touch()
    set_up(project, pins, PIP_FIND_LINKS=str(wheels))
    assert not (project / ".venv" / "half-made").exists()


def test_another_python_is_told_in_one_line() -> None:
    code = (
        "import sys; sys.path.insert(0, 'scripts'); import environment\n"
        "try: environment.check_python((3, 12))\n"
        "except environment.SetupError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("Python 3.11 is needed, this is 3.12 (")
    assert "make setup PYTHON=" in done.stdout
