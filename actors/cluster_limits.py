"""The cluster's limits as seen by one who asks."""

import asyncio
from typing import Any

from ray.exceptions import RayActorError

from actors.leases import Answer, Settlement, Wish
from actors.service_limits import CALL_TIMEOUT_S, NAME, shared_actor

LOOKUPS = 6
"""How often the actor is looked up anew before it counts as lost."""


class LimitsLost(RuntimeError):
    """The actor that holds the limits cannot be reached, nor another be started."""


class ClusterLimits:
    """The cluster's limits as seen by one who asks: looked up again where their actor has ended.

    Raises LimitsLost where no actor answers.
    """

    def __init__(self) -> None:
        self._actor: Any = None

    async def acquire(self, wish: Wish, ticket: int | None = None) -> Answer:
        """`ServiceLimits.acquire` of the cluster."""
        answer: Answer = await self._call("acquire", wish, ticket)
        return answer

    async def release(self, lease_id: str, wish: Wish, settlement: Settlement) -> float:
        """`ServiceLimits.release` of the cluster."""
        return float(await self._call("release", lease_id, wish, settlement))

    async def _call(self, method: str, *arguments: Any) -> Any:
        for lookup in range(LOOKUPS):
            try:
                if self._actor is None:
                    self._actor = await asyncio.to_thread(shared_actor)
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    return await getattr(self._actor, method).remote(*arguments)
            except RayActorError:
                # Its name may point at the dead one for a moment.
                self._actor = None
                await asyncio.sleep(0.1 * 2**lookup)
            except TimeoutError as error:
                raise LimitsLost(f"the actor {NAME} gave no answer in {CALL_TIMEOUT_S:g} s") from error
        raise LimitsLost(f"the actor {NAME} died {LOOKUPS} times in a row: see its log in Ray's session folder")
