"""The LightningModule: network, loss and metrics in one step."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from tlunet.data.batches import pack_bits
from tlunet.data.source import MAX_CLASSES
from tlunet.errors import ConfigError, DataError, first_line
from tlunet.machine.files import example_of
from tlunet.model.losses import PaperLoss
from tlunet.model.metrics import DefectMetrics, MeanLoss, predicted_masks
from tlunet.model.network import Logits, TLUNet
from tlunet.model.optimisation.averaging import WeightAverage, averaged
from tlunet.model.optimisation.optimizer import make_optimizer
from tlunet.model.optimisation.schedule import make_schedule
from tlunet.model.rest.rest import Rest
from tlunet.model.weights import read_plain, wanted_code

NEVER = -1e4  # logit of a padded pixel: its probability and its loss are exactly 0
BY_CLASS = ("dice_class", "auc")  # shows a class that is never found


class DefectTask(pl.LightningModule):
    """Joint segmentation and classification (paper II, III-B).

    Logs ``train_loss`` and, for stage ``val`` or ``test``, ``<stage>_loss``, ``<stage>_dice``,
    ``_iou``, ``_mla`` and ``_auc``, and the scores :data:`BY_CLASS` of each class by its id
    (``val_dice_class/1``). Its checkpoints hold only plain values and tensors.

    Args:
        network: the joint U-Net.
        loss: called with mask logits, label logits, masks, labels; by default eq. (1).
        lr: learning rate, the largest of a schedule.
        betas: Adam's (β₁, β₂).
        threshold: a pixel or label is positive where its probability is above it.
        classes: names of the classes, kept with the weights.
        batch_size: number of images per loss value in validation and test, where batches may be
            larger; by default the whole batch.
        optimizer: ``adam`` or ``adamw``.
        weight_decay: of the optimiser; biases and normalisation layers do not decay.
        clip: largest L2 norm of the gradient over all weights; by default unlimited.
        schedule: of the learning rate, one of
            :data:`~tlunet.model.optimisation.schedule.SCHEDULES`.
        warmup: fraction of the steps in which the learning rate rises.
        steps: optimiser steps of a whole training, needed for a schedule or a warm-up.
        ema: decay of an exponential moving average of the weights, which is then validated, tested
            and kept in checkpoints next to the weights; by default none.
        rest: how to learn from a batch's part ``rest``, images without masks; by default not. Its
            loss is logged as ``rest_loss`` and is not part of ``train_loss``.

    Raises:
        ConfigError: ``rest`` needs ``ema``, and it is not set.

    Attributes:
        average: the averaged network, or ``None``.

    Example:
        >>> task = DefectTask(TLUNet("resnet18", classes=4))
        >>> task.hparams["lr"], task.hparams["network"]["encoder"]
        (0.0005, 'resnet18')
    """

    def __init__(
        self,
        network: TLUNet,
        loss: nn.Module | None = None,
        *,
        lr: float = 5e-4,
        betas: Sequence[float] = (0.99, 0.99),
        threshold: float = 0.5,
        classes: Sequence[str] = (),
        batch_size: int | None = None,
        optimizer: str = "adam",
        weight_decay: float = 0.0,
        clip: float | None = None,
        schedule: str = "constant",
        warmup: float = 0.0,
        steps: int | None = None,
        ema: float | None = None,
        rest: Rest | None = None,
    ) -> None:
        super().__init__()
        if rest is not None and rest.needs_average and ema is None:
            raise ConfigError("ema: not set; rest=mean_teacher needs a decay, such as ema=0.99")
        self.save_hyperparameters(
            {
                "network": network.spec,
                "lr": float(lr),
                "betas": [float(b) for b in betas],
                "threshold": float(threshold),
                "classes": [str(c) for c in classes],
            }
        )
        self.network = network
        self.average = None if ema is None else WeightAverage(network, ema)
        self.loss = loss or PaperLoss()
        self.rest = rest
        self._knows_padding = "padding" in inspect.signature(self.loss.forward).parameters
        self.batch_size = batch_size
        self.optimizer, self.weight_decay, self.clip = optimizer, weight_decay, clip
        self.schedule, self.warmup, self.steps = schedule, warmup, steps
        self._compiled: tuple[Callable[[Any, Tensor], Logits], set[int]] | None = None
        # Accumulated on the device and read once per epoch: steps do not synchronise.
        self.train_loss, self.val_loss, self.test_loss = MeanLoss(), MeanLoss(), MeanLoss()
        self.rest_loss = MeanLoss()
        self.val_metrics = DefectMetrics(threshold)
        self.test_metrics = DefectMetrics(threshold)

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated, tested and kept: the averaged one if there is one."""
        return self.network if self.average is None else self.average.module

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of masks (B, M, H, W) and labels (B, M) for images (B, 1 or 3, H, W)."""
        logits = self.evaluated(image)
        return logits.masks.float().sigmoid(), logits.labels.float().sigmoid()

    def compile_for(self, *batch_sizes: int, backend: str = "inductor") -> None:
        """Compile the network for batches of these sizes; other batches run eagerly.

        Code is compiled once per size, mode and encoder and shared within a process.
        """
        torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
        compiled = torch.compile(TLUNet.forward, dynamic=False, backend=backend)
        self._compiled = compiled, set(batch_sizes)

    def _logits(self, image: Tensor) -> Logits:
        return self._run(self.network if self.training else self.evaluated, image)

    def _run(self, network: nn.Module, image: Tensor) -> Logits:
        if self._compiled and len(image) in self._compiled[1]:
            return self._compiled[0](network, image)
        logits: Logits = network(image)
        return logits

    def _targets(self, logits: Logits, batch: dict[str, Any]) -> tuple[Tensor, ...]:
        """Logits and targets, as a loss takes them; no class is found in the padding."""
        if "padding" in batch:
            logits = without_padding(logits, batch["padding"])
        return *logits, batch["mask"], batch["label"]

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor | dict[str, Tensor]:
        """The loss of one batch; if it has a rest, also ``train_loss``, that of the others."""
        rest = self._prepared(batch)
        if rest is None:
            return self._supervised(self._logits(batch["image"]), batch)
        B = len(batch["image"])
        logits = self._logits(torch.cat([batch["image"].float(), rest["image"].float()]))
        loss = self._supervised(Logits(*(part[:B] for part in logits)), batch)
        others = Logits(*(part[B:] for part in logits))
        whole = loss + self._rest_loss(others, rest, batch["rest"])
        return {"loss": whole, "train_loss": loss.detach()}

    def _supervised(self, logits: Logits, batch: dict[str, Any]) -> Tensor:
        """The loss of the images with masks."""
        loss: Tensor = self.loss(*self._targets(logits, batch), *self._padding(batch))
        self.train_loss.update(loss, batch.get("count", len(batch["id"])))
        return loss * batch["weight"] if "weight" in batch else loss

    def configure_gradient_clipping(  # noqa: D102
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        # Lightning's own clipping refuses fused optimisers under mixed precision.
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)

    def _prepared(self, batch: dict[str, Any]) -> dict[str, Any] | None:
        """The images without masks and their targets, if they are learnt from."""
        if self.rest is None or "rest" not in batch:
            return None
        return self.rest.prepare(batch["rest"], self._teach if self.average is not None else None)

    def _teach(self, image: Tensor) -> Logits:
        assert self.average is not None
        self.average.eval()  # running statistics, as when it is used
        return self._run(self.average.module, image)

    def _rest_loss(self, logits: Logits, targets: dict[str, Any], rest: dict[str, Any]) -> Tensor:
        """The weighted loss of the images without masks."""
        assert self.rest is not None
        loss: Tensor = self.rest(logits, targets, getattr(self.loss, "is_sum", False))
        self.rest_loss.update(loss, rest.get("count", len(rest["index"])))
        steps = self.steps or int(self.trainer.estimated_stepping_batches)
        return loss * (self.rest.weight_at(self.global_step / steps) * rest.get("weight", 1.0))

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take an optimiser step and include its weights in the average, if there is one."""
        done = self.trainer.global_step
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            self.average.update_after(done, self.network)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:  # noqa: D102
        self._evaluate(batch, "val")

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Return the predicted masks as ``bits``, a bit field (B, H, W)."""
        masks_logits = self._evaluate(batch, "test")
        return {"bits": pack_bits(predicted_masks(masks_logits, self.hparams["threshold"]))}

    def _evaluate(self, batch: dict[str, Any], stage: str) -> Tensor:
        """Count one batch and return its mask logits."""
        masks_logits, labels_logits, masks, labels = outputs = self._targets(
            self._logits(batch["image"]), batch
        )
        counts = batch.get("count", 1) > 0
        for part in self._parts(*outputs, *self._padding(batch)):
            self._mean_loss(stage).update(self.loss(*part), len(part[0]) * counts)
        self._metrics(stage).update(masks_logits, labels_logits, masks, labels, batch["index"])
        return masks_logits

    def _padding(self, batch: dict[str, Any]) -> tuple[Tensor, ...]:
        """The padded pixels, for a loss that asks for them."""
        return (batch["padding"],) if self._knows_padding and "padding" in batch else ()

    def _parts(self, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Split a batch into pieces of as many images as one loss value covers."""
        size = self.batch_size or len(tensors[0])
        return zip(*(t.split(size) for t in tensors), strict=True)

    def on_train_epoch_start(self) -> None:  # noqa: D102
        self.train_loss.reset()  # not at the end, where callbacks read it
        self.rest_loss.reset()

    def on_train_epoch_end(self) -> None:  # noqa: D102
        self.log("train_loss", self.train_loss.compute())
        if self.rest is not None:
            self.log("rest_loss", self.rest_loss.compute())

    def on_validation_epoch_end(self) -> None:  # noqa: D102
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:  # noqa: D102
        self._log_scores("test")

    def _log_scores(self, stage: str) -> None:
        scores = self._metrics(stage).compute()
        named: dict[str, float | None] = {
            "dice": scores["dice_image"],
            "iou": scores["iou_image"],
            "mla": scores["mla"],
            "auc": scores["auc"]["mean"],
        }
        named |= {f"{k}/{m}": v for k in BY_CLASS for m, v in scores[k]["per_class"].items()}
        # An undefined score (no defect in the set, for example) is logged as NaN.
        values = {f"{stage}_{k}": float("nan") if v is None else v for k, v in named.items()}
        loss = self._mean_loss(stage)
        self.log_dict(values | {f"{stage}_loss": loss.compute()})
        loss.reset()
        if stage == "val":
            self.val_metrics.reset()

    def _mean_loss(self, stage: str) -> MeanLoss:
        return self.val_loss if stage == "val" else self.test_loss

    def _metrics(self, stage: str) -> DefectMetrics:
        return self.val_metrics if stage == "val" else self.test_metrics

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the training losses so far, so that a resumed epoch covers all its batches."""
        checkpoint["train_loss"] = self.train_loss.so_far()
        if self.rest is not None:
            checkpoint["rest_loss"] = self.rest_loss.so_far()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:  # noqa: D102
        self.train_loss.go_on(**checkpoint["train_loss"])
        if self.rest is not None:
            self.rest_loss.go_on(**checkpoint["rest_loss"])

    def configure_optimizers(self) -> Any:
        """By default Adam, 5e-4, β = (0.99, 0.99) (paper III-B), in one fused kernel."""
        optimizer = make_optimizer(
            self.network,
            self.optimizer,
            lr=self.hparams["lr"],
            betas=self.hparams["betas"],
            weight_decay=self.weight_decay,
            fused=self.device.type != "mps",
        )
        schedule = make_schedule(optimizer, self.schedule, self.warmup, self.steps or 1)
        if schedule is None:
            return optimizer
        each_step = {"scheduler": schedule, "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": each_step}


def without_padding(logits: Logits, padding: Tensor) -> Logits:
    """Let no class be found in padded pixels, bool (B, 1, H, W); they also get no gradient."""
    return Logits(logits.masks.masked_fill(padding, NEVER), logits.labels)


def load_network(checkpoint: Path) -> TLUNet:
    """Load the trained network of a run's ``best.ckpt`` on the CPU, in evaluation mode.

    If its weights were averaged, this is the averaged network, the one that was validated. No code
    in the file is executed (``weights_only=True``).

    Args:
        checkpoint: the file, or a run folder with a ``best.ckpt``.

    Raises:
        DataError: the file is missing, or is not a checkpoint of this project.
    """
    path = checkpoint / "best.ckpt" if checkpoint.is_dir() else checkpoint
    try:
        content = read_plain(path)
        spec = content["hyper_parameters"]["network"]
        if not 1 <= spec["classes"] <= MAX_CLASSES:
            raise ValueError(f"{spec['classes']} classes")
        network = TLUNet(**spec)
        prefix, state = "network.", content["state_dict"]
        weights = averaged(state) or {k.removeprefix(prefix): v for k, v in state.items()}
        network.load_state_dict(weights)
    except FileNotFoundError:
        inside = example_of(checkpoint, "best.ckpt")
        raise DataError(
            f"{path}: no such checkpoint; expected the folder of a finished run{inside}"
        ) from None
    except Exception as error:  # each kind of damage raises another class
        if code := wanted_code(error, path):
            raise DataError(f"{path}: refused, loading it would execute code ({code})") from None
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise DataError(f"{path}: not a checkpoint of TLU-Net ({reason})") from error
    return network.eval()
