"""The most memory that a program held."""

from __future__ import annotations

import sys


def memory() -> int:
    """Bytes of the largest resident set of this program so far.

    Not of ``getrusage``, where Linux says: that begins with what the process was before it became this program, a copy
    of its parent.
    """
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
            for line in lines:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
