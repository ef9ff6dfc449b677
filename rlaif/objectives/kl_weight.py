"""The price of leaving the reference, steered from round to round."""


def adapted_kl_weight(weight: float, divergence: float, *, target: float, reports: int, horizon: int) -> float:
    """A round's weight of the KL divergence, which steers it to its target (Ziegler et al. 2019, section 2.2).

    `divergence` and `target` are in nats a report; `divergence` is that of the policy that wrote the round's reports,
    and `weight` the last round's. The weight follows by at most 20 %, which takes `horizon` reports.
    """
    error = min(max(divergence / target - 1, -0.2), 0.2)
    return weight * (1 + error * min(reports / horizon, 1.0))
