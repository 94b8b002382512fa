"""TLU-Net: transfer learning in joint steel-defect segmentation and classification.

What a script or a notebook needs is here: ``from tlunet import DefectDataModule, TLUNet``. A name
is imported when it is first asked for, so that the command line starts at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tlunet.data.augment import Augment
    from tlunet.data.datamodule import DefectDataModule
    from tlunet.deploy.predict import Predictor
    from tlunet.errors import ConfigError, DataError, UserError
    from tlunet.model.losses import BalancedLoss, BCEDiceLoss, PaperLoss
    from tlunet.model.metrics import DefectMetrics
    from tlunet.model.network import Logits, TLUNet
    from tlunet.model.scores import PixelCounts, dice, iou, per_image, summarise
    from tlunet.model.task import DefectTask, load_network
    from tlunet.report.analysis.blocks import collect
    from tlunet.report.analysis.comparisons import Resampled, compare, score_table
    from tlunet.report.report import write_report

_HOMES = {
    "tlunet.data.augment": ("Augment",),
    "tlunet.data.datamodule": ("DefectDataModule",),
    "tlunet.deploy.predict": ("Predictor",),
    "tlunet.errors": ("ConfigError", "DataError", "UserError"),
    "tlunet.model.losses": ("BCEDiceLoss", "BalancedLoss", "PaperLoss"),
    "tlunet.model.metrics": ("DefectMetrics",),
    "tlunet.model.network": ("Logits", "TLUNet"),
    "tlunet.model.scores": ("PixelCounts", "dice", "iou", "per_image", "summarise"),
    "tlunet.model.task": ("DefectTask", "load_network"),
    "tlunet.report.analysis.blocks": ("collect",),
    "tlunet.report.analysis.comparisons": ("Resampled", "compare", "score_table"),
    "tlunet.report.report": ("write_report",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # written out: type checkers and editors read it
    "Augment",
    "BCEDiceLoss",
    "BalancedLoss",
    "ConfigError",
    "DataError",
    "DefectDataModule",
    "DefectMetrics",
    "DefectTask",
    "Logits",
    "PaperLoss",
    "PixelCounts",
    "Predictor",
    "Resampled",
    "TLUNet",
    "UserError",
    "collect",
    "compare",
    "dice",
    "iou",
    "load_network",
    "per_image",
    "score_table",
    "summarise",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """A public name, imported from where it is defined."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = found  # the next time it is simply there
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
