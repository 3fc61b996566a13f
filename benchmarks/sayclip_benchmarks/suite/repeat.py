"""Two runs of the same benchmark held against each other: what does not come out again is marked as noisy."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, cast

from sayclip.errors import InputError
from sayclip_benchmarks.report.compare import by_key

WITHIN = 0.10
"""Share by which medians of two runs may differ."""


def hold(document: MutableMapping[str, Any], earlier: Mapping[str, Any]) -> None:
    """Mark rows of ``document`` as noisy whose median is more than ``WITHIN`` away from that in ``earlier``.

    Both are documents as ``report.document`` describes them. ``document`` gets a ``repeat``: ``started`` of the earlier
    one, ``rows`` that both have, those ``within``, and those ``marked`` because they were not and because their own
    turns had not told so already. Raises InputError where the two have no row in common.
    """
    before = {key: row for key, row in by_key(earlier["rows"]).items() if row["status"] == "ok"}
    rows = within = marked = 0
    for key, row in cast("Mapping[Any, dict[str, Any]]", by_key(document["rows"])).items():
        if row["status"] != "ok" or key not in before:
            continue
        rows += 1
        first, second = before[key]["p50_ms"], row["p50_ms"]
        near = max(first, second) <= (1 + WITHIN) * min(first, second)
        told = row["noisy"] or before[key]["noisy"]
        within += near
        marked += not near and not told
        row |= {"repeat_p50_ms": first, "noisy": bool(told or not near)}
    if not rows:
        raise InputError("the earlier results have no row in common with these", "give results of the same benchmark")
    document["repeat"] = {"started": earlier["started"], "rows": rows, "within": within, "marked": marked}
