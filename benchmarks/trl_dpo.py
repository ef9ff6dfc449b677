"""TRL's DPOTrainer as a side of a benchmark: a process that trains a step when it is told to."""

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from in_turn import Turns
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer


@dataclass(frozen=True)
class TrlTraining:
    """What both sides train on, and how; `rows` are framed prompts with chosen and rejected texts."""

    model: Path
    folder: Path
    rows: list[dict[str, str]]
    steps: int
    micro_batch: int
    threads: int
    beta: float
    lr: float


class _InTurn(TrainerCallback):
    def __init__(self, turns: Turns, trainer: Any, passes: int) -> None:
        self.turns, self.trainer, self.passes = turns, trainer, passes

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.turns.wait()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.turns.done(statistics.mean(self.trainer._metrics["train"]["rewards/margins"][-self.passes :]))
        self.turns.wait()


def trl_steps(turns: Turns, training: TrlTraining, ids: list[tuple[list[int], list[int], list[int]]]) -> None:
    """Trains by TRL with a precomputed reference; a turn is one optimizer step over all rows, its result the margin.

    `ids` are the tokens of prompt, chosen and rejected that the rows must have.
    """
    torch.set_num_threads(training.threads)
    passes = len(training.rows) // training.micro_batch
    settings = DPOConfig(
        output_dir=str(training.folder),
        beta=training.beta,
        precompute_ref_log_probs=True,
        per_device_train_batch_size=training.micro_batch,
        gradient_accumulation_steps=passes,
        max_steps=training.steps,
        learning_rate=training.lr,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer: Any = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(training.model, dtype=torch.float32, local_files_only=True),
        args=settings,
        train_dataset=Dataset.from_list(training.rows),
        processing_class=AutoTokenizer.from_pretrained(training.model, local_files_only=True),
    )
    theirs = [(row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]) for row in trainer.train_dataset]
    if theirs != ids:
        raise RuntimeError("TRL's tokens are not ours")
    trainer.add_callback(_InTurn(turns, trainer, passes))
    trainer.train()
