"""SpeechCLIP (Shih et al. 2022, arXiv 2210.00705) and SpeechCLIP+ (Wang et al. 2024, arXiv 2402.06959)."""

from sayclip_export.models.speechclip.branch import Branch, BranchConfig
from sayclip_export.models.speechclip.encoder import SpeechClip, SpeechClipConfig

__all__ = ["Branch", "BranchConfig", "SpeechClip", "SpeechClipConfig"]
