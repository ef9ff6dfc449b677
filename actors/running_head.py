"""Finding a Ray head that runs already: the one that RAY_ADDRESS names, or the one that `ray start` left here."""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

ANSWER_S = 3.0


def named_head() -> str | None:
    """The address that the environment names: of a head (`host:port`) or of its job server (`http://…`)."""
    return os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS") or None


def started_head() -> str | None:
    """The address of the head that `ray start` left on this machine; None where it no longer answers."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    note = Path(folder) / "ray" / "ray_current_cluster"
    address = note.read_text(encoding="utf-8").strip() if note.is_file() else ""
    return address if address and answers(address) else None


def answers(address: str) -> bool:
    """Whether somebody listens at `host:port`, with or without a scheme before it."""
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        socket.create_connection((parts.hostname, parts.port), timeout=ANSWER_S).close()
    except (OSError, ValueError, TypeError):
        return False
    return True
