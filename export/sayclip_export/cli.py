"""The ``export`` command of ``sayclip``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add(subparsers: Any) -> None:
    """Add ``sayclip export …`` to the command line (entry-point group ``sayclip.commands``)."""
    export: argparse.ArgumentParser = subparsers.add_parser("export", help="turn a published checkpoint into a bundle")
    kinds = export.add_subparsers(dest="checkpoint", required=True)
    _add(
        kinds,
        "clip",
        "image and text encoders from a published CLIP",
        "folder of Hugging Face or open_clip, hub id in the local cache, or file of OpenAI or open_clip",
        "architecture=ViT-B-32",
    )
    speech = _add(
        kinds,
        "speech",
        "speech, image and text encoders from a SpeechCLIP or SpeechCLIP+",
        "its Lightning checkpoint (.ckpt)",
        "hubert.heads=12",
    )
    speech.add_argument(
        "--buckets",
        type=_seconds,
        default=(),
        metavar="SECONDS,...",
        help="lengths that recordings are padded up to, for engines that are fastest at fixed ones, such as 2,5,10; "
        "padding changes no embedding",
    )
    speech.add_argument(
        "--hubert",
        type=Path,
        metavar="FOLDER",
        help="what `optimum-cli export onnx` wrote of the HuBERT, for a checkpoint that was stored without it",
    )
    _add(
        kinds,
        "audio",
        "audio, image and text encoders from a CLIP4VLA",
        "its state dict (pytorch_model.bin.*)",
        "audio.type_mix=0.5",
    )
    _add(
        kinds,
        "pronunciation",
        "a pronunciation encoder of our own training",
        "its file (pronunciation.safetensors in the work folder of `sayclip train demo`)",
    )
    _add(
        kinds,
        "head",
        "a speech encoder whose head is of our own training",
        "its file (what `sayclip train speech` wrote)",
    )
    _add(
        kinds,
        "dino",
        "an image encoder, of a space of its own and without text, from a DINO",
        "folder of a Hugging Face ViTModel (config.json, model.safetensors)",
    )
    full = kinds.add_parser(
        "full-size", help="full-size models of random weights: export, check, TensorRT-RTX; time and memory of each"
    )
    full.add_argument("--only", metavar="TEXT", default="", help="only models whose name holds TEXT")
    full.add_argument("--out", type=Path, help="write the table (.md) and the numbers (.json) under this name")
    full.add_argument(
        "--hard", type=Path, metavar="DIR", help="only write the bundles clip and speech, which int8 finds hard, there"
    )
    full.set_defaults(run=_full_size)


def _add(kinds: Any, name: str, gives: str, source: str, example: str = "") -> argparse.ArgumentParser:
    """``example``: of ``--set``; kinds that leave nothing open have none."""
    parser: argparse.ArgumentParser = kinds.add_parser(
        name, help=gives, description=f"Write {gives} into a bundle, held against torch first."
    )
    parser.add_argument("source", metavar="SOURCE", help=source)
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="BUNDLE",
        help="folder to write; a bundle of the same space that is there gains the encoders",
    )
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    parser.set_defaults(run=_export, overrides=[], vocabulary=None)
    if not example:
        return parser
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"what the checkpoint leaves open, such as {example}; may be given again for another key",
    )
    parser.add_argument(
        "--vocabulary",
        type=Path,
        metavar="FILE",
        help="CLIP's byte-pair encoding (bpe_simple_vocab_16e6.txt.gz, tokenizer.json, or a folder with vocab.json and "
        "merges.txt) for a checkpoint that comes without it; default: that of an installed open_clip_torch",
    )
    return parser


def _seconds(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of seconds such as 2,5,10") from None


def _export(arguments: argparse.Namespace) -> int:
    from sayclip.cli.output import one_line, print_json, size
    from sayclip_export.clip4vla_export import export_audio
    from sayclip_export.clip_export import export_clip
    from sayclip_export.dino_export import export_dino
    from sayclip_export.head_export import export_head
    from sayclip_export.pronunciation_export import export_pronunciation
    from sayclip_export.readers.overrides import Overrides
    from sayclip_export.speechclip_export import export_speech

    out = arguments.out.expanduser()
    given = Overrides.parse(arguments.overrides)
    vocabulary = arguments.vocabulary and arguments.vocabulary.expanduser()

    def say(line: str) -> None:
        print(one_line(line), file=sys.stderr)

    source = Path(arguments.source).expanduser()
    if arguments.checkpoint == "clip":  # whose source may also be a name
        manifest = export_clip(arguments.source, out, say, given, vocabulary)
    elif arguments.checkpoint == "speech":
        hubert = arguments.hubert and arguments.hubert.expanduser()
        manifest = export_speech(source, out, say, given, vocabulary, arguments.buckets, hubert)
    elif arguments.checkpoint == "pronunciation":
        manifest = export_pronunciation(source, out, say)
    elif arguments.checkpoint == "head":
        manifest = export_head(source, out, say)
    elif arguments.checkpoint == "dino":
        manifest = export_dino(source, out, say)
    else:
        manifest = export_audio(source, out, say, given, vocabulary)
    written = {name: sum(file.bytes for file in entry.files()) for name, entry in manifest.encoders.items()}
    if arguments.json:
        print_json(
            {
                "bundle": str(manifest.folder),
                "name": manifest.name,
                "space": manifest.space,
                "width": manifest.width,
                "encoders": {
                    name: {"bytes": written[name], "measured": dict(entry.measured)}
                    for name, entry in manifest.encoders.items()
                },
            }
        )
        return 0
    parts = ", ".join(f"{name} {size(count)}" for name, count in written.items())
    print(one_line(f"wrote {manifest.folder}: {parts}; space {manifest.space}, width {manifest.width}"))
    return 0


def _full_size(arguments: argparse.Namespace) -> int:
    import json

    from sayclip.errors import InputError
    from sayclip_export import full_size, hard

    if arguments.hard:
        hard.write(arguments.hard, lambda line: print(line, file=sys.stderr, flush=True))
        return 0
    chosen = [name for name in full_size.MODELS if arguments.only.casefold() in name.casefold()]
    if not chosen:
        raise InputError(f"no model is called {arguments.only!r}", f"choose of {', '.join(full_size.MODELS)}")
    rows: list[dict[str, Any]] = []
    for name in chosen:
        measured = full_size.measure(name)
        rows += measured
        print("\n".join(full_size.markdown(measured).splitlines()[2:]), file=sys.stderr, flush=True)
    text = full_size.markdown(rows)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.with_suffix(".md").write_text(text, encoding="utf-8")
        arguments.out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(text)
    return 0
