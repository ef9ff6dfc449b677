"""Weights of a policy folder of our own, from which the parts of another policy begin."""

from pathlib import Path

from pydantic import BaseModel
from torch import Tensor

from rlaif.models.connectors.settings import ConnectorSettings
from rlaif.models.encoders.resolution import at_resolution
from rlaif.models.encoders.settings import EncoderSettings, ViTSettings
from rlaif.models.policy import CONNECTOR_FILE, load_encoder
from rlaif.models.published.weight_table import PublishedWeightsError, read_published
from rlaif.models.settings import POLICY_FILE, read_settings


def encoder_weights(settings: EncoderSettings, folder: Path) -> dict[str, Tensor]:
    """The weights of a policy folder's encoder, by our names, for an encoder of the given settings.

    A vision transformer's may be of another resolution (`at_resolution`). Raises PolicyError where the folder has no
    whole encoder, and PublishedWeightsError where it differs in anything else.
    """
    weights = load_encoder(folder).state_dict()
    found = read_settings(folder).encoder
    if isinstance(found, ViTSettings) and isinstance(settings, ViTSettings):
        _check(found, settings, f"{folder / POLICY_FILE}: encoder", but=("volume", "patch"))
        return at_resolution(weights, found, settings)
    _check(found, settings, f"{folder / POLICY_FILE}: encoder")
    return weights


def connector_weights(settings: ConnectorSettings | None, folder: Path) -> dict[str, Tensor]:
    """The weights of a policy folder's connector, by our names, for a connector of the given settings.

    Raises PolicyError where the folder is no policy, and PublishedWeightsError where its connector differs or cannot
    be read.
    """
    _check(read_settings(folder).connector, settings, f"{folder / POLICY_FILE}: connector")
    return read_published(folder / CONNECTOR_FILE)


def _check(found: BaseModel | None, wanted: BaseModel | None, place: str, but: tuple[str, ...] = ()) -> None:
    theirs, ours = ({} if one is None else one.model_dump() for one in (found, wanted))
    kinds = theirs.get("kind", "none"), ours.get("kind", "none")
    if kinds[0] != kinds[1]:
        raise PublishedWeightsError(f"{place} is {kinds[0]}, and the policy's {kinds[1]}: name a folder with the same")
    other = [name for name, value in ours.items() if theirs[name] != value and name not in but]
    if other:
        told = "; ".join(f"{name} {theirs[name]}, here {ours[name]}" for name in other)
        raise PublishedWeightsError(f"{place} differs ({told}): name a folder with the same one, or set these as there")
