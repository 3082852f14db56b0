"""Becomes a program that does not outlive its parent: `python child.py PARENT_PID SIGNAL PROGRAM [ARGUMENT...]`.

Run as a script, not as a module of the package, because it must cost nothing: it imports the standard library only.
The same call in `preexec_fn` would run Python between fork and exec, which can deadlock when the parent has threads.
"""

import os
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel for a signal at the parent's death, then exec the program.

    The kernel ties the signal to the thread that forked: start children from a thread that lives as long as they may.
    Elsewhere than on Linux there is no such call, and the program merely starts.

    Source: prctl(2), PR_SET_PDEATHSIG; it is kept across execve(2).
    """
    parent, signal_number, *program = sys.argv[1:]
    if sys.platform == "linux":
        _die_with(int(parent), int(signal_number))
    os.execvp(program[0], program)  # noqa: S606 - no shell, and the caller's own arguments


def _die_with(parent: int, signal_number: int) -> None:
    try:
        import ctypes  # noqa: PLC0415 - a Python built without libffi has none
    except ImportError:
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call: the signal will never come
        sys.exit(1)


if __name__ == "__main__":
    main()
