"""The heads of SpeechCLIP and SpeechCLIP+ by their keys, as one ``Branch`` each.

SpeechCLIP keeps its parallel head below ``parallel_branch``; SpeechCLIP+ keeps everything below ``cascaded_branch``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sayclip_export.models.clip import ClipText, ClipTextConfig
from sayclip_export.models.speechclip import Branch, BranchConfig
from sayclip_export.models.speechclip.keywords import Keywords
from sayclip_export.readers.errors import CheckpointError, refuse
from sayclip_export.readers.lightning import SUPPORTED
from sayclip_export.readers.openai_names import with_mask
from sayclip_export.readers.overrides import Overrides
from sayclip_export.readers.settings import Settings
from sayclip_export.readers.state import Filling, State

PARALLEL, CASCADED = "parallel_branch.", "cascaded_branch."
# What a configuration calls each kind; it also says KW_ in front, and "plus" for "dynamic".
TYPES = {
    "CascadedBranch": "cascaded",
    "CascadedBranch_dynamic": "cascaded+",
    "HybridBranch": "hybrid",
    "HybridBranch_dynamic": "hybrid+",
}
_EPS = 1e-5


@dataclass(frozen=True)
class Where:
    """A head below the prefix ``at`` of ``state``, and what the configuration says about it."""

    state: State
    at: str
    settings: Settings
    args: Settings

    def has(self, name: str) -> bool:
        return self.state.has(self.at + name)

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        return self.state.shape(self.at + name, dimensions)

    def hidden(self, name: str) -> int:
        """Width in the middle of a projection, 0 where it is one linear layer."""
        return self.shape(f"{name}.sequential.0.weight", 2)[0] if self.has(f"{name}.sequential.") else 0


def section(settings: Settings, *keys: str) -> Settings:
    """The section under ``keys``, empty where there is none."""
    for key in keys:
        settings = settings.section(key) or Settings({}, f"{settings.where}: {key}")
    return settings


def kind(branches: Sequence[BranchConfig]) -> str:
    """``parallel``, ``cascaded``, ``cascaded+``, ``hybrid`` or ``hybrid+``; of two heads both, with ``and``."""
    names = []
    for branch in branches:
        name = "parallel" if not branch.keywords else "hybrid" if branch.parallel else "cascaded"
        names.append(name + ("+" if branch.cif_layers else ""))
    return " and ".join(names)


def branch_configs(
    state: State, settings: Settings, width: int, embedding: int, text: ClipTextConfig, overrides: Overrides
) -> list[tuple[str, BranchConfig]]:
    """The prefix and the sizes of each head. Raises CheckpointError where keys and configuration disagree."""
    prefixes = [at for at in (PARALLEL, CASCADED) if state.has(at)]
    if not prefixes:
        raise refuse(f"{state.where} holds neither {PARALLEL[:-1]} nor {CASCADED[:-1]}, wanted a head", SUPPORTED)
    found = []
    for at in prefixes:
        own = section(settings, "model_settings", at[:-1])
        where = Where(state, at, own, section(own, "transformer_args"))
        option = "head.heads" if len(prefixes) == 1 else f"{at.split('_')[0]}.heads"
        heads = _heads(where, option, width, overrides)
        if at == PARALLEL:
            config = _parallel(where, width, heads, embedding)
        else:
            config = _cascaded(where, width, heads, embedding, text)
        found.append((at, config))
    return found


def read_branch(state: State, at: str, config: BranchConfig, table: Tensor, ids: Tensor, text: ClipText) -> Branch:
    """Take the head below ``at`` out of ``state``. Keywords are rows of ``table`` [V,W] and mean ``ids`` i32 [V];
    ``text`` is CLIP's tower over its full table, whose other weights they share."""
    filling = Filling(state, lambda: Branch(config))
    names = [at + name for name in ("cls", "parallel_cls", "cascaded_cls") if state.has(at + name)]
    parts = [state.take(name, (1, state.shape(name, 3)[1], config.width)) for name in names]
    tokens = torch.cat(parts, dim=1) if parts else torch.zeros(1, 0, config.width, device=table.device)
    if tokens.shape[1] != config.tokens:
        raise refuse(
            f"{state.where}: {' and '.join(names) or at + 'cls'} hold {tokens.shape[1]} tokens, wanted {config.tokens}"
        )
    filling.put("tokens", tokens)
    if config.hidden:
        layer = f"{at}self_att.model.layers.0"
        filling.attention("block.attention", f"{layer}.self_attn")
        for name in ("linear1", "linear2", "norm1", "norm2"):
            filling.copy(f"block.{name}", f"{layer}.{name}")
        filling.copy("block.norm", f"{at}self_att.model.norm")
    else:
        filling.attention("block.attention", f"{at}self_att.multihead_attn_layer")
        filling.copy("block.norm", f"{at}self_att.attentionBlock_Norm")
    if config.parallel:
        _project(filling, "parallel", f"{at}{'linear_proj' if at == PARALLEL else 'parallel_proj'}")
    if config.keywords:
        _keywords(filling, state, at, config, table, ids, text)
    for i in range(config.cif_layers):
        # Between two convolutions lie a dropout and a ReLU.
        filling.copy(f"cif.convs.{i}", f"{at}downsampling.conv.{3 * i}")
    filling.copy("cif.weight", f"{at}downsampling.weight_proj.1")
    branch = filling.load()
    assert isinstance(branch, Branch)
    if branch.keywords is not None:
        with_mask(branch.keywords.text)
    return branch


