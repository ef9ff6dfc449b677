"""A policy folder's weights as they lie on disk, read one by one where they are needed."""

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from rlaif.models.policy import CONNECTOR_FILE, ENCODER_FILE, LANGUAGE_MODEL
from rlaif.models.settings import PolicyError


class StoredWeights:
    """The tensors of a folder's safetensors files by checkpoint names."""

    def __init__(self, folder: Path) -> None:
        files = [(one, "language_model.") for one in sorted((folder / LANGUAGE_MODEL).glob("*.safetensors"))]
        files += [(folder / name, f"{name.partition('.')[0]}.") for name in (CONNECTOR_FILE, ENCODER_FILE)]
        self.folder = folder
        self._files = {
            prefix + name: (opened, name)
            for path, prefix in files
            if path.is_file()
            for opened in [safe_open(path, framework="pt")]
            for name in opened.keys()  # noqa: SIM118 - no mapping
        }

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __getitem__(self, name: str) -> Tensor:
        try:
            opened, inner = self._files[name]
        except KeyError:
            raise PolicyError(f"{self.folder} holds no {name}: its adapters were made for another policy") from None
        tensor: Tensor = opened.get_tensor(inner)
        return tensor

    def siblings(self, names: Iterable[str]) -> list[str]:
        """The other weights of the language model's modules that hold the named layers, as engines stack them."""
        wanted = set(names)
        above = {name.rsplit(".", 2)[0] for name in wanted if name.startswith("language_model.")}
        return [name for name in self._files if name not in wanted and name.rsplit(".", 2)[0] in above]


def stored_dtype(folder: Path) -> torch.dtype:
    """The dtype of a folder's language model on disk; raises PolicyError where it has no safetensors file."""
    for path in sorted((folder / LANGUAGE_MODEL).glob("*.safetensors")):
        with safe_open(path, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - no mapping
                kind: str = opened.get_slice(name).get_dtype()
                if kind in _FLOATS:
                    return _FLOATS[kind]
    raise PolicyError(f"{folder / LANGUAGE_MODEL} holds no weights as safetensors")


_FLOATS = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
