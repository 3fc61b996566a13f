"""What heads are learnt between: a frozen text side that reads their units, and a frozen image side that is the goal.

Both towers of a CLIP; or a RoBERTa and a DINO (after the abstract of arXiv 2309.04628: teachers of one modality each),
which share no space, so that a layer from one to the other is learnt with the head.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache as cached
from functools import partial
from pathlib import Path

from sayclip.errors import InputError, TextError
from sayclip.text.tokenizer import Tokenizer
from sayclip_export.dino_export import KIND
from sayclip_export.models.text_side import TextSide
from sayclip_export.parts import space_id
from sayclip_export.readers.dino import DinoCheckpoint, read_dino
from sayclip_export.readers.roberta import read_roberta
from sayclip_training.distillation import cache
from sayclip_training.distillation.teacher import Read, See, open_teacher, seeing


@dataclass(frozen=True)
class Sides:
    """``tower``: the text side, whose hash is ``sha256``; ``space`` of ``width`` numbers is the image side's.

    ``see(paths)``: embeddings of pictures f32 [N,D], of length 1; ``seen_by``: a hash of what sees. ``tokens(text)``:
    its ids in the text side's vocabulary, none of a text that is empty or that it cannot read. ``words``: what each id
    that can be a word stands for, where the file of the head must hold that; else empty. ``tokenizer``: a CLIP's own.
    ``read(texts)``: their embeddings in the space, f32 [N,D]; None where texts do not end there.
    """

    name: str
    sha256: str
    space: str
    width: int
    tower: TextSide
    see: See
    seen_by: str
    tokens: Callable[[str], list[int]]
    words: Mapping[int, str] = field(default_factory=dict)
    tokenizer: Tokenizer | None = None
    read: Read | None = None

    def require_room(self, units: Mapping[str, int]) -> None:
        """Raise InputError unless the text side can read as many ``units``, by what they are called."""
        most = self.tower.config.units
        for name, count in units.items():
            if not 1 <= count <= most:
                problem = f"{name} is {count}, wanted 1 to {most}, what the text side can read"
                raise InputError(problem, "give fewer, or another text side")


def of_clip(source: str) -> Sides:
    """Both sides of the CLIP at ``source``, see ``open_teacher``.

    Raises as that does, and InputError for one whose text tower is not known or that sees no pictures.
    """
    teacher = open_teacher(source)
    if teacher.tower is None or teacher.see is None:
        lacks = "whose weights are not known" if teacher.tower is None else "without an image encoder"
        raise InputError(f"{teacher.name} is a CLIP {lacks}", "name another with --clip")
    return Sides(
        *(teacher.name, teacher.sha256, teacher.space, teacher.width, teacher.tower, teacher.see, teacher.seen_by),
        tokens=cached(partial(_tokens, teacher.tokenizer)),
        tokenizer=teacher.tokenizer,
        read=teacher.read,
    )


def of_folders(text: Path, image: Path) -> Sides:
    """The RoBERTa in ``text`` and the DINO in ``image``, folders of transformers. Raises CheckpointError."""
    dino = read_dino(image)
    roberta = read_roberta(text, dino.image_config.embedding)
    return Sides(
        f"{roberta.name} and {dino.name}",
        roberta.sha256,
        space_id(dino, KIND),
        dino.image_config.embedding,
        roberta.tower,
        seeing(dino.image, dino.picture),
        _identity(dino),
        cached(roberta.vocabulary.encode),
        roberta.vocabulary.words(),
    )


def _tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of ``text``; none where there is no text, as captions need not be there, or one that cannot be read."""
    try:
        return tokenizer.encode(text)[1:-1]
    except TextError:
        return []


def _identity(dino: DinoCheckpoint) -> str:
    sizes = json.dumps(dino.image_config.to_dict())
    return cache.digest([dino.weights_sha256, sizes, json.dumps(asdict(dino.picture))])
