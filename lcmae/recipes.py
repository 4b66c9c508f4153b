"""Named complete configs. Each is a function whose docstring promises command, time and result (2
CPU cores, three seeds; the README has the intervals), or says that it was not measured.

A recipe is derived from another one by changing fields:
`mae_digits().model_copy(update={"objective": UMAE()})`.
"""

from collections.abc import Callable

from lcmae.config import RunConfig
from lcmae.data import Augmentation
from lcmae.errors import InputError, did_you_mean
from lcmae.masking import Random
from lcmae.models import SIZES, MAEConfig, SimMIMConfig
from lcmae.objectives import LCMAE, MAE, UMAE, AnyObjective, SimMIM, USimMIM

_DIGITS_ENCODER = {"image_size": 32, "patch_size": 8, "channels": 1, "width": 64, "depth": 4, "heads": 4}
_SMALL = {
    "patch_size": 4, "width": 48, "depth": 3, "decoder_width": 48, "decoder_depth": 1, "decoder_heads": 4,
}  # fmt: skip
_HALF = Random(ratio=0.5)  # of a 4 x 4 grid; at 0.75 a minute of training does not get past the mean of each position
_CIFAR_ENCODER = {"image_size": 32, "patch_size": 4, **SIZES["tiny"]}


def mae_digits() -> RunConfig:
    """`lcmae train mae-digits`: about a minute; kNN 90.4 % (mean token); untrained 65.7, raw pixels
    97.2."""
    return _digits(MAE(mask=_HALF))


def umae_digits() -> RunConfig:
    """`lcmae train umae-digits`: about a minute; kNN 92.5 % (mean token)."""
    return _digits(UMAE(mask=_HALF))


def lcmae_digits() -> RunConfig:
    """`lcmae train lcmae-digits`: about a minute; kNN 75.8 % (mean token) after half of MAE's
    steps, two masks an image each."""
    return _digits(LCMAE(mask=_HALF), epochs=36)


def simmim_digits() -> RunConfig:
    """`lcmae train simmim-digits`: about a minute; its accuracy has not been measured."""
    return _digits(SimMIM(mask=_HALF))


def usimmim_digits() -> RunConfig:
    """`lcmae train usimmim-digits`: about a minute; its accuracy has not been measured."""
    return _digits(USimMIM(mask=_HALF))


def mae_cifar10() -> RunConfig:
    """`lcmae train mae-cifar10`: ViT-Tiny, 200 epochs, meant for a GPU; neither time nor result has
    been measured yet."""
    return _cifar10(MAE())


def umae_cifar10() -> RunConfig:
    """`lcmae train umae-cifar10`: ViT-Tiny, 200 epochs, meant for a GPU; neither time nor result
    has been measured yet."""
    return _cifar10(UMAE())


def lcmae_cifar10() -> RunConfig:
    """`lcmae train lcmae-cifar10`: ViT-Tiny, 200 epochs, meant for a GPU; neither time nor result
    has been measured yet."""
    return _cifar10(LCMAE())


def simmim_cifar10() -> RunConfig:
    """`lcmae train simmim-cifar10`: ViT-Tiny, 200 epochs, meant for a GPU; neither time nor result
    has been measured yet."""
    return _cifar10(SimMIM())


def usimmim_cifar10() -> RunConfig:
    """`lcmae train usimmim-cifar10`: ViT-Tiny, 200 epochs, meant for a GPU; neither time nor result
    has been measured yet."""
    return _cifar10(USimMIM())


def mae_cifar10_patch2() -> RunConfig:
    """`lcmae train mae-cifar10-patch2`: 2,000 epochs, for a GPU; neither time nor result has been
    measured yet.

    MAE beside `umae-cifar10-patch2`, which says where its settings come from.
    """
    return _cifar10_long(MAE(), patch_size=2, epochs=2000)


def umae_cifar10_patch2() -> RunConfig:
    """`lcmae train umae-cifar10-patch2`: 2,000 epochs, for a GPU; neither time nor result has been
    measured yet.

    Close to what U-MAE's author (2210.08344) reports: ViT-Tiny on raw pixels, no augmentation, a
    long schedule with a tenth of warm-up, batch 4096, base rate 1.5e-4, AdamW (0.9, 0.95), decay
    0.05, patch 2. The decoder (192 wide, 4 blocks) and 2,000 epochs are the nearest public recipe's
    (IcarusWizard/MAE), since the released code holds no CIFAR settings.
    """
    return _cifar10_long(UMAE(), patch_size=2, epochs=2000)


def mae_cifar10_patch4() -> RunConfig:
    """`lcmae train mae-cifar10-patch4`: 1,000 epochs, meant for minutes on a GPU; neither time nor
    result measured yet."""
    return _cifar10_long(MAE())


def umae_cifar10_patch4() -> RunConfig:
    """`lcmae train umae-cifar10-patch4`: 1,000 epochs, meant for minutes on a GPU; neither time nor
    result measured yet."""
    return _cifar10_long(UMAE())


def lcmae_cifar10_patch4() -> RunConfig:
    """`lcmae train lcmae-cifar10-patch4`: two masks an image, so 500 epochs cost what MAE's 1,000
    do; nothing measured yet."""
    return _cifar10_long(LCMAE(), epochs=500)


