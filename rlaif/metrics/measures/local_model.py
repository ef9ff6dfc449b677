"""Models of metrics that lie on this machine: whether they are there, which they are, and how much text they take."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rlaif.metrics.measures.settings import NotAvailable

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".th")
_BLOCK = 2**22


def installed(package: str, metric: str, how: str) -> str:
    """The package and its version, such as `bert-score 0.3.13`; raises NotAvailable where it is not installed."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        raise NotAvailable(f"{metric} needs the package {package}: {how}") from None


def model_folder(
    given: Path | None, key: str, metric: str, holds: str, needed: Sequence[str | tuple[str, ...]]
) -> Path:
    """The folder that a setting names, once it has all that is needed (of a tuple, one); raises NotAvailable.

    `holds` says in words what the folder must hold.
    """
    if given is None:
        raise NotAvailable(f"{metric} needs weights: set score.metrics.{key} to a folder with {holds}")
    alternatives = [(names,) if isinstance(names, str) else names for names in needed]
    missing = [" or ".join(names) for names in alternatives if not any((given / name).exists() for name in names)]
    if missing:
        raise NotAvailable(f"score.metrics.{key}={given} lacks {', '.join(missing)}: it must be a folder with {holds}")
    return given.absolute()


def model_name(folder: Path) -> str:
    """The folder's name, and a checksum of the configuration and weights in it: `roberta-large (xxh3 0f…)`."""
    import xxhash

    digest = xxhash.xxh3_64()
    for path in sorted(path for path in folder.iterdir() if path.name == "config.json" or path.suffix in _SUFFIXES):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return f"{folder.name} (xxh3 {digest.hexdigest()})"


def token_limit(tokenizer: Any, config: Any) -> int:
    """How many tokens of a text, special ones among them, an encoder has positions for.

    A tokenizer whose folder does not say its limit has a meaningless one (1e30). RoBERTa and its kind count positions
    from the one after the padding token's.
    """
    limit = int(tokenizer.model_max_length)
    positions = getattr(config, "max_position_embeddings", None)
    if positions and positions > 0:
        offset = config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
        limit = min(limit, positions - offset)
    return limit
