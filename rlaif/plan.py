"""`run.dry=true`: what a run would do and need, before it does anything."""

from rlaif.config import Config


def plan(config: Config) -> None:
    print(config)
