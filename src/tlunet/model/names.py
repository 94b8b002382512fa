"""Canonical tensor names, independent of the library that saved the weights."""

import re
from collections.abc import Iterable

# efficientnet_pytorch (and the TPU port that saved the Lite weights) → timm, outside of blocks.
_TRUNK = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2",
          "_fc": "classifier"}  # fmt: skip
# Inside a block with expansion: 1×1 up, depthwise, 1×1 down.
_EXPANDING = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
              "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip
# Inside a block without expansion: depthwise, 1×1.
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw",
              "_bn2": "bn2"}  # fmt: skip
# Squeeze and excitation, only in EfficientNet, not in EfficientNet-Lite.
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}


def canonical(name: str) -> str:
    """Convert a tensor name to its canonical form, the same for all libraries.

    Wrapper prefixes are dropped; timm's `features_only` joins levels by `_` instead of `.`;
    torchvision's DenseNet before 0.4 used `norm.1` for `norm1`.

    >>> canonical("network.encoder.model.stages_0.blocks.0.conv_dw.weight")
    'stages.0.blocks.0.conv.dw.weight'
    >>> canonical("module.features.denseblock1.denselayer1.norm.1.weight")
    'features.denseblock1.denselayer1.norm1.weight'
    """
    name = re.sub(r"^((module|_orig_mod|network|model|encoder|backbone)\.)+", "", name)
    name = re.sub(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)", r"\1", name)
    return name.replace("_", ".").lstrip(".")


def timm_names(names: Iterable[str], like: Iterable[str]) -> dict[str, str]:
    """Map an EfficientNet's tensor names from efficientnet_pytorch to timm.

    efficientnet_pytorch numbers all blocks consecutively; timm numbers them within each stage. So
    block k is timm's k-th in the order of (stage, number). A block without `_expand_conv` is
    depthwise separable, and its layers have different names.

    Args:
        names: names in the file.
        like: names in the timm network, canonical or timm's own; they define the number of blocks
            in each stage.

    Returns:
        Old name → new name, for every efficientnet_pytorch name with a block in the network.
        Empty if the network itself uses efficientnet_pytorch's names.

    >>> names = ["_bn0.bias", "_blocks.0._bn1.bias", "_blocks.1._expand_conv.weight",
    ...          "_blocks.1._bn1.bias"]
    >>> timm_names(names, like=["blocks.0.0.bn1.bias", "blocks.1.0.conv_pw.weight"])
    ... # doctest: +NORMALIZE_WHITESPACE
    {'_bn0.bias': 'bn1.bias', '_blocks.0._bn1.bias': 'blocks.0.0.bn1.bias',
     '_blocks.1._expand_conv.weight': 'blocks.1.0.conv_pw.weight',
     '_blocks.1._bn1.bias': 'blocks.1.0.bn2.bias'}
    """
    names = list(names)
    matches = (re.match(r"blocks[._](\d+)\.(\d+)\.", name) for name in like)
    blocks = sorted({(int(match[1]), int(match[2])) for match in matches if match})
    expanding = {match[1] for name in names if (match := _in_block(name, r"_expand_conv\..+"))}
    renamed = {}
    for name in names:
        if match := _in_block(name, r"(\w+)\.(.+)"):
            number, layer, rest = match.groups()
            layers = _SQUEEZE | (_EXPANDING if number in expanding else _SEPARABLE)
            if int(number) < len(blocks) and layer in layers:
                stage, place = blocks[int(number)]
                renamed[name] = f"blocks.{stage}.{place}.{layers[layer]}.{rest}"
        elif blocks and (layer := name.partition(".")[0]) in _TRUNK:
            renamed[name] = _TRUNK[layer] + name[len(layer) :]
    return renamed


def _in_block(name: str, rest: str) -> re.Match[str] | None:
    return re.fullmatch(rf"_blocks\.(\d+)\.{rest}", name)
