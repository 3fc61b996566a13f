"""Segmental-style speech: frames to word-like units that CLIP's text tower reads, beside SpeechCLIP's heads.

After the abstracts of Bhati et al. (Interspeech 2023; arXiv 2309.04628), whose method body was not available: the form
is ours and no published number is claimed. The detector is that of SCPC (Bhati et al. 2021, arXiv 2106.02170).
"""

from sayclip_export.models.segmental.config import KINDS, VOCABULARIES, HeadConfig
from sayclip_export.models.segmental.encoder import SegmentalSpeech
from sayclip_export.models.segmental.head import SegmentalHead
from sayclip_export.models.segmental.heads import BranchHead, build_head
from sayclip_export.models.segmental.heard import Head, Heard

__all__ = [
    "KINDS",
    "VOCABULARIES",
    "BranchHead",
    "Head",
    "HeadConfig",
    "Heard",
    "SegmentalHead",
    "SegmentalSpeech",
    "build_head",
]
