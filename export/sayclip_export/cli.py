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
    clip = kinds.add_parser(
        "clip",
        help="image and text encoders from a published CLIP",
        description="Write a new bundle with the image and text encoders of a CLIP, held against torch first.",
    )
    clip.add_argument(
        "source",
        metavar="SOURCE",
        help="folder of Hugging Face or open_clip, hub id in the local cache, or file of OpenAI or open_clip",
    )
    clip.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="folder to write; must not exist yet")
    _add_overrides(clip, "architecture=ViT-B-32")
    clip.add_argument(
        "--vocabulary",
        type=Path,
        metavar="FILE",
        help="CLIP's byte-pair encoding (bpe_simple_vocab_16e6.txt.gz, tokenizer.json, or a folder with vocab.json and "
        "merges.txt) for a file that comes without it; default: that of an installed open_clip_torch",
    )
    clip.add_argument("--json", action="store_true", help="print what was written as JSON")
    clip.set_defaults(run=_clip)


def _add_overrides(parser: argparse.ArgumentParser, example: str) -> None:
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"what the checkpoint leaves open, such as {example}; may be given again for another key",
    )


def _clip(arguments: argparse.Namespace) -> int:
    from sayclip.cli.output import one_line, print_json, size
    from sayclip_export.clip_export import export_clip
    from sayclip_export.readers.overrides import Overrides

    manifest = export_clip(
        arguments.source,
        arguments.out.expanduser(),
        lambda line: print(one_line(line), file=sys.stderr),
        Overrides.parse(arguments.overrides),
        arguments.vocabulary and arguments.vocabulary.expanduser(),
    )
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
