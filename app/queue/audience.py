"""Whether anybody listens to changes: nobody is told of what nobody listens to."""

import time

BEAT_S = 5.0
"""How often a process with listeners says so."""

MEMORY_S = 3 * BEAT_S
"""For how long others believe it."""


class Audience:
    """What this process knows of listeners in any web process.

    They make themselves heard on a channel that every process is subscribed to anyway, so knowing costs the path of a
    task a comparison, and telling costs nothing while there are none. A process that has just connected has missed what
    was said before, and for one beat takes it that there are some.
    """

    def __init__(self) -> None:
        self._until = float("-inf")

    @property
    def present(self) -> bool:
        """Whether somebody may be listening."""
        return time.monotonic() < self._until

    def on_signal(self, _message: str) -> None:
        """A process has listeners."""
        self._until = time.monotonic() + MEMORY_S

    def on_connect(self) -> None:
        """Signals may have been missed."""
        self._until = max(self._until, time.monotonic() + 2 * BEAT_S)