def _heads(where: Where, option: str, width: int, overrides: Overrides) -> int:
    """Heads of the attention block: no weight shows them, and the configuration says them."""
    said = where.args.integer("nhead", 1) if "nhead" in where.args.data else None
    number = overrides.integer(option, said)
    if number is None:
        number = overrides.require_integer(option, f"{where.args.where} says no nhead, and no weight shows it")
    if width % number:
        problem = f"{where.state.where}: {where.at[:-1]} has {number} heads, wanted a divisor of its width, {width}"
        raise CheckpointError(problem, f"say it with --set {option}=NUMBER")
    return number


def _block(where: Where) -> tuple[int, float]:
    """Width of the feed-forward part, 0 without one, and the eps of the norms."""
    if not where.has("self_att.model."):
        return 0, where.args.number("layer_norm_eps", _EPS)
    where.args.choice("activation", "gelu", ("gelu",))
    if where.args.flag("norm_first", False):
        raise where.args.wrong("norm_first", "false")
    return where.shape("self_att.model.layers.0.linear1.weight", 2)[0], where.args.number("layer_norm_eps", _EPS)


def _parallel(where: Where, width: int, heads: int, embedding: int) -> BranchConfig:
    hidden, eps = _block(where)
    middle = where.hidden("linear_proj")
    return BranchConfig(width, heads, embedding, 1, hidden, parallel=True, parallel_hidden=middle, eps=eps)


def _cascaded(where: Where, width: int, heads: int, embedding: int, text: ClipTextConfig) -> BranchConfig:
    cif, hybrid = where.has("downsampling."), where.has("parallel_proj.") or where.has("parallel_cls")
    keys = ("hybrid" if hybrid else "cascaded") + ("+" if cif else "")
    said = str(where.settings.data.get("type", "")).removeprefix("KW_").replace("plus", "dynamic")
    if TYPES.get(said, keys) != keys:
        raise where.settings.wrong("type", f"that of {keys}, as the keys below {where.at[:-1]} are")
    token = "cascaded_cls" if hybrid and not cif else "cls"
    own = 0 if keys == "cascaded+" else where.shape(token, 3)[1]
    number = text.context - 2 if cif else own
    if not cif and not 1 <= number <= text.context - 2:
        raise refuse(f"{where.state.where}: {where.at}{token} has {number} keywords, wanted 1 to {text.context - 2}")
    hidden, eps = _block(where)
    if cif:
        _check_cif(section(where.settings, "downsampling", "cif"))
    layers, kernel = 0, 3
    while where.has(f"downsampling.conv.{3 * layers}."):
        layers += 1
    if cif:
        kernel = where.shape("downsampling.conv.0.weight", 3)[2]
        if kernel % 2 == 0:
            raise refuse(f"{where.state.where}: {where.at}downsampling.conv.0.weight is {kernel} wide, wanted odd")
    return BranchConfig(
        width,
        heads,
        embedding,
        tokens={"cascaded+": 0, "hybrid+": 1, "hybrid": 1 + number, "cascaded": number}[keys],
        hidden=hidden,
        parallel=hybrid,
        parallel_hidden=where.hidden("parallel_proj") if hybrid else 0,
        keywords=number,
        keyword_hidden=where.hidden("linear_proj"),
        norms=_norms(where, text.width, 1 if cif else number),
        cif_layers=layers,
        cif_kernel=kernel,
        tail=section(where.settings, "downsampling", "cif").number("tail_handling_firing_threshold", 0.5),
        eps=eps,
        text=text,
    )


