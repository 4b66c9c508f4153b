"""RunConfig: everything that decides what a training run computes. It lies in the run folder as
config.json."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lcmae.data import Augmentation
from lcmae.masking import at_ratio
from lcmae.masking.schedules import AnySchedule, Constant, Cosine, Cyclic, Linear, quantize
from lcmae.models import AnyModelConfig, MAEConfig
from lcmae.objectives import MAE, AnyObjective
from lcmae.settings import Settings

AttentionKernel = Literal["auto", "flash", "efficient", "cudnn", "written"]
Logger = Literal["tensorboard", "wandb", "mlflow"]
DecayRate = Annotated[float, Field(ge=0, lt=1)]


class RunConfig(Settings):
    """A complete training run. Two runs with the same config on the same machine and device are the
    same, bit for bit."""

    data: str = "digits"
    """Where images come from: digits, cifar10, cifar100, stl10, photographs, hierarchy, or a path
    (a folder, Parquet, NumPy, TIFF, zarr, WebDataset, DICOM)."""

    limit: int | None = Field(default=None, ge=1)
    """Train on this many images of a fixed, class-balanced choice; all of them by default."""

    download: bool = False
    """Allow cifar10, cifar100 and stl10 to be downloaded where they are missing."""

    model: AnyModelConfig = MAEConfig()
    """Architecture, targets and normalisation of pixels."""

    objective: AnyObjective = MAE()
    """What is minimised, and under which masks."""

    ratio_schedule: AnySchedule | None = None
    """How the masking ratio changes during training; by default it stays at the mask's own."""

    ratio_multiple: int = Field(default=1, ge=1)
    """Round the number of visible patches of a scheduled ratio to a multiple of this, for fewer
    shapes to compile."""

    augmentation: Augmentation | None = None
    """Random resized crop and flip; none by default."""

    epochs: int = Field(default=100, ge=1)
    """Passes over the images."""

    batch_size: int = Field(default=128, ge=1)
    """Images of one optimiser step, over all devices and accumulated micro-batches."""

    accumulate: int = Field(default=1, ge=1)
    """Micro-batches of one optimiser step. Terms over a batch (uniformity) are then taken within
    each micro-batch."""

    base_lr: float = Field(default=1.5e-4, gt=0)
    """Learning rate for 256 images a step; the peak rate is base_lr * batch_size / 256."""

    warmup_epochs: float = Field(default=5.0, ge=0)
    """Epochs of linear warm-up, before a cosine to zero."""

    betas: tuple[DecayRate, DecayRate] = (0.9, 0.95)
    """AdamW's decay rates of the first and second moment."""

    weight_decay: float = Field(default=0.05, ge=0)
    """AdamW's decoupled weight decay; none on norms, biases, tokens and positions."""

    clip: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient; unlimited by default."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Decides initial weights, order of images, augmentation and masks."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the model; weights, losses and optimiser stay float32."""

    compile: bool = False
    """Compile the blocks with torch.compile: worth it on a GPU, seldom on a CPU."""

    cuda_graph: bool = False
    """Record a step once as a CUDA graph and replay it: for small models on one GPU. No effect on a
    CPU."""

    attention: AttentionKernel = "auto"
    """Attention kernel: torch's choice, one of torch's by name, or matrices written out
    (benchmarks.train times them)."""

    activation_checkpointing: bool = False
    """Compute each block again in the backward pass instead of keeping its activations: a third
    slower, far smaller."""

    shard: bool = False
    """Shard weights and optimiser over devices (FSDP2) for models too big for one; under torchrun
    only."""

    workers: int = Field(default=0, ge=0)
    """Processes that decode images when the data does not fit in memory."""

    log_every: int = Field(default=10, ge=1)
    """Optimiser steps between two lines of metrics.jsonl; each holds means over those steps."""

    monitor_every: int = Field(default=0, ge=0)
    """Epochs between two measurements of kNN and linear accuracy on unmasked images; 0 measures at
    the end only."""

    monitor_images: int = Field(default=2000, ge=2)
    """Training images, and at most as many test images, that the monitor uses."""

    checkpoint_every: int = Field(default=0, ge=0)
    """Epochs between two checkpoints; 0 stores one at the end only."""

    loggers: tuple[Logger, ...] = ()
    """Where metrics go besides metrics.jsonl; each needs its extra, e.g. `uv sync --extra
    tensorboard`."""

    @model_validator(mode="after")
    def _parts_fit(self) -> "RunConfig":
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"expected batch_size ({self.batch_size}) to be a multiple of accumulate ({self.accumulate})"
            )
        if self.warmup_epochs > self.epochs:
            raise ValueError(
                f"expected warmup_epochs of at most {self.epochs} (epochs), got {self.warmup_epochs:g}; say "
                "warmup_epochs=0 (--warmup-epochs 0) for none"
            )
        if self.attention in ("flash", "cudnn") and self.precision != "bfloat16":
            raise ValueError(f"expected precision bfloat16 for attention {self.attention!r}, got {self.precision!r}")
        # what the grid cannot do is refused before the first step, also what a schedule would ask
        # for at the last one
        self.objective.mask.check(self.model.grid)
        for ratio in _extremes(self.ratio_schedule):
            ratio = quantize(ratio, self.model.grid, self.ratio_multiple)
            at_ratio(self.objective.mask, ratio).check(self.model.grid)
        return self


def _extremes(schedule: AnySchedule | None) -> tuple[float, ...]:
    """The smallest and the largest masking ratio that a schedule comes to."""
    match schedule:
        case None:
            return ()
        case Constant():
            return (schedule.ratio,)
        case Linear() | Cosine():
            return (schedule.start, schedule.end)
        case Cyclic():
            return (schedule.mean - schedule.amplitude, schedule.mean + schedule.amplitude)
        case _:
            return (schedule.low, schedule.high)
