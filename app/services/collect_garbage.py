"""How often Python looks for garbage that reference counts do not free."""

import gc

ALLOCATIONS = 20_000
"""How many more containers than were freed make a look worth it; Python's own 700 are reached every few requests."""


def collect_garbage_rarely() -> None:
    """Call once in a process, when everything is imported: what there is then is not looked at again.

    A request and an attempt make hundreds of containers that die by their reference counts while they wait for servers.
    Looking through them as often as Python does by itself takes a sixth of a worker's time, and the long looks stop
    every request that is under way.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(ALLOCATIONS, 10, 10)
