"""The price of leaving the reference, steered from round to round; the controller computes it, without torch."""


def adapted_kl_weight(weight: float, divergence: float, *, target: float, reports: int, horizon: int) -> float:
    """The next round's weight of the KL divergence, which steers it to its target (Ziegler et al. 2019, section 2.2).

    `divergence` and `target` are in nats a report; the error counts up to 20 %, over `horizon` reports.
    """
    error = min(max(divergence / target - 1, -0.2), 0.2)
    return weight * (1 + error * reports / horizon)
