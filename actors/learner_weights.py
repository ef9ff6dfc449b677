"""What a learner sends: all weights of its policy, or the adapters that alone changed."""

from pathlib import Path

from torch import Tensor

from actors.weights import AdaptedLayers, Weights, checksum_of
from rlaif.models.adapters import adapters_of, is_adapter
from rlaif.models.policy import Policy
from rlaif.models.stored_weights import StoredWeights, stored_dtype


def weights_to_send(policy: Policy, version: int, checksum: str | None, base: Path | None) -> Weights:
    """A policy's weights for the samplers, under the checksum that they were saved with, if any.

    Where it bears adapters on the weights of `base`, those go alone, with what trains beside them.
    """
    adapters = adapters_of(policy)
    if checksum is not None and base is not None and adapters and _on_cpu(policy):
        stored = StoredWeights(base)
        # A base of another dtype would be merged, and counted in checksums, in other bits.
        alike = stored_dtype(base) == next(policy.language_model.parameters()).dtype
        if alike and all(name in stored for name in adapters):
            return Weights(version, checksum, _trained_whole(policy), AdaptedLayers(str(base), adapters))
    tensors = policy.weights()
    return Weights(version, checksum or checksum_of(tensors), tensors)


def _on_cpu(policy: Policy) -> bool:
    # Sampler and learner must get the same bits: products on a GPU and on a CPU differ in the last one.
    return next(policy.parameters()).device.type == "cpu"


def _trained_whole(policy: Policy) -> dict[str, Tensor]:
    """The parts that bear no adapters and train."""
    adapted = {name.partition(".")[0] for name, _ in policy.named_parameters() if is_adapter(name)}
    trained = {name.partition(".")[0] for name, one in policy.named_parameters() if one.requires_grad} - adapted
    return {name: one.detach() for name, one in policy.state_dict().items() if name.partition(".")[0] in trained}
