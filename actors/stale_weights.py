"""What is raised wherever weights in use are not those that should be: apart, as the controller imports no tensors."""


class StaleWeights(RuntimeError):
    """A sampler's weights are not the ones that it was told to use."""
