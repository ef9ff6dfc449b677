"""TRL's OnlineDPOTrainer as a side of a benchmark: a process that takes a round's steps when it is told to."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset
from in_turn import Turns
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from rlaif.judges.rules import judge


@dataclass(frozen=True)
class TrlRounds:
    """What both sides align, and how; `rows` are framed prompts with the reports that judges compare with."""

    model: Path
    folder: Path
    rows: list[dict[str, str]]
    rounds: int
    batch: int
    threads: int
    max_tokens: int
    max_length: int
    beta: float
    lr: float
    sampling: Literal["vllm", "transformers"]


class _InTurn(TrainerCallback):
    def __init__(self, turns: Turns, steps: int, stats: dict[str, list[float]]) -> None:
        self.turns, self.steps, self.stats = turns, steps, stats

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.turns.wait()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.steps == 0:
            self.turns.done({"ended": sum(self.stats["val/contain_eos_token"][-self.steps :]) / self.steps})
            self.turns.wait()


def scores(completions: list[str], reference: list[str], **_: Any) -> list[float | None]:
    """The rules judge's scores; a report that cannot be judged has 0."""
    return [judge(whole, text).score or 0.0 for whole, text in zip(reference, completions, strict=True)]


def trl_rounds(turns: Turns, given: TrlRounds) -> None:
    """Online DPO by TRL: a turn samples two reports for every prompt, scores them and learns from each pair.

    It samples with vLLM in its own process or with transformers. A turn gives the share of reports that ended.
    """
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    steps = len(given.rows) // given.batch
    settings = OnlineDPOConfig(
        output_dir=str(given.folder),
        beta=[given.beta],
        temperature=1.0,
        max_new_tokens=given.max_tokens,
        max_length=given.max_length,
        per_device_train_batch_size=given.batch,
        max_steps=given.rounds * steps,
        learning_rate=given.lr,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        use_vllm=given.sampling == "vllm",
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = OnlineDPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32, local_files_only=True),
        reward_funcs=scores,
        args=settings,
        train_dataset=Dataset.from_list(given.rows),
        processing_class=AutoTokenizer.from_pretrained(given.model, local_files_only=True),
    )
    trainer.add_callback(_InTurn(turns, steps, trainer.stats))
    trainer.train()
