"""An untrained policy for benchmarks of sampling: it costs what its size costs, and its reports are random words."""

from math import log
from pathlib import Path

import torch
from safetensors.torch import save_file

from rlaif.config import Config
from rlaif.datasets.phantom_settings import PhantomSettings
from rlaif.datasets.phantom_study import plan_study
from rlaif.features import FeatureStore
from rlaif.models.encoders.build import new_encoder
from rlaif.models.new_policy import new_policy
from rlaif.models.policy import Policy
from rlaif.models.visual_input import VisualInput
from rlaif.vision import StoredFeatures

PROMPT = "<image>\nDescribe the findings of this chest CT."
# Tokens of a report, on average.
WORDS = 30


def reports(number: int) -> list[str]:
    """Findings of phantom studies."""
    settings = PhantomSettings(sft=number)
    return [plan_study(settings, f"train_{one + 1}_a_1").report.findings for one in range(number)]


def untrained_policy(config: Config, root: Path) -> tuple[Path, StoredFeatures]:
    """An untrained policy of the configuration's size, and features of eight studies."""
    policy = config.policy
    if policy.encoder is None or policy.language_model is None:
        raise ValueError(f"policy {policy.name} has no encoder or no language model of its own")
    torch.manual_seed(5)
    save_file(new_encoder(policy.encoder).state_dict(), root / "encoder.safetensors")
    new = new_policy(policy.settings(), policy.language_model, reports(500), seed=1)
    shape = policy.encoder.tokens, policy.encoder.hidden
    end_reports(new.eval(), VisualInput(torch.randn(shape)))
    new.save_pretrained(root / "policy", root / "encoder.safetensors")
    FeatureStore(root / "features").write({f"f{number}": VisualInput(torch.randn(shape)) for number in range(8)})
    return root / "policy", StoredFeatures(root / "features")


@torch.no_grad()
def end_reports(policy: Policy, scan: VisualInput) -> None:
    """Lets an untrained policy, whose words are random, end its report after each of them with the same chance."""
    model, ends = policy.language_model, policy.tokenizer.eos_token_id
    prompt = policy.embed(policy.collate([policy.prompt(PROMPT)], [[]]), [scan])
    words = model.get_input_embeddings()(torch.randint(len(policy.tokenizer), (1, WORDS)))
    hidden = model.model(inputs_embeds=torch.cat((prompt, words), dim=1)).last_hidden_state[0, -WORDS:]
    # Its hidden states are nearly the same everywhere, and all other logits nearly 0.
    mean = hidden.mean(dim=0)
    model.get_output_embeddings().weight[ends] = mean / mean.square().sum() * log(len(policy.tokenizer) / WORDS)
