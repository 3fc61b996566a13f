"""``sayclip train pronunciation`` on the command line."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from sayclip.cli.search import positive, share
from sayclip.errors import InputError
from sayclip_training.arguments import natural


def add(recipes: Any) -> None:
    """Add the parser of this recipe."""
    parser: argparse.ArgumentParser = recipes.add_parser(
        "pronunciation",
        help="a pronunciation encoder for a CLIP, learnt from its text encoder; resumes where it stopped",
        description="Learn a pronunciation encoder from the frozen text encoder of a CLIP, which is not changed. "
        "`sayclip export pronunciation` adds the file that is written to a bundle of that CLIP.",
    )
    parser.add_argument(
        "--clip",
        required=True,
        help="folder of Hugging Face or open_clip, hub id in the local cache, file of OpenAI or open_clip, a sayclip "
        "bundle, or `demo`",
    )
    parser.add_argument(
        "--captions",
        required=True,
        action="append",
        metavar="FILE[,lang=CODE]",
        help="UTF-8: one caption a line, or a table separated by tabs with a header that has a column caption, and may "
        "have language, teacher (what the teacher reads instead), split (train, validation) and file (its picture). "
        "May be given again; in another language than the first file's, the teacher reads what the first says of it",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.safetensors", help="the file to write")
    parser.add_argument(
        "--language",
        action="append",
        default=[],
        metavar="CODE",
        help="espeak-ng's, of captions that name none (default en-us); given again, they are said in each",
    )
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="evaluate on the captions' pictures, in here")
    parser.add_argument("--work", type=Path, metavar="DIR", help="checkpoint and log (default: beside FILE)")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="IPA and the teacher's answers (default: in --work)")
    parser.add_argument("--embedding", choices=("chart", "random"), default="chart", help="of phonemes")
    parser.add_argument(
        "--residual",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="a learnt vector a phoneme, added to what the chart gives",
    )
    parser.add_argument("--loss", choices=("cosine", "mse"), default="cosine", help="distance to the teacher")
    parser.add_argument(
        "--noise", type=share, default=0.1, metavar="SHARE", help="of phonemes replaced by near ones (default 0.1)"
    )
    parser.add_argument("--stress", action="store_true", help="marks of stress are phonemes too")
    parser.add_argument("--length", action="store_true", help="marks of length are phonemes too")
    parser.add_argument("--steps", type=positive, default=3000, help="default 3000")
    parser.add_argument("--batch", type=positive, default=128, help="captions a step (default 128)")
    parser.add_argument("--rate", type=_number, metavar="RATE", help="learning rate (default: by the teacher's width)")
    parser.add_argument("--dropout", type=share, default=0.0, metavar="SHARE", help="default 0")
    parser.add_argument("--seed", type=natural, default=0, help="default 0")
    parser.add_argument("--threads", type=positive, help="of PyTorch (default: its own)")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="as in `sayclip export clip`"
    )
    parser.add_argument("--vocabulary", type=Path, metavar="FILE", help="as in `sayclip export clip`")
    parser.add_argument("--json", action="store_true", help="print what came of it as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train, and say what came of it."""
    import torch

    from sayclip.cli.output import one_line, print_json
    from sayclip_export.readers.overrides import Overrides
    from sayclip_training.distillation.recipe import train_pronunciation
    from sayclip_training.distillation.settings import Settings
    from sayclip_training.distillation.student import Arm

    def say(line: str) -> None:
        print(one_line(line), file=sys.stderr, flush=True)

    out = arguments.out.expanduser()
    if out.suffix != ".safetensors":
        raise InputError(f"{out} is to be written", "give it a name that ends in .safetensors")
    work = (arguments.work or out.with_suffix(".work")).expanduser()
    settings = Settings(
        Arm(arguments.embedding, arguments.residual),
        *(arguments.loss, arguments.noise, arguments.steps, arguments.batch, arguments.seed, arguments.rate),
        *(arguments.dropout, arguments.stress, arguments.length),
    )
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    trained = train_pronunciation(
        arguments.clip,
        arguments.captions,
        out,
        work,
        settings,
        languages=arguments.language,
        pictures=arguments.pictures and arguments.pictures.expanduser(),
        kept=arguments.cache and arguments.cache.expanduser(),
        overrides=Overrides.parse(arguments.overrides),
        vocabulary=arguments.vocabulary and arguments.vocabulary.expanduser(),
        say_line=say,
    )
    measures = {key: round(value, 4) for key, value in trained.measures.items()}
    if arguments.json:
        about = {"out": str(out), "parameters": trained.parameters, "seconds": round(trained.seconds, 1)}
        print_json({**about, "measures": measures})
        return 0
    shown = ", ".join(f"{key} {value:g}" for key, value in measures.items())
    print(one_line(f"wrote {out}: {shown}; trained for {trained.seconds:.0f} s"))
    return 0


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return number
