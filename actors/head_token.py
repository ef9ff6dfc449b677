"""The token that guards a Ray head: readable by its owner only."""

import os
import secrets
from pathlib import Path


def write_token(path: Path) -> None:
    """Writes a new token."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))


def guard_own_token() -> None:
    """Makes sure that the user's own token exists and that nobody else reads it; Ray would leave it open to all."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    path = Path.home() / ".ray" / "auth_token"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_file():
        path.chmod(0o600)
    else:
        write_token(path)
