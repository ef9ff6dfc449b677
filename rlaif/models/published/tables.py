"""Published weights by the names that a configuration gives their tables, loaded into a policy's parts."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from rlaif.models.connectors.regions import RegionConnector
from rlaif.models.encoders.build import new_encoder
from rlaif.models.encoders.settings import CTViTSettings, EncoderSettings
from rlaif.models.policy import Policy
from rlaif.models.published import ct_clip, m3d, mu2, policy_folder, radfm, reg2rg
from rlaif.models.published.weight_table import PublishedWeightsError, WeightTable, load_published, read_published
from rlaif.models.settings import PolicyError, TableName

_ENCODERS: Mapping[str, WeightTable] = {
    "m3d_vit": m3d.ENCODER,
    "m3d_clip": m3d.CLIP_ENCODER,
    "m3d_lamed": m3d.LAMED_ENCODER,
    "radfm": radfm.ENCODER,
    "reg2rg": reg2rg.ENCODER,
    "mu2": mu2.ENCODER,
}
_CONNECTORS: Mapping[str, WeightTable] = {
    "m3d_lamed": m3d.LAMED_CONNECTOR,
    "radfm_perceiver": radfm.PERCEIVER,
    "reg2rg": reg2rg.CONNECTOR,
    "mu2": mu2.CONNECTOR,
}
_OWN = WeightTable(((r"(.+)", r"\1"),))
# A stock language model's own names, as they stand in the publications' folders. Rotary frequencies are no weights;
# transformers of their time wrote them out.
_PLAIN = re.compile(r"model\.(embed_tokens|layers|norm)\.(?!.*rotary_emb).+|lm_head\.weight")
_WORDS, _HEAD = "model.embed_tokens.weight", "lm_head.weight"


def load_encoder(settings: EncoderSettings, path: Path, table: TableName) -> nn.Module:
    """A new encoder with a publication's weights; raises PublishedWeightsError where they do not fit.

    The table `rlaif` stands for a policy folder of our own (`policy_folder.encoder_weights`).
    """
    encoder = new_encoder(settings)
    if table == "rlaif":
        load_published(encoder, policy_folder.encoder_weights(settings, path), _OWN, str(path))
        return encoder
    if isinstance(settings, CTViTSettings) and table in ("ct_clip", "ct_clip_encoder"):
        names = (ct_clip.ct_clip if table == "ct_clip" else ct_clip.ct_clip_encoder)(settings)
    else:
        names = _table(_ENCODERS, table, "encoder")
    load_published(encoder, read_published(path), names, str(path))
    return encoder


def load_connector(policy: Policy, path: Path, table: TableName) -> None:
    """Gives a policy's connector a publication's weights, or with the table `rlaif` those of a policy folder.

    Raises PublishedWeightsError where they do not fit, and PolicyError where there is no connector to fill.
    """
    if policy.connector is None:
        raise PolicyError(f"{path} holds a connector's weights, and a text-only policy has no connector")
    connector: nn.Module = policy.connector
    if table == "rlaif":
        load_published(connector, policy_folder.connector_weights(policy.settings.connector, path), _OWN, str(path))
        return
    published, names = read_published(path), _table(_CONNECTORS, table, "connector")
    if table == "radfm_perceiver" and isinstance(connector, RegionConnector):
        # Reg2RG begins with RadFM's Perceiver; its mask encoder is new.
        connector = connector.perceiver
    elif table == "radfm_perceiver" and _led_to(published) == policy.language_model.config.hidden_size:
        names = radfm.PERCEIVER_WITH_FC
    load_published(connector, published, names, str(path))


def load_language_model(policy: Policy, path: Path, table: TableName) -> None:
    """Gives a policy's language model the weights of a publication that tuned it, adapters merged.

    Rows beyond its vocabulary are left out. Raises PublishedWeightsError where the weights do not fit.
    """
    if table == "rlaif":
        raise PublishedWeightsError(
            f"{path}: the language model of a policy folder is a Hugging Face folder; name its language_model with "
            "policy.pretrained.path"
        )
    if table not in ("reg2rg", "m3d_lamed", "mu2"):
        raise PublishedWeightsError(f"{table} has no language model: known are reg2rg, m3d_lamed, mu2")
    published = read_published(path)
    if table == "reg2rg":
        weights = reg2rg.language_model_weights(published)
    else:
        weights = {name: one for name, one in published.items() if _PLAIN.fullmatch(name)}
    # Placeholders' rows stand after the language model's own vocabulary.
    rows = policy.language_model.config.vocab_size
    weights = {name: one[:rows] if name in (_WORDS, _HEAD) else one for name, one in weights.items()}
    if policy.language_model.config.tie_word_embeddings and _WORDS in weights:
        # Where both are one, a file may hold it once.
        head = weights.setdefault(_HEAD, weights[_WORDS])
        if not torch.equal(head, weights[_WORDS]):
            raise PublishedWeightsError(
                f"{path}: {_HEAD} differs from {_WORDS}, and the language model has one for both"
            )
    load_published(policy.language_model, weights, _OWN, str(path))


def _led_to(published: Mapping[str, Tensor]) -> int | None:
    """The width of the language model that a published Perceiver's last layer leads to; None where it has none."""
    last = published.get("fc.weight")
    return None if last is None else len(last)


def _table(tables: Mapping[str, WeightTable], name: str, part: str) -> WeightTable:
    if name not in tables:
        raise PublishedWeightsError(f"{name} has no {part} of this kind: known are {', '.join(tables)}")
    return tables[name]
