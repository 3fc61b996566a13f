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
        help="image and text encoders from the folder of a Hugging Face CLIPModel",
        description="Write a new bundle with the image and text encoders of a CLIP, held against torch first.",
    )
    clip.add_argument("folder", type=Path, metavar="FOLDER", help="folder with config.json, weights and tokenizer")
    clip.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="folder to write; must not exist yet")
    clip.add_argument("--json", action="store_true", help="print what was written as JSON")
    clip.set_defaults(run=_clip)


def _clip(arguments: argparse.Namespace) -> int:
    from sayclip.cli.output import one_line, print_json, size
    from sayclip_export.clip_export import export_clip

    manifest = export_clip(
        arguments.folder.expanduser(), arguments.out.expanduser(), lambda line: print(one_line(line), file=sys.stderr)
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
