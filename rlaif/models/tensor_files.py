"""Tensors written as safetensors files, whose errors are the system's own."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes tensors by name; raises OSError where the system refuses, such as a disk that is full."""
    try:
        # Some readers ask for the framework that wrote it.
        save_file(dict(tensors), path, metadata={"format": "pt"})
    except SafetensorError as error:
        if (found := _SYSTEM_ERROR.search(str(error))) is None:
            raise
        code = int(found[1])
        raise OSError(code, os.strerror(code), str(path)) from error
