"""The part of a sampler's engine that takes new weights in place, without a restart.

vLLM makes it a part of each of the engine's workers.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from actors.cpu_weights import can_repack, repack
from actors.stale_weights import StaleWeights
from actors.weights import digests_of


@contextmanager
def _one_thread() -> Iterator[None]:
    """A context of one thread: layers are too small to share out, and threads that wait for each other cost more."""
    threads = torch.get_num_threads()
    # vLLM puts a function that does nothing in the place of torch's own.
    torch._C.set_num_threads(1)
    try:
        yield
    finally:
        torch._C.set_num_threads(threads)


class WeightLoader:
    """Worker extension of the engine."""

    model_runner: Any
    vllm_config: Any
    seen: dict[str, str]

    def load_policy_weights(self, weights: dict[str, Tensor], whole: bool) -> None:
        """Loads language model weights by their checkpoint names: all of them (`whole`), or some of its layers.

        Raises StaleWeights where a part of the engine's model got nothing new.
        """
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload
        from vllm.model_executor.model_loader.reload.meta import SKIP_LOAD_TENSORS

        model = self.model_runner.get_model()
        expected = {name for name, _ in model.named_parameters()}
        with _one_thread(), torch.no_grad():
            if can_repack(model, self.vllm_config.parallel_config.world_size):
                loaded = repack(model, weights)
            else:
                # The rotary table is computed, no checkpoint has it: vLLM would warn of it at every reload.
                SKIP_LOAD_TENSORS.add("cos_sin_cache")
                # `load_weights` alone fails on CPU, where linear weights are packed: reloading unpacks them.
                initialize_layerwise_reload(model)
                loaded = model.load_weights(iter(weights.items()))
                finalize_layerwise_reload(model, self.vllm_config.model_config)
        if whole and (stale := sorted(expected - loaded)):
            raise StaleWeights(f"the engine got no new {', '.join(stale)}: it would write with old weights")

    def watch_weights(self) -> None:
        """Takes a digest of each weight that vLLM's weight transfer brings from now on."""
        model, seen = self.model_runner.get_model(), dict[str, str]()
        load = type(model).load_weights

        def watched(weights: Iterable[tuple[str, Tensor]]) -> Any:
            def each() -> Iterator[tuple[str, Tensor]]:
                for name, tensor in weights:
                    seen.update(digests_of({name: tensor}))
                    yield name, tensor

            return load(model, each())

        self.seen, model.load_weights = seen, watched

    def watched_weights(self) -> dict[str, str]:
        """The digests since `watch_weights`, by checkpoint name; ends the watch."""
        del self.model_runner.get_model().load_weights
        return self.seen
