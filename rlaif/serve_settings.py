"""The settings of a language model that a team serves itself, for judges that ask one (jobs/serve.py)."""

from typing import Literal

from pydantic import Field, model_validator

from rlaif.section import Section


class ServeSettings(Section):
    model: str | None
    """The folder of the model: `config.json`, safetensors weights, tokenizer and chat template."""
    name: str | None = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """What requests call the model; null: the folder's name."""
    host: str = Field(min_length=1)
    """The address that is listened on; beyond the loopback address everyone who reaches it can ask."""
    port: int = Field(ge=1, le=65535)
    cpus: float = Field(gt=0)
    gpus: float = Field(ge=0)
    """Several are whole: the model's layers are split over them."""
    threads: int = Field(ge=1)
    """Of the engine, where it runs on CPUs."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    """`auto`: float32 on CPUs, and on GPUs as the model was saved, or half where that is float32."""
    max_length: int = Field(ge=2)
    """Positions of question and answer together."""
    max_sequences: int = Field(ge=1)
    """Requests that are answered at the same time; further ones wait."""
    gpu_memory: float = Field(gt=0, le=1)
    """Share of a GPU's memory for the engine."""
    kv_cache_gib: int = Field(ge=1)
    """GiB for the engine's cache on CPUs."""
    timeout_s: float = Field(gt=0, le=1e6)
    """Longest wait for the model to be ready."""

    @model_validator(mode="after")
    def _whole_gpus(self) -> "ServeSettings":
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus={self.gpus:g} is neither a part of a GPU nor a whole number of them")
        return self
