"""RadBERT, which reads the 18 labels of CT-RATE in a report: the labeler of Reg2RG and of CT-RATE itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlaif.metrics.measures.local_model import model_folder, token_limit
from rlaif.metrics.measures.settings import MetricError
from rlaif.reports.lexicon import CT_RATE_NAMES

CLASSIFIERS = ("RadBertClassifier.pth", "RadBertClassifier.safetensors")
TOKENS = 512
THRESHOLD = 0.5
BATCH = 16
_HOLDS = "RadBERT-RoBERTa-4m's config.json and tokenizer, and RadBertClassifier.pth"
# Buffers that older versions of transformers saved; what they hold follows from the configuration.
_BUFFERS = r"model\.embeddings\.(?:position|token_type)_ids"


def radbert_folder(given: Path | None) -> Path:
    """The folder that `score.metrics.radbert` names, once it has all files; raises NotAvailable for what it lacks."""
    return model_folder(
        given, "radbert", "RadBERT", _HOLDS, ("config.json", ("tokenizer.json", "vocab.json"), CLASSIFIERS)
    )


class RadBert:
    """RadBERT-RoBERTa-4m with the linear layer of CT-RATE's classifier, in float32.

    A RoBERTa encoder's pooled output (tanh of a linear layer on the first token), a linear layer to 18 logits in the
    order of `CT_RATE_NAMES`, sigmoid; a finding is present from 0.5 on. Texts are cut at 512 tokens. Raises MetricError
    for an encoder of another kind, and PublishedWeightsError, which names them, where weights are missing, unknown or
    of another shape.
    """

    def __init__(self, folder: Path) -> None:
        import torch
        from torch import nn
        from transformers import AutoConfig, AutoTokenizer, RobertaModel

        from rlaif.models.published.weight_table import WeightTable, load_published, read_published

        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if config.model_type != "roberta":
            raise MetricError(
                f"score.metrics.radbert={folder}: config.json says {config.model_type}, RadBERT is a roberta: it must "
                f"be a folder with {_HOLDS}"
            )
        network = nn.ModuleDict(
            {"model": RobertaModel(config), "classifier": nn.Linear(config.hidden_size, len(CT_RATE_NAMES))}
        )
        path = next(folder / name for name in CLASSIFIERS if (folder / name).is_file())
        table = WeightTable(renames=((rf"(?!{_BUFFERS})(.*)", r"\1"),), dropped=(_BUFFERS,))
        load_published(network, read_published(path), table, str(path))
        self._network: Any = network.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        self._tokens = min(TOKENS, token_limit(self._tokenizer, config))

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """How probable each finding is in each text, float32 `[texts, 18]`, 0 to 1."""
        import torch

        found = np.zeros((len(texts), len(CT_RATE_NAMES)), dtype=np.float32)
        device = self._network["classifier"].weight.device
        # Long texts together, so that short ones are not padded to their length.
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            batch = self._tokenizer(
                [texts[place] for place in places],
                truncation=True,
                max_length=self._tokens,
                padding=True,
                return_tensors="pt",
            )
            with torch.inference_mode():
                pooled = self._network["model"](
                    input_ids=batch["input_ids"].to(device), attention_mask=batch["attention_mask"].to(device)
                ).pooler_output
                found[places] = torch.sigmoid(self._network["classifier"](pooled)).cpu().numpy()
        return found

    def __call__(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Which findings each text has, bool `[texts, 18]`."""
        present: NDArray[np.bool_] = self.probabilities(texts) >= THRESHOLD
        return present
