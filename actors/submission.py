"""Submitting a job to a Ray head, with its log on this terminal."""

import asyncio
import logging
import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import ClientError

from actors.head import Head, HeadError
from actors.quiet import QUIET
from actors.running_head import answers, named_head, started_head

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

SUBMIT_S = 120.0
STOP_S = 30.0


def running_head() -> Head | None:
    """The head that runs already, for jobs of this machine; None where there is none.

    Raises HeadError where the environment names one that does not answer.
    """
    named = named_head()
    if named and not answers(named):
        raise HeadError(f"the Ray head {named} (RAY_ADDRESS) does not answer: start it, or unset RAY_ADDRESS")
    address = named or started_head()
    if address is None:
        return None
    environment = {**os.environ, **QUIET}
    # They would come before the address on the command line.
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        environment.pop(name, None)
    if "RAY_AUTH_MODE" not in environment and (Path.home() / ".ray" / "auth_token").is_file():
        environment["RAY_AUTH_MODE"] = "token"
    return Head(address, environment)


def submit(head: Head, job: Sequence[str]) -> int:
    """Runs a command as a job of the head, with its log as it comes; the status that the command ended with.

    A KeyboardInterrupt stops the job. Raises HeadError where the head does not take it, or is lost meanwhile.
    """
    name = f"rlaif-{secrets.token_hex(4)}"
    ray = str(Path(sys.executable).parent / "ray")
    arguments = ["job", "submit", "--address", head.address, "--submission-id", name, "--no-wait", "--", *job]
    print(f"ray {shlex.join(arguments)}", flush=True)
    submitted = subprocess.run(
        [ray, *arguments], env=head.environment, check=False, capture_output=True, text=True, timeout=SUBMIT_S
    )
    if submitted.returncode:
        raise HeadError(f"the head at {head.address} does not take the job:\n{submitted.stderr.strip()[-2000:]}")
    os.environ.update(head.environment)
    # Ray reads how it must authenticate when it is imported.
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.WARNING)
    try:
        client = JobSubmissionClient(head.address)
        asyncio.run(_follow(client, name))
        status = client.get_job_info(name).driver_exit_code
    except KeyboardInterrupt:
        stop = [ray, "job", "stop", "--address", head.address, name]
        subprocess.run(stop, env=head.environment, check=False, capture_output=True, timeout=STOP_S)
        raise
    except ConnectionError as error:
        raise HeadError(f"the head at {head.address} was lost while {name} ran: {error}") from error
    if status is None:
        raise HeadError(f"{name} never started or was stopped: {client.get_job_info(name).message}")
    return status


async def _follow(client: "JobSubmissionClient", name: str) -> None:
    """Prints a job's log until the job has ended; takes a broken connection up again where it broke."""
    shown = 0
    while True:
        passed = 0
        try:
            async for text in client.tail_job_logs(name):
                print(text[max(0, shown - passed) :], end="", flush=True)
                passed += len(text)
                shown = max(shown, passed)
        except (RuntimeError, ClientError) as error:
            print(f"(the log's connection broke: {error})", file=sys.stderr)
        if client.get_job_status(name).is_terminal():
            return
        await asyncio.sleep(1.0)
