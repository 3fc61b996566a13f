"""``sayclip train speech`` on the command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sayclip.cli.search import positive, share
from sayclip.errors import InputError
from sayclip_training.arguments import natural

if TYPE_CHECKING:
    from sayclip_training.heads.sides import Sides

HEADS = ("segmental", "parallel", "cascaded", "hybrid", "cif")
VOCABULARIES = ("none", "regularise", "quantise")


def add(recipes: Any) -> None:
    """Add the parser of this recipe."""
    parser: argparse.ArgumentParser = recipes.add_parser(
        "speech",
        help="a head on a frozen speech encoder, learnt from recordings and pictures; resumes where it stopped",
        description="Learn a head that brings the frames of a frozen speech encoder into the space of a frozen CLIP, "
        "or of a DINO by way of a RoBERTa, from pairs of recordings and pictures, without transcripts. `sayclip export "
        "head` adds the file that is written to a bundle of that space.",
    )
    parser.add_argument("--head", choices=HEADS, default="segmental", help="default segmental")
    parser.add_argument(
        "--pairs",
        required=True,
        type=Path,
        metavar="FILE",
        help="a table separated by tabs with a header: speech (or file) and picture, relative to it; it may have split "
        "(train, validation, others), and caption and words ([[word, start, end], …] in s) to evaluate by",
    )
    parser.add_argument("--clip", help="as in `sayclip train pronunciation` (default demo)")
    parser.add_argument(
        "--text-side", type=Path, metavar="DIR", help="in place of --clip: a RoBERTa, as transformers saves it, …"
    )
    parser.add_argument("--image-side", type=Path, metavar="DIR", help="… and a DINO, whose space the head is for")
    parser.add_argument(
        "--speech", metavar="BUNDLE", help="whose speech encoder hears (default: --clip, or demo without it)"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.safetensors", help="the file to write")
    parser.add_argument(
        "--audio-only", action="store_true", help="from recordings of the same picture, which is not seen"
    )
    parser.add_argument(
        "--unfreeze",
        action="store_true",
        help="let the speech encoder learn too, at a tenth of --rate: it knows how to hear, the head is new",
    )
    parser.add_argument(
        "--vocabulary",
        choices=VOCABULARIES,
        default="none",
        help="of a segmental head: units are drawn to tokens, and snapped to them with quantise (default none)",
    )
    parser.add_argument(
        "--slots", type=positive, default=32, help="units at most (default 32); more are merged, with cif left out"
    )
    parser.add_argument(
        "--detector",
        type=natural,
        default=128,
        metavar="WIDTH",
        help="of the net before the detector, learnt without transcripts (default 128); 0: frames as they are",
    )
    parser.add_argument(
        "--unit-seconds",
        type=float,
        default=0.4,
        metavar="S",
        help="what a word takes in the mean, which tells the detector and cif how many to find (default 0.4)",
    )
    parser.add_argument(
        "--threshold", type=share, help="of the detector, 0 to 1 (default: by which units take --unit-seconds)"
    )
    parser.add_argument("--layers", type=natural, default=2, help="of the segment encoder (default 2)")
    parser.add_argument(
        "--hidden", type=natural, default=768, help="width of the feed-forward part of all heads but segmental"
    )
    parser.add_argument("--steps", type=positive, default=3000, help="default 3000")
    parser.add_argument("--batch", type=positive, default=128, help="pairs a step (default 128)")
    parser.add_argument("--rate", type=share, default=1e-3, help="learning rate (default 0.001)")
    parser.add_argument("--dropout", type=share, default=0.1, metavar="SHARE", help="default 0.1")
    parser.add_argument("--seed", type=natural, default=0, help="default 0")
    parser.add_argument("--work", type=Path, metavar="DIR", help="checkpoint and log (default: beside FILE)")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="what is heard and seen (default: in --work)")
    parser.add_argument("--threads", type=positive, help="of PyTorch (default: its own)")
    parser.add_argument("--json", action="store_true", help="print what came of it as JSON")
    parser.set_defaults(run=run)


def _sides(arguments: argparse.Namespace) -> Sides | None:
    """The text side and the image side that are named in place of a CLIP; None where neither is."""
    from sayclip_training.heads import sides

    text, image = arguments.text_side, arguments.image_side
    if text is None and image is None:
        return None
    if text is None or image is None:
        given, lacks = ("--image-side", "--text-side") if text is None else ("--text-side", "--image-side")
        raise InputError(f"{given} is given without {lacks}", "give both, or --clip, which has both")
    if arguments.clip is not None:
        raise InputError("--clip is given along with --text-side and --image-side", "give one or the other")
    return sides.of_folders(text.expanduser(), image.expanduser())


def run(arguments: argparse.Namespace) -> int:
    """Train, and say what came of it."""
    from dataclasses import fields

    import torch

    from sayclip.cli.output import one_line, print_json
    from sayclip_export.readers.speech_head import write_speech_head
    from sayclip_training.heads import recipe
    from sayclip_training.heads.settings import Settings

    out = arguments.out.expanduser()
    if out.suffix != ".safetensors":
        raise InputError(f"{out} is to be written", "give it a name that ends in .safetensors")
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"{out} is a folder, or in one that is not there", "name a file, such as head.safetensors")
    given = [field.name for field in fields(Settings) if hasattr(arguments, field.name)]
    settings = Settings(**{name: getattr(arguments, name) for name in given})
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    work = (arguments.work or out.with_suffix(".work")).expanduser()
    kept = (arguments.cache or work).expanduser()
    clip = arguments.clip or "demo"
    sides, speech = _sides(arguments) or clip, arguments.speech or clip
    material = recipe.gather(sides, speech, arguments.pairs.expanduser(), kept, unfreeze=arguments.unfreeze)
    for line in material.lines:
        print(one_line(line), file=sys.stderr, flush=True)
    trained = recipe.train_head(material, settings, work)
    write_speech_head(out, recipe.checkpoint(material, settings, trained))
    measures = {split: {k: round(v, 4) for k, v in found.items()} for split, found in trained.measures.items()}
    if arguments.json:
        about = {"out": str(out), "parameters": trained.parameters, "seconds": round(trained.seconds, 1)}
        print_json({**about, "measures": measures})
        return 0
    for split, found in measures.items():
        print(one_line(f"{split}: {', '.join(f'{name} {value:g}' for name, value in found.items())}"))
    print(one_line(f"wrote {out}; trained for {trained.seconds:.0f} s"))
    return 0
