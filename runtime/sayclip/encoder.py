"""The encoder: pictures, texts, pronunciations, speech and sounds into one embedding space."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from numbers import Real
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sayclip.batches import by_length
from sayclip.bundle.files import verify_files
from sayclip.bundle.find import find_bundle
from sayclip.bundle.manifest import Manifest
from sayclip.errors import BundleError, InputError
from sayclip.explanation import Explanation
from sayclip.hearing import hear, located
from sayclip.pooling import pool_segments
from sayclip.preparation import Preparation, as_list, each, pad
from sayclip.sessions.choose import AUTO, Request
from sayclip.sessions.opened import OpenedEncoder
from sayclip.sessions.reference import OUTPUT
from sayclip.text.keywords import Keyword

Embeddings = NDArray[np.float32]

_TOKENS_AT_ONCE = 64
_RECORDINGS_AT_ONCE = 8
_SEGMENTS_AT_ONCE = 8
_BRANCHES = {"parallel": "parallel_embedding", "cascaded": "cascaded_embedding"}


def load(
    bundle: str | os.PathLike[str] | None = None,
    *,
    backend: str = AUTO,
    precision: str = AUTO,
    threads: int | None = None,
) -> Encoder:
    """Open a bundle; its graphs are loaded one by one, at their first use.

    ``bundle`` is a folder; without it ``$SAYCLIP_BUNDLE``, else the installed ``sayclip-demo``. ``backend`` is
    ``onnxruntime``, ``openvino`` or ``openvino-bf16`` (all on the CPU, the last with bfloat16 for what is not int8),
    ``onnxruntime-cuda``, ``tensorrt`` or ``tensorrt_rtx`` (engines that `sayclip build` made), or ``auto``;
    ``precision`` is ``fp32``, ``fp16``, ``int8`` (signed), ``int8-u8`` (the same numbers, unsigned, for ONNX Runtime on
    x86) or ``auto``. With ``auto`` the first use of an encoder on a device times whatever meets the bundle's reference
    outputs there, takes the fastest, and remembers it. What is asked for by name is used or refused. ``threads`` per
    inference, by default as many cores as this process may use.

    Raises BundleError (missing, damaged, of a newer schema, a file with another sha256), BackendError.
    """
    request = Request(backend, precision, threads)
    manifest = Manifest.read(find_bundle(bundle))
    present = sorted({name for entry in manifest.encoders.values() for name in entry.graphs})
    if precision != AUTO and precision not in present:
        raise BundleError(
            f"bundle {manifest.name} has no {precision!r} graph, it has {', '.join(present)}",
            "use one of these, or precision='auto'",
        )
    verify_files(manifest)
    return Encoder(manifest, request)


class Encoder:
    """The encoders of one bundle. All methods may be called from several threads; a context manager closes it.

    Every encoding method takes one input or a list of them and returns float32 [n, width], L2-normalised; an empty
    list gives [0, width]. A bad input in a list raises its InputError with its place in the list.
    """

    def __init__(self, manifest: Manifest, request: Request | None = None) -> None:
        self.manifest = manifest
        self._preparation = Preparation(manifest)
        self._encoders = {name: OpenedEncoder(manifest, name, request or Request()) for name in manifest.encoders}

    @property
    def space(self) -> str:
        """Id of the embedding space; only vectors of one space may be compared."""
        return self.manifest.space

    @property
    def width(self) -> int:
        """Length of an embedding."""
        return self.manifest.width

    @property
    def names(self) -> tuple[str, ...]:
        """The encoders that the bundle has, such as ``image`` and ``speech``."""
        return tuple(self._encoders)

    @property
    def notice(self) -> str:
        """One line to show with every result, or an empty string."""
        return self.manifest.notice

    def image(self, pictures: Any, *, batch_size: int = 32) -> Embeddings:
        """Embed pictures: paths, uint8 arrays [H, W], [H, W, 3] or [H, W, 4], Pillow images.

        Raises PictureError, BundleError, BackendError.
        """
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}, wanted at least 1", "use 32")
        sources = as_list(pictures)
        batches = [np.empty((0, self.width), dtype=np.float32)]
        for start in range(0, len(sources), batch_size):
            chosen = sources[start : start + batch_size]
            prepared = each(self.prepare_image, chosen, first=start, count=len(sources))
            batches.append(self.image_prepared(np.stack(prepared)))
        return np.concatenate(batches)

    def prepare_image(self, source: Any) -> NDArray[np.float32]:
        """Read one picture and preprocess it into float32 [3, H, W]; safe in worker threads. Raises PictureError."""
        return self._preparation.picture(source)

    def image_prepared(self, batch: NDArray[np.float32]) -> Embeddings:
        """Embed pictures from ``prepare_image``, float32 [n, 3, H, W], in one run. Raises InputError, BackendError."""
        size = self._preparation.picture_size
        if batch.dtype != np.float32 or batch.ndim != 4 or batch.shape[1:] != (3, size, size):
            raise InputError(
                f"prepared pictures are {batch.dtype} {list(batch.shape)}, wanted float32 [n, 3, {size}, {size}]",
                "stack what prepare_image gave",
            )
        if len(batch) == 0:
            return np.empty((0, self.width), dtype=np.float32)
        return self._opened("image").run({"pixels": batch})

    def text(self, texts: str | Sequence[str]) -> Embeddings:
        """Embed texts. Raises TextError, BundleError, BackendError."""
        opened = self._opened("text")

        def run(batch: list[NDArray[np.int32]]) -> Embeddings:
            ids, length = pad(batch, np.int32)
            return opened.run({"token_ids": ids, "length": length})

        return self._by_length(as_list(texts), self._preparation.texts, run, _TOKENS_AT_ONCE)

    def pronunciation(
        self,
        ipa: str | Sequence[str] | None = None,
        *,
        words: str | Sequence[str] | None = None,
        language: str | None = None,
        nearest: bool = False,
    ) -> Embeddings:
        """Embed pronunciations, given as IPA or as words that espeak-ng turns into IPA.

        ``language``: of the words, one that the encoder was trained on (default: its first). A symbol that the encoder
        does not know is refused, naming the nearest one that it knows, by the attributes of the IPA chart; with
        ``nearest`` that one is taken instead.

        Raises PhonemeError, InputError unless exactly one of ipa and words is given or for another language,
        MissingDependencyError for words without the extra ``[phonemes]``, BundleError, BackendError.
        """
        opened = self._opened("pronunciation")
        if (ipa is None) == (words is None):
            given = "neither" if ipa is None else "both"
            raise InputError(f"{given} of ipa and words given, wanted one", "give an IPA string, or words=...")

        def run(batch: list[NDArray[np.int32]]) -> Embeddings:
            ids, length = pad(batch, np.int32)
            return opened.run({"phoneme_ids": ids, "length": length})

        if words is None and language is not None:
            raise InputError("a language is given with IPA, which has none", "leave it out, or give words")
        spoken = as_list(ipa) if words is None else self._preparation.ipa_of(as_list(words), language)
        prepare = functools.partial(self._preparation.pronunciations, nearest=nearest)
        return self._by_length(spoken, prepare, run, _TOKENS_AT_ONCE)

    def speech(self, waves: Any, *, sample_rate: int | None = None, branch: str | None = None) -> Embeddings:
        """Embed recordings: paths, or arrays [S] or [S, C] of ``sample_rate`` Hz (default: the encoder's own rate).

        A list holds recordings, so one recording of plain numbers must be an array. ``branch``, ``parallel`` or
        ``cascaded``, picks where an encoder has both; None takes the parallel one then. Raises AudioError,
        NoSpeechError for silence, InputError for a branch that is not there, BundleError, BackendError.
        """
        opened = self._opened("speech")
        there = [name for name, output in _BRANCHES.items() if output in opened.outputs]
        if branch is not None and branch not in there:
            has = " and ".join(there) or "no branches to choose from"
            raise InputError(f"branch is {branch!r}, the speech encoder has {has}", "leave branch out")
        output = OUTPUT if branch is None else _BRANCHES[branch]

        def run(batch: list[NDArray[np.float32]]) -> Embeddings:
            return opened.run(self._preparation.speech_feeds(batch), output)

        prepare = functools.partial(self._preparation.recordings, sample_rate)
        return self._by_length(as_list(waves), prepare, run, _RECORDINGS_AT_ONCE)

    def keywords(self, waves: Any, *, sample_rate: int | None = None) -> list[list[Keyword]]:
        """The keywords heard in each recording, in their order; recordings as ``speech`` takes them.

        For encoders with a cascaded branch (SpeechCLIP); SpeechCLIP+ also tells when each was heard. Raises BundleError
        where the speech encoder gives no keywords, and as ``speech`` does.
        """
        return [list(heard.units) for heard in self.explain(waves, sample_rate=sample_rate)]

    def explain(self, waves: Any, *, sample_rate: int | None = None) -> list[Explanation]:
        """Embedding and keywords of each recording, out of one run of the graph; raises as ``keywords`` does.

        ``Library.search(speech=...)`` takes what this gives in place of the recordings, and runs no graph for them.
        """
        opened = self._opened("speech")
        words = self._preparation.keyword_words()
        if "keyword_ids" not in opened.outputs or words is None:
            raise BundleError(
                f"the speech encoder of {self.manifest.name} gives no keywords",
                "export a checkpoint with a cascaded branch",
            )

        def run(batch: list[NDArray[np.float32]]) -> list[tuple[NDArray[np.float32], tuple[Keyword, ...]]]:
            return hear(opened, self._preparation.speech_feeds(batch), words)

        sources = as_list(waves)
        prepare = functools.partial(self._preparation.recordings, sample_rate)
        rows = by_length(sources, prepare, run, _RECORDINGS_AT_ONCE)
        return [
            Explanation(source, self.space, embedding, located(units, source, opened.entry, sample_rate))
            for source, (embedding, units) in zip(sources, rows, strict=True)
        ]

    def audio(self, sounds: Any, *, sample_rate: int | None = None, type_mix: float | None = None) -> Embeddings:
        """Embed sounds of any kind: paths, or arrays [S] or [S, C] of ``sample_rate`` Hz, as ``speech`` takes them.

        Left and right are heard apart. ``type_mix`` from 0 (somebody speaks) to 1 (any other sound) tells the encoder
        what to listen for; None leaves it as the bundle has it. A long recording is heard in segments, whose number the
        bundle limits, and whose embeddings are averaged. Raises AudioError, NoSpeechError for silence, InputError,
        BundleError, BackendError.
        """
        opened = self._opened("audio")
        mix = self._preparation.type_mix if type_mix is None else type_mix
        if isinstance(mix, bool) or not isinstance(mix, Real) or not 0 <= mix <= 1:
            raise InputError(f"type_mix is {mix!r}, wanted a number from 0 to 1", "give 0 for speech, 1 for sounds")
        sources = as_list(sounds)
        results = [np.empty((0, self.width), dtype=np.float32)]
        for first in range(0, len(sources), _RECORDINGS_AT_ONCE):
            chosen = sources[first : first + _RECORDINGS_AT_ONCE]
            images = self._preparation.sounds(chosen, sample_rate, first, len(sources))
            segments = np.concatenate(images)
            rows = []
            for start in range(0, len(segments), _SEGMENTS_AT_ONCE):
                batch = segments[start : start + _SEGMENTS_AT_ONCE]
                rows.append(opened.run({"segments": batch, "type_mix": np.full(len(batch), mix, np.float32)}))
            results.append(pool_segments(np.concatenate(rows), [len(image) for image in images]))
        return np.concatenate(results)

    def graph_sha256(self, name: str) -> str:
        """SHA-256 (hex) of the graph that runs the encoder ``name``, which is loaded if it was not."""
        opened = self._opened(name)
        return opened.entry.graphs[opened.open().precision].sha256

    def open(self, name: str) -> None:
        """Load the encoder ``name`` now rather than at its first use. Raises BundleError, BackendError."""
        self._opened(name).open()
        self._preparation.open(name)

    def info(self) -> dict[str, Any]:
        """What this is and what runs it, JSON-ready; encoders not used yet say ``"loaded": false``."""
        encoders: dict[str, Any] = {}
        for name, opened in self._encoders.items():
            encoders[name] = {
                "loaded": opened.choice is not None,
                "graphs": list(opened.entry.graphs),
                **(opened.choice.to_dict() if opened.choice else {}),
                "provenance": dict(opened.entry.provenance),
                "measured": dict(opened.entry.measured),
            }
        manifest = self.manifest
        return {
            "name": manifest.name,
            "folder": str(manifest.folder) if manifest.folder else None,
            "space": manifest.space,
            "width": manifest.width,
            "notice": manifest.notice,
            "created_by": manifest.created_by,
            "license": manifest.license,
            "encoders": encoders,
        }

    def close(self) -> None:
        """Free all graphs; the encoder cannot be used any more. Closing twice is harmless."""
        for opened in self._encoders.values():
            opened.close()

    def __enter__(self) -> Encoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Encoder({self.manifest.name!r}, space={self.space!r}, names={self.names!r})"

    def _opened(self, name: str) -> OpenedEncoder:
        self.manifest.entry(name)  # refuses what the bundle does not have
        return self._encoders[name]

    def _by_length(
        self,
        sources: Sequence[Any],
        prepare: Callable[[Sequence[Any], int, int], list[NDArray[Any]]],
        run: Callable[[list[NDArray[Any]]], Embeddings],
        at_once: int,
    ) -> Embeddings:
        rows: list[NDArray[np.float32]] = by_length(sources, prepare, lambda batch: list(run(batch)), at_once)
        return np.stack(rows) if rows else np.empty((0, self.width), dtype=np.float32)
