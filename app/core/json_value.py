"""What a parser of JSON lets through and a task cannot keep."""

import math
from typing import Any

MAX_DEPTH = 64
_INT64 = 2**63


def problem_with(value: Any) -> str | None:
    """What keeps a JSON value from being stored, or None.

    MongoDB has 64-bit integers, no NUL in a key, and a limit to nesting (100 levels, of which the document takes some).
    NaN and Infinity are not JSON, but pydantic reads them, and 1e999 as Infinity.

    Args:
        value: None, bool, int, float, str, list or dict, nested.
    """
    stack: list[tuple[Any, str, int]] = [(value, "", 0)]
    while stack:
        item, path, depth = stack.pop()
        if depth > MAX_DEPTH:
            return f"it is nested more than {MAX_DEPTH} levels deep"
        if isinstance(item, dict):
            for key, child in item.items():
                if "\0" in key:
                    return f"{path or 'it'} has a key with a NUL character"
                stack.append((child, f"{path}.{key}" if path else key, depth + 1))
        elif isinstance(item, list):
            stack.extend((child, f"{path}[{index}]", depth + 1) for index, child in enumerate(item))
        elif isinstance(item, float):
            if not math.isfinite(item):
                return f"{path or 'it'} is not a finite number"
        elif isinstance(item, int) and not isinstance(item, bool) and not -_INT64 <= item < _INT64:
            return f"{path or 'it'} is an integer of more than 64 bits"
    return None
