"""The results of one run of ``sayclip bench``: what stands in the file, and reading and writing it.

JSON, schema ``sayclip-bench/1``. Times end in ``_ms`` (milliseconds) or ``_s`` (seconds), sizes in ``_bytes``. Fields
that this version does not know are let through; no number is NaN or infinite.

- ``schema``: ``sayclip-bench/1``; ``command``: what was typed; ``started``: UTC, ISO 8601; ``seconds``: how long it
  took.
- ``bundle``: ``name``, ``space``, and ``encoders``: by name, ``graphs``: by precision ``sha256`` and ``bytes``.
- ``environment``: the machine and its software by name, flat: ``cpu``, ``cores``, ``threads``, ``python``, ``system``,
  versions of packages; and, where known, ``install_bytes``: an environment such as ``sayclip[cpu]`` to its size.
- ``state``: ``start`` and ``end``: snapshots of governor, clocks, temperatures and power mode, by name, as far as they
  can be read; ``throttled``: true, false, or null where it cannot be known; ``notes``: sentences.
- ``method``: ``turns``, ``least_queries`` (a turn), ``rest_s`` (between candidates), ``threads`` (or null: the
  backend's own choice), ``baseline``: the candidate that speed-ups are against, or null.
- ``energy``: ``meter``: ``rapl``, ``nvml``, ``ina3221``, two of them with a comma, or null where nothing measures it;
  ``note``: a sentence; where known, ``idle_watts``: by meter, what it showed before the run, or null.
- ``rows``: a list of

    - ``what``: ``preprocessing``, ``session``, ``encoder`` (both of these), ``search``, ``query`` (input to top 10);
      ``encoder``: a name, or null for a search; ``batch``: items a run; ``size``: of the input, in words, such as
      ``3 s``; ``amount``: the number in it, for axes (seconds, tokens, megapixels, vectors); ``candidate``: a name
      such as ``openvino int8``; ``kind``: ``sayclip``, ``direct`` (the same graph without sayclip), ``torch``,
      ``peer``;
    - ``status``: ``ok``, ``missing`` (not installed, or not in the bundle) or ``failed``; ``why``: one line, where it
      is not ok; ``timed``: what is inside the timed region, in words;
    - and, where the status is ok: ``n`` (runs timed), ``p50_ms``, ``p90_ms``, ``p99_ms``, ``mean_ms``,
      ``turn_p50_ms`` (the median of each turn), ``ci_ms`` (``[low, high]``, 95 % of the median, from the turns),
      ``noisy`` (medians of turns differ by more than 10 %), ``per_second`` (items); ``speedup`` (the baseline's p50
      over this p50) and ``speedup_ci``, or null; ``cosine`` (the smallest to fp32 over the inputs timed) and
      ``recall_change`` (recall@10 of what fp32 finds for 64 inputs among 256 pictures or, without an image encoder,
      other inputs of the kind, as a difference: 0 is none; of sessions at the size of a typical query), or null;
      ``rss_bytes`` (peak of its process), ``gpu_bytes``, ``model_bytes``, ``joules`` (a query, or an item of a
      batch: all that the meter saw of a turn over its runs and their items, the median of the turns), or null.

- ``scenarios``: a list of ``scenario``: ``SingleStream``, ``MultiStream``, ``Offline``; ``encoder``, ``size``,
  ``candidate``, ``queries``, ``seconds``, ``p50_ms``, ``p90_ms``, ``p99_ms`` (or null), ``per_second``; ``valid``:
  whether it ran as long and as often as it must, else ``why``; ``driver``: ``own``, or ``loadgen`` where MLPerf's
  LoadGen drove the same (older files have none, which is ``own``). Of LoadGen's rows, where it ran: ``verdict``:
  ``VALID`` or ``INVALID``, of what it was asked for; ``compared``: which figure the next two are of; ``difference``:
  this one's over our own loop's, less 1; ``overhead``: the same over what our own clock says of LoadGen's own runs;
  ``noisy``: the halves of our own loop, before and after LoadGen, differ by more than 3 % in it; ``alternations``: how
  often both were run, of which this is the one with the middle difference, of those that are not noisy where any is.
- ``cold``: a list of ``candidate``, ``what``, ``status``, ``why``, and where ok: ``import_s``, ``load_s``, ``first_s``,
  which sum to ``total_s`` (start of the process to its first result), ``steady_s`` (a later run), ``rss_bytes``
  (peak), ``runs`` (fresh processes, of which these are medians).
- ``photographs``, where they were asked for: ``status`` (``ok`` or ``failed``), ``why``, and where ok: ``bundle`` (its
  name), ``pictures`` (JPEGs found), ``shrunk`` (those decoded smaller, which alone are judged), ``size`` (pixels a side
  after preprocessing), ``megapixels`` (median), ``mean_difference`` and ``worst_difference`` (of all, and of the worst
  picture; mean absolute difference of pixels to the full decode before normalisation, in steps of 1/255), ``cosine``
  and ``worst_cosine`` (of the embeddings), and ``unreadable`` (names of files).
- ``repeat``, where the benchmark was run twice: ``started`` of the earlier run, ``rows`` that both have, those
  ``within`` 10 % of its median, and those ``marked`` as noisy because they are not, which their turns had not told.
  A row then has ``repeat_p50_ms``, the earlier median.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from sayclip.bundle.whole_file import write_whole
from sayclip.errors import InputError

from .checks import (
    WrongValue,
    anything,
    by_name,
    each,
    fields,
    flag,
    interval,
    number,
    one_of,
    or_null,
    positive,
    scalar,
    shown,
    text,
    whole,
)

SCHEMA = "sayclip-bench/1"
MOST_BYTES = 16 << 20
_AGAIN = "give a file that `sayclip bench --out` wrote"
_DIGITS = 18

_count, _bytes, _time = whole(), or_null(whole()), number(0.0)
_STATUS = {"status": one_of("ok", "missing", "failed"), "why": text}
_ROW = {
    "what": one_of("preprocessing", "session", "encoder", "search", "query"),
    "encoder": or_null(text),
    "batch": whole(1),
    "size": text,
    "amount": _time,
    "candidate": text,
    "kind": one_of("sayclip", "direct", "torch", "peer"),
    **_STATUS,
    "timed": text,
}
_MEASURED = {
    "n": whole(1),
    "p50_ms": positive,
    "p90_ms": positive,
    "p99_ms": positive,
    "mean_ms": positive,
    "turn_p50_ms": each(positive, 1),
    "ci_ms": interval,
    "noisy": flag,
    "per_second": _time,
    "speedup": or_null(positive),
    "speedup_ci": or_null(interval),
    "cosine": or_null(number(-1.01, 1.01)),
    "recall_change": or_null(number(-1.0, 1.0)),
    "rss_bytes": _bytes,
    "gpu_bytes": _bytes,
    "model_bytes": _bytes,
    "joules": or_null(_time),
}
_START = {"candidate": text, "what": text, **_STATUS}
_STARTED = {
    **{name: _time for name in ("import_s", "load_s", "first_s", "steady_s", "total_s")},
    "rss_bytes": _bytes,
    "runs": whole(1),
}
_SCENARIO = {
    "scenario": one_of("SingleStream", "MultiStream", "Offline"),
    "encoder": or_null(text),
    "size": text,
    "candidate": text,
    "queries": _count,
    "seconds": _time,
    **{name: or_null(positive) for name in ("p50_ms", "p90_ms", "p99_ms")},
    "per_second": _time,
    "valid": flag,
    "why": text,
}
_COMPARED = {
    "verdict": one_of("VALID", "INVALID"),
    "compared": one_of("p50_ms", "p90_ms", "p99_ms", "per_second"),
    "difference": number(-1.0),
    "overhead": number(-1.0),
    "noisy": flag,
    "alternations": whole(1),
}
_PHOTOGRAPHS = {
    "bundle": text,
    **{name: _count for name in ("pictures", "shrunk", "size")},
    **{name: _time for name in ("megapixels", "mean_difference", "worst_difference")},
    **{name: or_null(number(-1.01, 1.01)) for name in ("cosine", "worst_cosine")},
    "unreadable": each(text),
}
_REPEAT = fields({"started": text, "rows": whole(1), "within": _count, "marked": _count})
_GRAPHS = fields({"graphs": by_name(fields({"sha256": text, "bytes": _count}))})


def _environment(value: Any, where: str) -> None:
    by_name(anything)(value, where)
    flat = {name: member for name, member in value.items() if name != "install_bytes"}
    by_name(scalar)(flat, where)
    by_name(_count)(value.get("install_bytes", {}), f"{where}.install_bytes")


def _where_ok(always: Mapping[str, Any], measured: Mapping[str, Any]) -> Any:
    """Fields that are always there, and those that must be there where the status is ok."""
    first, rest = fields(always), fields(measured)

    def checked(value: Any, where: str) -> None:
        first(value, where)
        if value["status"] == "ok":
            rest(value, where)

    return checked


def _scenario(value: Any, where: str) -> None:
    fields(_SCENARIO, {"driver": one_of("own", "loadgen")})(value, where)
    if "difference" in value:
        fields(_COMPARED)(value, where)


_DOCUMENT = fields(
    {
        "command": text,
        "started": text,
        "seconds": _time,
        "bundle": fields({"name": text, "space": text, "encoders": by_name(_GRAPHS)}),
        "environment": _environment,
        "state": fields(
            {
                "start": by_name(anything),
                "end": by_name(anything),
                "throttled": or_null(flag),
                "notes": each(text),
            }
        ),
        "method": fields(
            {"turns": _count, "least_queries": _count, "rest_s": _time, "threads": _bytes, "baseline": or_null(text)}
        ),
        "energy": fields({"meter": or_null(text), "note": text}, {"idle_watts": by_name(or_null(_time))}),
        "rows": each(_where_ok(_ROW, _MEASURED)),
        "scenarios": each(_scenario),
        "cold": each(_where_ok(_START, _STARTED)),
    },
    {"photographs": or_null(_where_ok(_STATUS, _PHOTOGRAPHS)), "repeat": or_null(_REPEAT)},
)


def check(document: Any, name: str = "the results") -> None:
    """Raise InputError where ``document`` is not of this schema; ``name`` is what the message calls it."""
    if not isinstance(document, Mapping) or "schema" not in document:
        raise InputError(f"{name} is not a result of `sayclip bench` (it names no schema)", _AGAIN)
    schema = document["schema"]
    if schema != SCHEMA:
        known = re.fullmatch(r"sayclip-bench/([1-9]\d{0,8})", schema, re.ASCII) if isinstance(schema, str) else None
        if known:
            raise InputError(f"{name} is of the newer schema {schema}, this version reads {SCHEMA}", "upgrade sayclip")
        raise InputError(f"{name} is of the schema {shown(schema)}, wanted {SCHEMA}", _AGAIN)
    try:
        _DOCUMENT(document, "results")
    except WrongValue as error:
        raise InputError(f"{name} cannot be used: {error}", "run `sayclip bench` again to write it anew") from None


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The results in the file ``path``, checked field by field.

    Raises InputError, in one line, for a file that is missing, unreadable, too large, no JSON, of another schema or
    version, or that holds a wrong type, a number out of range or one that is not finite.
    """
    try:
        content = _content(Path(path))
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        said = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path} cannot be read ({said})", "name a file that `sayclip bench --out` wrote") from None
    try:
        document = json.loads(content, parse_constant=_refuse, parse_float=_float, parse_int=_int)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON that can be used ({error})", _AGAIN) from None
    check(document, str(path))
    found: dict[str, Any] = document
    return found


def write(document: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Check ``document`` and write it to ``path`` in one step (a kill leaves the old file or the new one).

    Folders are made. Returns the path. Raises InputError where it is not of the schema or cannot be written.
    """
    check(document)
    place = Path(path)
    try:
        encoded = (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"results cannot be written as JSON ({error})", "this is a bug, please report it") from None
    try:
        write_whole(place, encoded)
    except OSError as error:
        raise InputError(f"{place} cannot be written ({error.strerror})", "name a writable place with room") from None
    return place


def _content(path: Path) -> bytes:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a file")
    if status.st_size > MOST_BYTES:
        raise ValueError(f"it has {status.st_size} bytes, wanted at most {MOST_BYTES}")
    return path.read_bytes()


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no finite number")


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        _refuse(digits[:_DIGITS])
    return value


def _int(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"{digits[:_DIGITS]}… has too many digits")
    return int(digits)
