from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rlaif.models.tensor_files import write_tensors


def test_tensors_are_read_back(tmp_path: Path) -> None:
    write_tensors({"a": torch.arange(3.0)}, tmp_path / "one.safetensors")
    assert torch.equal(load_file(tmp_path / "one.safetensors")["a"], torch.tensor([0.0, 1.0, 2.0]))


def test_what_the_system_refuses_is_the_systems_error(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "one.safetensors"
    with pytest.raises(FileNotFoundError) as caught:
        write_tensors({"a": torch.zeros(1)}, path)
    assert caught.value.filename == str(path)