def _check_cif(settings: Settings) -> None:
    if settings.number("cif_threshold", 1.0) != 1:
        raise settings.wrong("cif_threshold", "1.0")
    if not settings.flag("apply_tail_handling", True):
        raise settings.wrong("apply_tail_handling", "true")
    settings.choice("produce_weight_type", "conv", ("conv",))


def _norms(where: Where, width: int, most: int) -> int:
    """Batch norms before the quantiser: one for all keywords, or one each."""
    if where.has("bn_layer.bn_layers."):
        number = where.state.count(f"{where.at}bn_layer.bn_layers.{{}}.")
    elif where.has("bn_layer.") or section(where.settings, "keyword").data.get("batchnorms"):
        channels = where.shape("bn_layer.bn_layer.weight", 1)[0]
        number = channels // width if channels % width == 0 else 0
    else:
        return 1
    if number not in (1, most):
        raise refuse(
            f"{where.state.where}: {where.at}bn_layer has {number or 'no whole number of'} norms of {width} channels, "
            f"wanted {'1' if most == 1 else f'1 or {most}'}"
        )
    return number


def _project(filling: Filling, ours: str, theirs: str) -> None:
    why = "the width of CLIP's embedding is that of its own projections"
    if f"{ours}.weight" in filling.wanted:
        filling.copy(ours, theirs, why)
        return
    filling.copy(f"{ours}.0", f"{theirs}.sequential.0", why)
    filling.copy(f"{ours}.2", f"{theirs}.sequential.3", why)  # between them lie a ReLU and a dropout


def _keywords(
    filling: Filling, state: State, at: str, config: BranchConfig, table: Tensor, ids: Tensor, text: ClipText
) -> None:
    _project(filling, "keywords.projection", f"{at}linear_proj")
    scale, shift = _fold_norms(state, f"{at}bn_layer.", filling.wanted["keywords.scale"], table.device)
    directions, barred = Keywords.search_tables(table)
    filling.put("keywords.scale", scale)
    filling.put("keywords.shift", shift)
    filling.put("keywords.clip_ids", ids.to(table.device))
    filling.put("keywords.directions", directions)
    filling.put("keywords.barred", barred)
    for key, value in text.state_dict().items():
        filling.put(f"keywords.text.{key}", table if key == "token_embedding.weight" else value)
    state.drop({f"{at}vector_quantizer.curr_temp"}.__contains__)


def _fold_norms(state: State, at: str, shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Scale and shift [norms,width] of a batch norm in evaluation. One norm for all numbers its channels d * norms + k,
    keyword k being the faster."""
    norms, width = shape
    if not state.has(at):
        return torch.ones(shape, device=device), torch.zeros(shape, device=device)
    apart = state.has(f"{at}bn_layers.")
    names = [f"{at}bn_layers.{i}" for i in range(norms)] if apart else [f"{at}bn_layer"]
    folded: list[tuple[Tensor, Tensor]] = []
    for name in names:
        channels = width if apart else norms * width
        parts = ("weight", "bias", "running_mean", "running_var")
        weight, bias, mean, variance = (state.take(f"{name}.{part}", (channels,)).double() for part in parts)
        scale = weight / torch.sqrt(variance + _EPS)
        folded.append((scale, bias - mean * scale))
        state.drop({f"{name}.num_batches_tracked"}.__contains__)
    pairs = []
    for values in zip(*folded, strict=True):
        whole = torch.stack(values) if apart else values[0].view(width, norms).T.contiguous()
        pairs.append(state.finite(f"{at}bn_layer", whole.float()))
    return pairs[0], pairs[1]