def simmim_cifar10_patch4() -> RunConfig:
    """`lcmae train simmim-cifar10-patch4`: 1,000 epochs, meant for minutes on a GPU; neither time
    nor result measured yet."""
    return _cifar10_long(SimMIM())


def usimmim_cifar10_patch4() -> RunConfig:
    """`lcmae train usimmim-cifar10-patch4`: 1,000 epochs, meant for minutes on a GPU; neither time
    nor result measured yet."""
    return _cifar10_long(USimMIM())


def mae_cifar10_small() -> RunConfig:
    """`lcmae train mae-cifar10-small`: the model in zoo/, whose README has time and result (one
    thread of a CPU). 1.3 million weights, 8 x 8 patches; the short schedule is what fits in half an
    hour."""
    return _cifar10(MAE()).model_copy(
        update={
            "model": MAEConfig.model_validate(
                {
                    "image_size": 32,
                    "patch_size": 4,
                    "width": 128,
                    "depth": 6,
                    "heads": 4,
                    "decoder_width": 64,
                    "decoder_depth": 2,
                    "decoder_heads": 4,
                    "normalize_targets": False,
                }
            ),
            "augmentation": None,
            "epochs": 12,
            "batch_size": 128,
            "base_lr": 2e-3,
            "warmup_epochs": 1.0,
            "monitor_every": 0,
            "checkpoint_every": 1,
        }
    )


def mae_hierarchy() -> RunConfig:
    """`lcmae train mae-hierarchy`: about a minute; linear accuracy is in docs/results/hierarchy.md,
    by masking ratio."""
    return mae_digits().model_copy(
        update={
            "data": "hierarchy:images=2048",
            # a patch is a texture, a unit of two by two is a part
            "model": MAEConfig.model_validate({**_DIGITS_ENCODER, **_SMALL}),
            "epochs": 36,
            "batch_size": 64,
            "base_lr": 2e-2,
            "warmup_epochs": 1.5,
            "monitor_every": 0,
            "checkpoint_every": 0,
        }
    )


def _digits(objective: AnyObjective, epochs: int = 72) -> RunConfig:
    is_simmim = isinstance(objective, SimMIM | USimMIM)
    decoder = {} if is_simmim else {"decoder_width": 64, "decoder_depth": 2, "decoder_heads": 4}
    config = SimMIMConfig if is_simmim else MAEConfig
    return RunConfig(
        data="digits",
        model=config.model_validate({**_DIGITS_ENCODER, **decoder}),
        objective=objective,
        epochs=epochs,
        batch_size=128,
        base_lr=1e-2,  # a small model on few images takes a large step well
        clip=1.0,
        warmup_epochs=epochs / 12,
        monitor_every=epochs // 3,
        checkpoint_every=epochs // 3,
    )


def _cifar10(objective: AnyObjective) -> RunConfig:
    is_simmim = isinstance(objective, SimMIM | USimMIM)
    config = SimMIMConfig if is_simmim else MAEConfig
    return RunConfig(
        data="cifar10",
        model=config.model_validate(_CIFAR_ENCODER),
        objective=objective,
        augmentation=Augmentation(),
        epochs=200,
        batch_size=512,
        base_lr=1.5e-4,
        warmup_epochs=20,
        monitor_every=20,
        checkpoint_every=50,
    )


def _cifar10_long(objective: AnyObjective, patch_size: int = 4, epochs: int = 1000) -> RunConfig:
    """Many epochs of raw pixels in large batches, as fast as one GPU goes: bfloat16, compiled,
    replayed."""
    base = _cifar10(objective)
    return base.model_copy(
        update={
            "model": base.model.model_copy(update={"patch_size": patch_size}),
            "augmentation": None,
            "epochs": epochs,
            "batch_size": 4096,
            "warmup_epochs": epochs / 10,
            "precision": "bfloat16",
            "compile": True,
            "cuda_graph": True,
            "log_every": 60,
            "monitor_every": epochs // 10,
            "checkpoint_every": epochs // 5,
        }
    )


RECIPES: dict[str, Callable[[], RunConfig]] = {
    recipe.__name__.replace("_", "-"): recipe
    for recipe in (
        mae_digits,
        umae_digits,
        lcmae_digits,
        simmim_digits,
        usimmim_digits,
        mae_hierarchy,
        mae_cifar10,
        mae_cifar10_small,
        umae_cifar10,
        lcmae_cifar10,
        simmim_cifar10,
        usimmim_cifar10,
        mae_cifar10_patch2,
        umae_cifar10_patch2,
        mae_cifar10_patch4,
        umae_cifar10_patch4,
        lcmae_cifar10_patch4,
        simmim_cifar10_patch4,
        usimmim_cifar10_patch4,
    )
}
"""Recipes by the name that the command line takes."""


def recipe(name: str) -> RunConfig:
    """The config of a named recipe; `InputError` for an unknown name."""
    if name not in RECIPES:
        raise InputError(f"expected a recipe out of {', '.join(RECIPES)}, got {name!r}{did_you_mean(name, RECIPES)}")
    return RECIPES[name]()
