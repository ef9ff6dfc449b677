"""Which metrics of generated reports are computed, and where the weights and words that some of them need lie."""

from pathlib import Path

from rlaif.section import Section


class MetricError(ValueError):
    """A metric that cannot be computed as the settings have it: the message says which, where and what to do."""


class NotAvailable(MetricError):
    """A metric that cannot be computed here: the message says in one line what is missing and how to get it."""


class MetricSettings(Section):
    """Paths are folders on this machine; nothing is fetched. A metric whose path is null is left out and said so."""

    names: tuple[str, ...] | None
    """Metrics by the names of `rlaif.metrics.measures.choice`; null: all that can be computed."""
    wordnet: Path | None
    """WordNet's database files for METEOR; null: where NLTK and Debian's wordnet-base keep them."""
    bert_score: Path | None
    """A Hugging Face model for BERTScore."""
    bert_score_layer: int | None
    """The layer whose embeddings are compared; null: bert-score's choice for models that it knows, else the last."""
    ratescore: Path | None
    """A folder with `ner` (RaTE-NER-Deberta) and `embeddings` (BioLORD-2023-C)."""
    radgraph: Path | None
    """RadGraph-XL as the radgraph package unpacks it, and in `encoder` its encoder's configuration and tokenizer."""
    radbert: Path | None
    """A folder with RadBERT-RoBERTa-4m's configuration and tokenizer and `RadBertClassifier.pth`."""
