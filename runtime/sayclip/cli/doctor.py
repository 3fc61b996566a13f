"""``sayclip doctor``: whether everything that sayclip needs is here and computes what it should."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sayclip.cli.output import one_line, print_json, size
from sayclip.errors import BackendError, MissingDependencyError, SayclipError

if TYPE_CHECKING:
    from sayclip.bundle.manifest import Manifest

OK, NOTE, BAD = "ok", "note", "bad"
REQUIRED = {"numpy": "numpy", "pillow": "PIL", "soundfile": "soundfile", "soxr": "soxr"}
RUNTIMES = ("onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class Check:
    """One thing looked at: ``ok``, ``note`` (something optional is missing) or ``bad``, and what to do about it."""

    name: str
    status: str
    detail: str
    remedy: str = ""


def add(commands: Any) -> None:
    """Add the parser of this command."""
    parser = commands.add_parser("doctor", help="check the installation, this machine and a bundle", allow_abbrev=False)
    parser.add_argument("--bundle", metavar="FOLDER", help="default: $SAYCLIP_BUNDLE, else the installed sayclip-demo")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns 2 when anything is bad."""
    checks = list(examine(arguments.bundle))
    healthy = all(check.status != BAD for check in checks)
    if arguments.json:
        print_json({"ok": healthy, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            line = f"{check.status:<4}  {check.name:<22} {check.detail}"
            print(one_line(line + (f": {check.remedy}" if check.remedy else "")))
        print("all is well" if healthy else "something has to be mended, see the lines that say bad")
    return 0 if healthy else 2


def examine(bundle: str | None) -> Iterator[Check]:
    """Every check, cheap ones first."""
    from sayclip import __version__

    yield Check("sayclip", OK, __version__)
    enough = sys.version_info >= (3, 10)
    yield Check(
        "python", OK if enough else BAD, platform.python_version(), "" if enough else "use Python 3.10 or newer"
    )
    yield from packages()
    yield from machine()
    yield from gpu()
    yield cache()
    yield espeak()
    yield from bundle_checks(bundle)


def version_of(distribution: str) -> str:
    """The installed version of a distribution; empty when it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def packages() -> Iterator[Check]:
    """Whether each package can be imported, and that only one ONNX Runtime is installed."""
    for distribution, module in REQUIRED.items():
        yield imported(distribution, module, BAD, f"`pip install {distribution}`")
    installed = [name for name in RUNTIMES if version_of(name)]
    if len(installed) > 1:
        yield Check(
            "onnxruntime",
            BAD,
            f"{' and '.join(installed)} are both installed and overwrite each other's files, wanted one",
            f"`pip uninstall -y {' '.join(installed)}`, then install sayclip[cpu] or sayclip[cuda]",
        )
    else:
        name = installed[0] if installed else RUNTIMES[0]
        yield imported(name, "onnxruntime", NOTE if version_of("openvino") else BAD, "`pip install 'sayclip[cpu]'`")
    yield openvino()
    yield backends_here()
    yield imported("usearch", "usearch", NOTE, "`pip install 'sayclip[index]'` for libraries of over 20,000 pictures")


def openvino() -> Check:
    """Whether OpenVINO is there; optional."""
    from sayclip.sessions.openvino import import_openvino

    try:
        return Check("openvino", OK, str(import_openvino().__version__).partition("-")[0])
    except MissingDependencyError as error:
        return Check("openvino", NOTE, error.problem, f"{error.remedy} for a backend that can be quicker on x86")


def backends_here() -> Check:
    """Which backends can run here; TensorRT's need engines besides."""
    from sayclip.sessions.backends import BACKENDS, unavailable

    reasons = {backend: unavailable(backend) for backend in BACKENDS}
    usable = [backend for backend, reason in reasons.items() if not reason]
    if not usable:
        return Check("backends", BAD, "none can run here", "`pip install 'sayclip[cpu]'`")
    others = [f"{backend} ({reason})" for backend, reason in reasons.items() if reason]
    return Check("backends", OK, ", ".join(usable) + (f"; not {', '.join(others)}" if others else ""))


def imported(distribution: str, module: str, missing: str, remedy: str) -> Check:
    """Whether ``module`` can be imported, not only whether its distribution is installed."""
    try:
        found = import_module(module)
    except Exception as error:  # a broken native library can raise anything
        return Check(distribution, missing, f"cannot be imported ({type(error).__name__}: {error})", remedy)
    return Check(distribution, OK, version_of(distribution) or str(getattr(found, "__version__", "version unknown")))


def machine() -> Iterator[Check]:
    """The processor's instruction sets for int8, and the threads to be used."""
    from sayclip.sessions import cpu

    features = ", ".join(cpu.features()) or "no known instruction sets for int8"
    yield Check("processor", OK, f"{platform.machine()} with {features}")
    quota = cpu.cgroup_quota()
    limit = "no quota" if quota is None else f"a quota of {quota:g}"
    yield Check("threads", OK, f"{cpu.default_threads()} (of {cpu.usable_cores()} cores, {limit})")


def gpu() -> Iterator[Check]:
    """NVIDIA's driver and GPU, the TensorRT libraries, and the engines in the cache; all of them optional."""
    from sayclip.sessions.tensorrt import BACKENDS, driver, engines, library

    found: driver.Gpu | None = None
    try:
        found = driver.probe()
        about = f"{found.name}, {found.sm}, {size(found.memory)}, a driver of CUDA {found.driver}"
        yield Check("gpu", OK, about)
    except BackendError as error:
        yield Check("gpu", NOTE, error.problem, "" if "no NVIDIA driver" in error.problem else error.remedy)
    here: list[engines.Here] = []
    for name in BACKENDS:
        if not library.installed(name):
            yield Check(name, NOTE, "not installed", library.INSTALL[name] if found else "")
            continue
        try:
            module = library.load(name)
        except SayclipError as error:
            yield Check(name, NOTE, error.problem, error.remedy)
            continue
        yield Check(name, OK, library.version_text(module))
        here += [engines.Here(name, module, found)] if found else []
    yield engines_kept(here)


def engines_kept(here: list[Any]) -> Check:
    """How many engines the cache holds, and how many of them this machine can use."""
    from sayclip.sessions.tensorrt import cache, engines

    try:
        kept = list(cache.entries())
    except (OSError, BackendError) as error:
        return Check("engines", NOTE, f"the cache cannot be read ({error})")
    if not kept:
        return Check("engines", OK, "none in the cache")
    usable = [entry for entry in kept if any(engines.made_for(entry.key, place) for place in here)]
    names = sorted({f"{entry.facts.get('encoder')} {entry.facts.get('precision')}" for entry in usable})
    detail = f"{len(kept)} in {cache.folder()}, {size(sum(entry.bytes for entry in kept))}"
    if len(usable) == len(kept):
        return Check("engines", OK, f"{detail}: {', '.join(names)}")
    told = f"{detail}; {len(kept) - len(usable)} of them for another GPU, driver or TensorRT"
    return Check("engines", NOTE, told, "`sayclip build` makes new ones, and the folder may be deleted")


def cache() -> Check:
    """Whether what is found out once can be remembered."""
    from sayclip.bundle.memo import cache_folder

    folder = cache_folder()
    if folder is None:
        return Check("cache", NOTE, "there is no home folder", "set XDG_CACHE_HOME, so that starts are quick")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        remedy = "make it writable or set XDG_CACHE_HOME, so that starts are quick"
        return Check("cache", NOTE, f"{folder} cannot be written ({error.strerror})", remedy)
    return Check("cache", OK, str(folder))


def espeak() -> Check:
    """Whether words can be turned into IPA; optional, and GPL-3."""
    from sayclip.phonemes.g2p import EspeakG2P

    try:
        g2p = EspeakG2P()
        ipa = g2p(["robot"])[0]
    except SayclipError as error:
        return Check("espeak-ng", NOTE, error.problem, error.remedy)
    return Check("espeak-ng", OK, f"{g2p.version} says {ipa} for robot")


def bundle_checks(bundle: str | None) -> Iterator[Check]:
    """The bundle's files by hash, and every graph against its reference outputs."""
    from sayclip.bundle.files import verify_files
    from sayclip.bundle.find import find_bundle
    from sayclip.bundle.manifest import Manifest
    from sayclip.preparation import Preparation

    try:
        manifest = Manifest.read(find_bundle(bundle))
        count = verify_files(manifest, again=True)
    except SayclipError as error:
        yield Check("bundle", BAD, error.problem, error.remedy)
        return
    yield Check("bundle", OK, f"{manifest.name}, {count} files verified, {manifest.folder}")
    if manifest.notice:
        yield Check("bundle", OK, manifest.notice)
    preparation = Preparation(manifest)
    for name, entry in manifest.encoders.items():
        try:
            preparation.open(name)  # its vocabulary or inventory is well-formed
        except SayclipError as error:
            yield Check(name, BAD, error.problem, error.remedy)
        for precision in entry.graphs:
            yield graph_check(manifest, name, precision)


def graph_check(manifest: Manifest, name: str, precision: str) -> Check:
    """One graph run on the processor against its reference outputs, whatever was remembered."""
    from sayclip.sessions import backends, cpu
    from sayclip.sessions.reference import check

    title = f"{name} {precision}"
    try:
        # By the backend that is everywhere, unless it is OpenVINO alone that is installed.
        alone = backends.unavailable("onnxruntime") and not backends.unavailable("openvino")
        session = backends.open_graph(manifest, name, precision, backend="openvino" if alone else "onnxruntime")
        try:
            verdict = check(session, manifest, name, precision)
        finally:
            session.close()
    except SayclipError as error:
        # Processors without half precision may refuse an fp16 graph; it is meant for others.
        optional = precision == "fp16" and isinstance(error, BackendError)
        return Check(title, NOTE if optional else BAD, error.problem, error.remedy)
    if verdict.passed:
        return Check(title, OK, str(verdict))
    if precision == "int8-u8" and cpu.is_x86() and not cpu.has_vnni():
        return Check(title, NOTE, str(verdict), "this processor has no VNNI; precision='auto' uses another graph")
    return Check(title, BAD, str(verdict), "fetch the bundle again, or make it again with `sayclip export`")
