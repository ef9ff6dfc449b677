"""The settings of the learner: its ranks, and each of its trainings."""

from typing import Literal, get_args

from pydantic import Field, model_validator

from rlaif.models.settings import LoraSettings, Part
from rlaif.section import Section

DpoLossName = Literal["sigmoid", "ipo", "hinge", "robust"]


class TrainingSettings(Section):
    """One training: what of the policy trains, how long and how fast."""

    train: tuple[str, ...]
    """Parts of the policy (`encoder`, `connector`, `language_model`), or what is below them, also as a pattern."""
    epochs: int = Field(ge=1)
    batch: int = Field(ge=1)
    lr: float = Field(gt=0)
    warmup: float = Field(ge=0, le=1)
    """Share of the steps over which the learning rate rises."""
    schedule: Literal["linear", "cosine", "constant"]
    """How the learning rate falls afterwards."""

    @model_validator(mode="after")
    def _names_parts(self) -> "TrainingSettings":
        wrong = [name for name in self.train if name.partition(".")[0] not in get_args(Part)]
        if wrong or not self.train:
            raise ValueError(
                f"train names {', '.join(wrong) or 'nothing'}: name parts of the policy ({', '.join(get_args(Part))}), "
                "or what is below them, such as connector.perceiver or language_model.*norm*"
            )
        return self


class DpoSettings(TrainingSettings):
    round_decay: float = Field(gt=0, le=1)
    """Each round's learning rate is the last one's times this: later rounds correct, and should not swing."""
    beta: float = Field(gt=0)
    loss: DpoLossName
    label_smoothing: float = Field(ge=0, lt=0.5)
    """The share of pairs that are taken to be the wrong way round; of `sigmoid` and `robust`."""
    length_normalised: bool
    """Whether rewards are log-probs a token rather than sums; `ipo` always takes them so."""
    sft_weight: float = Field(ge=0)
    """Weight of an SFT term on the chosen report."""
    reference: Literal["copy", "adapters_off", "precomputed"]
    """Where reference log-probs come from: a frozen copy, the policy without its adapters, or once before training."""
    reference_moves: bool
    """Whether the reference is the last round's policy rather than the base."""

    @model_validator(mode="after")
    def _smooths_what_can_be(self) -> "DpoSettings":
        if self.label_smoothing and self.loss not in ("sigmoid", "robust"):
            raise ValueError(
                f"label_smoothing={self.label_smoothing:g} is for the losses sigmoid and robust, not for {self.loss}: "
                "leave it at 0"
            )
        return self


class PpoSettings(TrainingSettings):
    """Reinforcement learning by PPO's clipped objective, whatever the advantages come from."""

    advantage: Literal["gae", "grpo", "rloo"]
    """Whence advantages come: a value head, or the case's other reports, by GRPO or RLOO."""
    clip: float = Field(gt=0, lt=1)
    """How far a token's probability may move from that at sampling before it earns nothing more."""
    kl_weight: float = Field(ge=0)
    """Price of a nat of KL divergence from the reference, in scores as they are after `whiten_rewards`; within the
    reward, with `grpo` within the loss."""
    kl_target: float | None = Field(gt=0)
    """Nats a report to which the weight steers from round to round; null: the weight stays."""
    kl_horizon: int = Field(ge=1)
    """Over so many reports the weight may follow its target by 20 %."""
    max_kl: float = Field(gt=0)
    """Above so many nats a report the training ends, and the last checkpoint stays."""
    gamma: float = Field(gt=0, le=1)
    gae_lambda: float = Field(ge=0, le=1)
    value_weight: float = Field(ge=0)
    """Weight of the value head's loss."""
    value_clip: float = Field(gt=0)
    """How far a value may move from that at sampling before it earns nothing more."""
    value_lr: float = Field(gt=0)
    """The value head's own learning rate: it begins with nothing."""
    value_trains_policy: bool
    """Whether the value head's loss reaches the language model below it."""
    whiten_rewards: bool
    """Whether a round's scores are brought to mean 0 and standard deviation 1."""
    whiten_advantages: bool
    """Whether a round's advantages by `gae` are."""
    score_unusable: bool
    """Whether a report that is empty or does not end has the lowest score of the judge's scale; else it takes no part,
    and nothing holds the policy back from writing more of them."""
    shuffle_rewards: bool
    """A control: the round's scores are dealt out anew among its reports, so that there is nothing to learn."""
    max_unusable: float = Field(gt=0, le=1)
    """Above this share of empty or endless reports the policy has collapsed, and the run stops."""
    max_same: float = Field(gt=0, le=1)
    """Above this share of reports with the very same words the policy has collapsed, and the run stops."""

    @model_validator(mode="after")
    def _steers_within_its_bound(self) -> "PpoSettings":
        if self.kl_target is not None and self.kl_target >= self.max_kl:
            raise ValueError(
                f"kl_target={self.kl_target:g} is not below max_kl={self.max_kl:g}, at which the training ends: lower "
                "the first or raise the second"
            )
        if self.kl_target is not None and not self.kl_weight:
            raise ValueError("kl_target steers kl_weight, which is 0 and would stay so: set kl_weight above 0")
        return self


