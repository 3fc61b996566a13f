"""Checkpoints of SpeechCLIP and SpeechCLIP+: every published kind, told by its keys and its own configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sayclip.bundle.entries import PicturePreprocessing
from sayclip.bundle.files import sha256_of
from sayclip_export.models.clip import ClipImage, ClipImageConfig, ClipText, ClipTextConfig
from sayclip_export.models.hubert import Hubert, HubertConfig
from sayclip_export.models.speechclip import SpeechClip, SpeechClipConfig
from sayclip_export.readers.errors import refuse
from sayclip_export.readers.fairseq_hubert import hubert_config, read_hubert
from sayclip_export.readers.lightning import SUPPORTED, read_lightning
from sayclip_export.readers.openai_names import image_config, read_image, read_text, text_config
from sayclip_export.readers.optimum_hubert import read_optimum_hubert
from sayclip_export.readers.overrides import Overrides
from sayclip_export.readers.picture_settings import MEAN, STD
from sayclip_export.readers.reduced_vocabulary import FULL, NAMES, REDUCED, token_ids
from sayclip_export.readers.settings import Settings
from sayclip_export.readers.speechclip_branches import branch_configs, kind, read_branch, section
from sayclip_export.readers.state import State

CLIP = "clip.model."
PREFIXES = {"FairseqHubert": "audio_encoder.encoder.", "s3prl_plus": "audio_encoder.encoder.model."}
LARGE = {"hubert": False, "hubert_base": False, "hubert_large_ll60k": True}
# Of training: masks of the loss and its temperature, and CLIP's own.
_UNUSED = {"criterion.eye_mat", "criterion.neg_eye_mat", "criterion.eye_mat_fl", "criterion.temperature"}
_UNUSED |= {f"{CLIP}logit_scale"}


@dataclass(frozen=True)
class SpeechClipCheckpoint:
    """A SpeechCLIP ready for export, in fp32 and evaluation mode, with the whole CLIP that is inside it.

    ``kind``: parallel, cascaded, cascaded+, hybrid or hybrid+, or two of them. ``vocabulary``: ids in CLIP's full
    vocabulary of the rows that keywords are chosen from. ``sha256``: of the file. ``format``: what it is, in words.
    """

    path: Path
    kind: str
    speech: SpeechClip
    image: ClipImage
    text: ClipText
    speech_config: SpeechClipConfig
    image_config: ClipImageConfig
    text_config: ClipTextConfig
    picture: PicturePreprocessing
    vocabulary: tuple[int, ...]
    sha256: str
    format: str


def read_speechclip(path: Path, overrides: Overrides | None = None, hubert: Path | None = None) -> SpeechClipCheckpoint:
    """Read the checkpoint at ``path``. Raises CheckpointError, one line naming the key, the value seen and that wanted.

    ``overrides`` decides what the file leaves open: ``hubert.heads``, ``text.heads``, ``image.heads``, ``head.heads``
    (of two heads ``parallel.heads`` and ``cascaded.heads``), ``waveform_normalisation`` and
    ``hidden_state_normalisation``. It raises InputError for other keys. ``hubert``: a folder of optimum that holds the
    HuBERT of a checkpoint stored without it; heads are then as it says.
    """
    overrides = overrides or Overrides()
    file = read_lightning(path)
    brought = read_optimum_hubert(hubert) if hubert else None
    found = from_state(State(file.tensors, path), file.config, overrides, brought)
    overrides.finish()
    return replace(found, sha256=sha256_of(path), format=f"{found.format}, Lightning {file.version}")


def from_state(
    state: State, config: Mapping[str, Any], overrides: Overrides, brought: Hubert | None = None
) -> SpeechClipCheckpoint:
    """A checkpoint, its ``sha256`` left empty, from its state dict, every key of which is accounted for, its
    configuration, and a HuBERT where it has none. On the meta device keys and shapes alone are checked."""
    settings = Settings(config, f"{state.where}: config")
    if not (state.has("audio_encoder.") and state.has(CLIP)):
        raise refuse(f"{state.where} holds no audio_encoder and clip.model, wanted a SpeechCLIP", SUPPORTED)
    state.drop_aliases("cascaded_branch.clip.", "clip.")
    state.drop(_UNUSED.__contains__)
    prefix = _prefix(section(settings, "audio_encoder"), state)
    hubert, normalise_states = _hearing(settings, state, prefix, overrides, brought)
    rows, words = state.shape(REDUCED, 2)[0], state.shape(FULL, 2)[0]
    image, text = image_config(state, CLIP, overrides), text_config(state, CLIP, words, overrides)
    if image.embedding != text.embedding:
        raise refuse(f"{state.where}: {CLIP}visual.proj gives {image.embedding}, wanted {text.embedding}, as for texts")
    heads = branch_configs(state, settings, hubert.width, text.embedding, replace(text, vocabulary=rows), overrides)

    full = state.take(FULL, (words, text.width))
    reduced = state.take(REDUCED, (rows, text.width), f"the width of {FULL}")
    ids = token_ids(state, reduced, full)
    image_tower, text_tower = read_image(state, CLIP, image), read_text(state, CLIP, text, full)
    speech_config = SpeechClipConfig(hubert, normalise_states, tuple(head for _, head in heads))
    with torch.device("meta"):
        speech = SpeechClip(speech_config)
    speech.hubert = brought or read_hubert(state, prefix, hubert)
    speech.hubert.config = hubert
    weights = state.take("audio_encoder.weightedsum_layer.weights", (hubert.layers + 1,), "one a hidden state")
    speech.weighted_sum.weights = nn.Parameter(weights, requires_grad=False)
    for number, (at, head) in enumerate(heads):
        speech.branches[number] = read_branch(state, at, head, reduced, ids, text_tower)
    state.finish()
    what, size = kind(speech_config.branches), "large" if hubert.large else "base"
    return SpeechClipCheckpoint(
        path=state.where,
        kind=what,
        speech=speech.eval(),
        image=image_tower,
        text=text_tower,
        speech_config=speech_config,
        image_config=image,
        text_config=text,
        picture=PicturePreprocessing(image.size, MEAN, STD),
        vocabulary=tuple(ids.tolist()),
        sha256="",
        format=f"SpeechCLIP {what}, HuBERT {size}, keywords of {NAMES.get(rows, f'{rows} tokens')}",
    )


def _prefix(audio: Settings, state: State) -> str:
    """Where HuBERT is: one level down where it came through s3prl, which its keys show."""
    audio.choice("type", "FairseqHubert", PREFIXES)
    return next((at for at in reversed(PREFIXES.values()) if state.has(at)), PREFIXES["FairseqHubert"])


def _hearing(
    settings: Settings, state: State, prefix: str, overrides: Overrides, brought: Hubert | None
) -> tuple[HubertConfig, bool]:
    """HuBERT's sizes, and whether its states are normalised before they are summed.

    Waves are normalised for the large HuBERT always, for the base where the training's data were.
    """
    audio, dataset = section(settings, "audio_encoder"), section(settings, "data", "dataset")
    audio.choice("feat_select_idx", "weighted_sum", ("weighted_sum",))
    normalise_states = overrides.boolean("hidden_state_normalisation", audio.flag("normalize_hiddenstates", False))
    if normalise_states:
        audio.choice("normalize_type", "s3prl", ("s3prl",))
    normalise = overrides.boolean("waveform_normalisation", dataset.flag("normalize_waveform", False) or None)
    if brought is None:
        hubert = hubert_config(state, prefix, normalise, overrides)
    elif state.has(f"{prefix}feature_extractor."):
        raise refuse(f"{state.where} holds a HuBERT of its own, and another one is given", "give none with --hubert")
    else:
        hubert = replace(brought.config, normalise=brought.config.large if normalise is None else normalise)
    if LARGE.get(str(audio.data.get("name")), hubert.large) is not hubert.large:
        raise audio.wrong("name", f"that of a {'large' if hubert.large else 'base'} HuBERT, as its keys are")
    return hubert, bool(normalise_states)
