"""Distils a pronunciation encoder, IPA-CLIP-style, from the frozen text encoder of any CLIP."""
