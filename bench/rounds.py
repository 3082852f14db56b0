"""What was found, round by round, and what could not be measured."""

from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from bench.processes import ProgramError

Key = TypeVar("Key")
Found = TypeVar("Found")


@dataclass(slots=True)
class Rounds(Generic[Key, Found]):
    """Measurements by what was measured.

    Attributes:
        found: What each round gave.
        failed: Why the others gave nothing; it is not tried again.
    """

    found: dict[Key, list[Found]] = field(default_factory=lambda: defaultdict(list))
    failed: dict[Key, str] = field(default_factory=dict)

    async def add(self, key: Key, measure: Callable[[], Awaitable[Found]], tell: Callable[[str], None]) -> Found | None:
        """Measure once more; what fails is told, kept and never a reason to end the run."""
        if key in self.failed:
            return None
        try:
            found = await measure()
        except ProgramError as error:
            self.failed[key] = str(error)
        except Exception as error:  # noqa: BLE001 - a system that fails is a row of the report
            self.failed[key] = f"{type(error).__name__}: {error}"
        else:
            self.found[key].append(found)
            return found
        tell(f"  failed: {self.failed[key]}")
        return None
