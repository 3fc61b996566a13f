"""Where the time goes inside a graph: operator tables, traces, and how near it all comes to what the machine can do."""

from sayclip_benchmarks.profile.command import add

__all__ = ["add"]
