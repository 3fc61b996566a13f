"""OpenAI's names of a CLIP's weights, by ours: of its towers below their prefix, and of one layer.

open_clip, SpeechCLIP and CLIP4VLA share them. Queries, keys and values are stacked in one matrix [3W,W], and both
projections are stored [in,out].
"""

from __future__ import annotations

STACKED = ("q_proj", "k_proj", "v_proj")
BLOCK = {
    "ln_1": "ln_1",
    "ln_2": "ln_2",
    "attention.out_proj": "attn.out_proj",
    "mlp.0": "mlp.c_fc",
    "mlp.2": "mlp.c_proj",
}
VISION = {
    "class_embedding": "class_embedding",
    "patches.weight": "conv1.weight",
    "positional_embedding": "positional_embedding",
    "ln_pre.weight": "ln_pre.weight",
    "ln_pre.bias": "ln_pre.bias",
    "ln_post.weight": "ln_post.weight",
    "ln_post.bias": "ln_post.bias",
    "projection.weight": "proj",
}
TEXT = {
    "token_embedding.weight": "token_embedding.weight",
    "positional_embedding": "positional_embedding",
    "ln_final.weight": "ln_final.weight",
    "ln_final.bias": "ln_final.bias",
    "projection.weight": "text_projection",
}
