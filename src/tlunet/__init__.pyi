from .data.augment import Augment
from .data.datamodule import DefectDataModule
from .data.dataset import OnDisk, Strips
from .deploy.predict import Predictor
from .errors import ConfigError, DataError, UserError, WeightsError
from .model.encoder import register_encoder
from .model.losses import BalancedLoss, BCEDiceLoss, FocalLoss, LogDiceLoss, LovaszLoss, PaperLoss
from .model.metrics import DefectMetrics
from .model.network import Logits, TLUNet
from .model.scores import PixelCounts, dice, iou, per_image, summarise
from .model.task import DefectTask, load_network
from .model.weights import load_encoder, read_weights
from .report.analysis.blocks import collect
from .report.analysis.comparisons import compare
from .report.analysis.resampled import Resampled, score_table
from .report.report import write_report
from .study.config.command import read_command
from .study.training.run import run_cell

__all__ = [
    "Augment",
    "BCEDiceLoss",
    "BalancedLoss",
    "ConfigError",
    "DataError",
    "DefectDataModule",
    "DefectMetrics",
    "DefectTask",
    "FocalLoss",
    "LogDiceLoss",
    "Logits",
    "LovaszLoss",
    "OnDisk",
    "PaperLoss",
    "PixelCounts",
    "Predictor",
    "Resampled",
    "Strips",
    "TLUNet",
    "UserError",
    "WeightsError",
    "collect",
    "compare",
    "dice",
    "iou",
    "load_encoder",
    "load_network",
    "per_image",
    "read_command",
    "read_weights",
    "register_encoder",
    "run_cell",
    "score_table",
    "summarise",
    "write_report",
]
