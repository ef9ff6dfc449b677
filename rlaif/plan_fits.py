"""Whether a run fits the cluster that its configuration names: GPUs, the memory of each, and that of a node."""

from collections.abc import Sequence

from rlaif.config import Config, ConfigurationError
from rlaif.plan_memory import GIB, Role, amount
from rlaif.plan_placement import Actors, Placement, gpu_bytes, heaviest_on_one_gpu, host_bytes, placed


def shortages(config: Config, roles: Sequence[Role]) -> tuple[str, ...]:
    """What does not fit, each with its sum and what to change; what the cluster does not say of itself is not asked."""
    cluster = config.cluster
    short = list(_unsound(config))
    if cluster.gpu_memory_gib is not None:
        short += _gpu_memory(roles, cluster.gpu_memory_gib * GIB)
    if cluster.gpus is None:
        return tuple(short)
    card = (cluster.gpu_memory_gib or 0.0) * GIB
    placement = placed([_actors(role, card) for role in roles if role.lasting], [cluster.gpus] * cluster.nodes)
    has = f"{cluster.nodes} x {cluster.gpus}" if cluster.nodes > 1 else str(cluster.gpus)
    if placement.homeless is not None:
        wanted = " + ".join(f"{one.name} {one.count} x {one.gpus:g}" for one in roles if one.lasting and one.gpus)
        short.append(
            f"GPUs: {wanted} on {has}: no node has {placement.homeless.gpus:g} left for another "
            f"{placement.homeless.name}; lower sampler.actors, learner.ranks or the judges' gpus, or take a larger "
            "preset"
        )
    elif cluster.memory_gib is not None:
        short += _host_memory(placement, roles, cluster.memory_gib * GIB)
    ingest = [role for role in roles if not role.lasting and role.gpus]
    # One of them reads.
    if sum((role.count - 1) * role.gpus for role in ingest) > cluster.gpus * cluster.nodes:
        short.append(f"GPUs: ingest.encoders={config.ingest.encoders} x {config.ingest.gpus:g} on {has}: lower one")
    return tuple(short)


def check_fits_preset(config: Config, roles: Sequence[Role]) -> None:
    """Raises ConfigurationError with all that does not fit."""
    short = shortages(config, roles)
    if short:
        raise ConfigurationError(
            f"policy={config.policy.name} policy.size={config.policy.size} does not fit cluster={config.cluster.name}: "
            + "\n".join(short)
        )


def _unsound(config: Config) -> list[str]:
    learner, language, split = config.learner, config.policy.language_model, config.sampler.tensor_parallel
    short = []
    if learner.ranks > 1 and 0 < learner.gpus <= 0.5:
        short.append(
            f"learner: learner.gpus={learner.gpus:g} lets two of {learner.ranks} ranks meet on one GPU, which NCCL "
            "refuses: raise learner.gpus above 0.5, or set learner.ranks=1"
        )
    if language is not None and language.heads % split:
        short.append(
            f"sampler: {language.heads} attention heads cannot be split over sampler.tensor_parallel={split}: set it, "
            "and sampler.gpus, to a divisor"
        )
    return short


def _gpu_memory(roles: Sequence[Role], card: float) -> list[str]:
    short = []
    for role in roles:
        limit = card if role.gpu_share is None else role.gpu_share * card
        if role.gpus and role.gpu_bytes > limit:
            share = "" if role.gpu_share is None else f" ({role.gpu_share:.0%} of a GPU's {amount(card)})"
            short.append(
                f"{role.name}: needs {amount(role.gpu_bytes)} on each GPU, has {amount(limit)}{share}: "
                f"{role.gpu_made_of}" + (f". What may help: {role.advice}" if role.advice else "")
            )
    if short:
        return short
    together = heaviest_on_one_gpu(_actors(role, card) for role in roles if role.lasting)
    if gpu_bytes(together) > card:
        parts = " + ".join(f"{one.name} {many} x {amount(one.gpu_bytes)}" for one, many in together.items())
        short.append(
            f"shared GPU: needs {amount(gpu_bytes(together))}, has {amount(card)}: {parts} may meet on it. What may "
            "help: lower sampler.gpu_memory, or raise learner.gpus and sampler.gpus so that fewer share one"
        )
    return short


def _host_memory(placement: Placement, roles: Sequence[Role], memory: float) -> list[str]:
    node = max(placement.nodes, key=host_bytes)
    if host_bytes(node) <= memory:
        return []
    made_of = {role.name: role.made_of for role in roles}
    parts = " + ".join(
        f"{one.name} {many} x {amount(one.host_bytes)} ({made_of[one.name]})" for one, many in node.items()
    )
    return [
        f"host memory: a node needs {amount(host_bytes(node))}, has {amount(memory)}: {parts}. What may help: fewer "
        "sampler.actors or learner.ranks on a node, learner.offload=none, adapters (learner.lora), a larger preset"
    ]


def _actors(role: Role, card: float) -> Actors:
    return Actors(role.name, role.count, role.gpus, role.gpu_taken(card), role.bytes)
