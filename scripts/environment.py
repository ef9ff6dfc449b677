"""Makes the virtual environment `.venv` from the pinned list: whole, or not at all.

    python3.11 scripts/environment.py

Needs Python 3.11 and pip, nothing else. `.venv/.installed` is a copy of the list that was installed
last: an environment without it is one whose installation was cut short, and is made anew.
"""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".installed"
LOG = VENV / "install.log"
PINNED = PROJECT / "requirements-cpu.txt"
WANTED = (3, 11)
TIMEOUT_S = 3600


class SetupError(RuntimeError):
    """What keeps the environment from being made, and what to do about it."""


def make_environment() -> None:
    """Brings `.venv` to the pinned list; does nothing where it is there already. Raises SetupError."""
    check_python(sys.version_info[:2])
    wanted = PINNED.read_text(encoding="utf-8")
    installed = STAMP.read_text(encoding="utf-8") if STAMP.is_file() else None
    if installed == wanted and PYTHON.is_file():
        return
    if installed is None or not PYTHON.is_file():
        shutil.rmtree(VENV, ignore_errors=True)
        run([sys.executable, "-m", "venv", *([] if has_ensurepip() else ["--without-pip"]), str(VENV)])
        installed = ""
    STAMP.unlink(missing_ok=True)
    LOG.unlink(missing_ok=True)
    pins = packages(wanted)
    print(f"installing {len(pins)} packages into {VENV}: some minutes, once; {LOG} has the details", flush=True)
    gone = sorted(packages(installed).keys() - pins.keys())
    if gone:
        pip("uninstall", "--yes", *gone)
    # Source packages are built with the list's own setuptools, so that nothing is resolved.
    pip("install", "--no-deps", f"setuptools=={pins['setuptools']}")
    # First, so that a missing index is told at once and not after the other downloads.
    install_torch(f"torch=={pins['torch']}")
    pip("install", "--no-deps", "--no-build-isolation", "--ignore-requires-python", "-r", str(PINNED), of=len(pins))
    pip("install", "--no-deps", "--no-build-isolation", "-e", str(PROJECT))
    STAMP.write_text(wanted, encoding="utf-8")
    print(f"installed: {VENV}", flush=True)


def check_python(version: tuple[int, int]) -> None:
    """Raises SetupError for any Python but the one that the pinned list is for."""
    if version != WANTED:
        raise SetupError(
            f"Python {WANTED[0]}.{WANTED[1]} is needed, this is {version[0]}.{version[1]} ({sys.executable}): "
            f"install python{WANTED[0]}.{WANTED[1]}, or name it with `make setup PYTHON=/path/to/python3.11`"
        )
    if not has_ensurepip() and importlib.util.find_spec("pip") is None:
        raise SetupError(f"{sys.executable} has neither pip nor ensurepip: install pip for it (python3-pip)")


def has_ensurepip() -> bool:
    """Whether new environments can have a pip of their own; some distributions leave that out."""
    return importlib.util.find_spec("ensurepip") is not None


def packages(pinned: str) -> dict[str, str]:
    """Names and versions of a pinned list."""
    lines = (line.partition("#")[0].strip() for line in pinned.splitlines())
    return dict(line.split("==", 1) for line in lines if line)


def install_torch(pin: str) -> None:
    """Installs torch's CPU build; raises SetupError that says how to let pip find it where it does not."""
    try:
        pip("install", "--no-deps", pin)
    except SetupError as error:
        if "No matching distribution found" not in LOG.read_text(encoding="utf-8"):
            raise
        raise SetupError(
            f"{pin} is on none of the package indexes that pip knows: PyTorch's CPU builds have an index of their own, "
            "or your site mirrors it. Add it (`pip config set global.extra-index-url URL`, or PIP_EXTRA_INDEX_URL=URL "
            "in the environment), then run the same command again"
        ) from error


def pip(*arguments: str, of: int = 0) -> None:
    """Runs pip for `.venv`, its output into the log; tells the progress of a download of `of` packages."""
    own = [str(PYTHON), "-m", "pip"] if has_ensurepip() else [sys.executable, "-m", "pip", "--python", str(PYTHON)]
    command = [*own, "--disable-pip-version-check", "--no-input", *arguments]
    with (
        LOG.open("a", encoding="utf-8") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace"
        ) as process,
    ):
        assert process.stdout is not None
        collected = 0
        for line in process.stdout:
            log.write(line)
            if line.startswith("Collecting "):
                collected += 1
                if of and collected % 40 == 0:
                    print(f"  {collected} of {of} packages fetched", flush=True)
            elif of and line.startswith("Installing collected packages"):
                print(f"  all {collected} fetched; unpacking", flush=True)
        status = process.wait(timeout=TIMEOUT_S)
    if status:
        lines = [line for line in LOG.read_text(encoding="utf-8").splitlines() if not line.startswith("WARNING: ")]
        raise SetupError("\n".join([f"pip failed ({' '.join(arguments[:2])} …):", *lines[-15:], f"see {LOG}"]))


def run(command: list[str]) -> None:
    """Runs a command; raises SetupError with its last words where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise SetupError(f"`{' '.join(command)}` failed:\n{(done.stdout + done.stderr).strip()[-2000:]}")


if __name__ == "__main__":
    try:
        make_environment()
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped: the next `make setup` starts anew", file=sys.stderr)
        sys.exit(130)