class LearnerSettings(Section):
    ranks: int = Field(ge=1)
    cpus: float = Field(ge=0)
    gpus: float = Field(ge=0)
    threads: int = Field(ge=1)
    zero_stage: Literal[0, 1, 2, 3]
    offload: Literal["none", "optimizer", "all"]
    """What lies in the host's memory: Adam's moments, or with stage 3 the weights too."""
    gradient_checkpointing: bool
    dtype: Literal["float32", "bfloat16"]
    micro_batch: int = Field(ge=1)
    """Cases (for DPO pairs, for PPO reports) of one forward pass on one rank."""
    lora: LoraSettings | None
    weight_decay: float = Field(ge=0)
    max_grad_norm: float = Field(gt=0)
    pretrain: TrainingSettings | None
    """A training before the fine-tuning, of the connector alone in the papers; adapters come after it."""
    sft: TrainingSettings
    dpo: DpoSettings
    ppo: PpoSettings
    max_logprob_gap: float = Field(gt=0)
    """The round fails where sampler and learner differ by more on average."""
    gap_candidates: int = Field(ge=1)
    """Candidates of a round on which the two are compared."""
    timeout_s: float = Field(gt=0)
    """Longest wait for the next step of a training, or for another answer of a rank."""
    restarts: int = Field(ge=0)
    """How often the group is started again in a run when a rank is lost."""

    @model_validator(mode="after")
    def _bfloat16_is_shared_out(self) -> "LearnerSettings":
        if self.dtype == "bfloat16" and self.zero_stage == 0:
            # DeepSpeed's optimizer for it takes a step of Adam on no gradients first, which bends the moments.
            raise ValueError(
                "dtype=bfloat16 with zero_stage=0 would learn otherwise than with the other stages: set "
                "learner.zero_stage=1, which on one rank takes the same memory"
            )
        return self

    @model_validator(mode="after")
    def _offloads_what_is_shared_out(self) -> "LearnerSettings":
        if self.offload != "none" and self.zero_stage == 0:
            raise ValueError(
                f"offload={self.offload} needs ZeRO, and zero_stage=0 is without it: set learner.zero_stage=1 to 3, "
                "or learner.offload=none"
            )
        if self.offload == "all" and self.zero_stage < 3:
            raise ValueError(
                f"offload=all moves the weights, which zero_stage={self.zero_stage} leaves whole on every rank: set "
                "learner.zero_stage=3, or learner.offload=optimizer"
            )
        return self

    @model_validator(mode="after")
    def _adapters_come_off(self) -> "LearnerSettings":
        if self.dpo.reference != "adapters_off":
            return self
        if self.lora is None:
            raise ValueError(
                "dpo.reference=adapters_off is the policy without its adapters, and lora=null gives it none: set "
                "learner.lora, or learner.dpo.reference=copy"
            )
        if self.dpo.reference_moves:
            raise ValueError(
                "dpo.reference=adapters_off is always the base: set learner.dpo.reference_moves=false, or "
                "learner.dpo.reference=copy"
            )
        whole = sorted({name.partition(".")[0] for name in self.dpo.train} - {*self.lora.parts})
        if whole:
            raise ValueError(
                f"dpo.reference=adapters_off is the base only where nothing but adapters trains, and dpo.train names "
                f"{' and '.join(whole)}, which bears none: add it to learner.lora.parts, leave it out of "
                "learner.dpo.train, or set learner.dpo.reference=copy"
            )
        return self
