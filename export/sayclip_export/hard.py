"""Full-size encoders of random weights that int8 finds hard: what calibration is measured on where no trained one is.

Weights begin as training would begin them: CLIP's towers as in Radford et al.'s own code (products of the residual's
branches scaled down with depth), HuBERT as transformers begins it (0.02; convolutions by He et al. 2015). Then norms
get gains that are log-normal with sigma 0.5, six channels of each twenty times as large, as trained transformers have.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sayclip_export import full_size, graphs
from sayclip_export.models.clip import ClipImage
from sayclip_export.models.hubert import Extractor
from sayclip_export.models.layers import Attention, Block
from sayclip_export.models.text import TextTower
from sayclip_export.parts import write_parts

SIGMA, OUTLIERS, FACTOR = 0.5, 6, 20.0


def harden(module: nn.Module) -> Any:
    """Begin every weight of ``module`` anew, from one seed, and make its norms hard; in place."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if value.ndim > 1:
                value.normal_(0, 0.02)
            else:
                value.fill_(1.0 if name.endswith("weight") else 0.0)
        for part in module.modules():
            if isinstance(part, (ClipImage, TextTower)):
                _clip(part)
            elif isinstance(part, Extractor):
                for conv in part.convs:
                    assert isinstance(conv, nn.Conv1d)
                    nn.init.kaiming_normal_(conv.weight)
        for part in module.modules():
            if isinstance(part, nn.LayerNorm):
                part.weight.copy_(torch.exp(torch.randn(part.weight.shape) * SIGMA))
                part.weight[torch.randperm(len(part.weight))[:OUTLIERS]] *= FACTOR
    return module.eval()


def _clip(tower: nn.Module) -> None:
    blocks = [part for part in tower.modules() if isinstance(part, Block)]
    for block in blocks:
        attention = block.attention
        assert isinstance(attention, Attention)
        width, depth = attention.q_proj.weight.shape[0], 2 * len(blocks)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            projection.weight.normal_(0, width**-0.5 * depth**-0.5)
        attention.out_proj.weight.normal_(0, width**-0.5)
        expand, contract = block.mlp[0], block.mlp[2]
        assert isinstance(expand, nn.Linear)
        assert isinstance(contract, nn.Linear)
        expand.weight.normal_(0, (2 * width) ** -0.5)
        contract.weight.normal_(0, width**-0.5 * depth**-0.5)


def write(out: Path, say: Callable[[str], None]) -> None:
    """Write the bundles ``out/clip`` (ViT-B/32: image and text) and ``out/speech`` (HuBERT-base, parallel head)."""
    for folder, name in (("clip", "CLIP ViT-B/32"), ("speech", "SpeechCLIP base, parallel")):
        make, arguments = full_size.MODELS[name]
        (out / folder).mkdir(parents=True, exist_ok=True)
        parts = make(*arguments, out / folder)
        for part in parts.values():
            harden(part.module)
        width = max(graphs.width(part.module, part.reference) for part in parts.values())
        write_parts(out / folder, f"hard {name}", "hard-random", width, parts, {"source": name}, say)
