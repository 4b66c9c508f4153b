"""Two examples of each command, for its --help."""

EXAMPLES: dict[str, tuple[str, str]] = {
    "demo": (
        "lcmae demo",
        "lcmae demo --no-dashboard --seeds 3",
    ),
    "train": (
        "lcmae train mae-digits --objective.mask.ratio 0.6 --seed 3",
        "lcmae train --resume runs/mae-digits-s3",
    ),
    "probe": (
        "lcmae probe receptive_field spectrum --checkpoint runs/demo/mae-digits-s0",
        "lcmae probe all --checkpoint runs/*/ --data photos --images 100 --workers 2",
    ),
    "inspect": (
        "lcmae inspect mae_pretrain_vit_base.pth",
        "lcmae inspect runs/demo/mae-digits-s0 --json",
    ),
    "check": (
        "lcmae check mae_pretrain_vit_base.pth --data photos",
        "lcmae check encoder.safetensors --data photos --images 200 --heads 6",
    ),
    "import": (
        "lcmae import mae_visualize_vit_base.pth --out runs/mae-base",
        "lcmae import vit-mae-folder --out runs/vit-mae --normalize-targets True",
    ),
    "export": (
        "lcmae export runs/demo/mae-digits-s0 --to timm --out encoder.safetensors",
        "lcmae export runs/demo/mae-digits-s0 --to huggingface --out vit-mae-folder",
    ),
    "embed": (
        "lcmae embed runs/demo/mae-digits-s0 --data photos --feature mean --out mae.parquet",
        "lcmae embed --compare mae.parquet umae.parquet",
    ),
    "stitch": (
        "lcmae stitch runs/demo/mae-digits-s0 runs/demo/umae-digits-s0",
        "lcmae stitch runs/demo/*-digits-s0 --images 500 --out runs/demo/stitch.nc",
    ),
    "compare": (
        "lcmae compare --masks random,block,grid --ratios 0.5,0.75 --seeds 2",
        "lcmae compare --ratios 0.5,0.75 --schedules uniform:0.5:0.9 --equal flops --out runs/schedules",
    ),
    "advise": (
        "lcmae advise --data photos --minutes 30",
        "lcmae advise --data cifar10 --images 1000 --minutes 10 --out runs/advise-cifar10",
    ),
    "claims": (
        "lcmae claims --list",
        "lcmae claims --claims umae-rank umae-linear --seeds 3",
    ),
    "masks": (
        "lcmae masks --ratio 0.6",
        "lcmae masks --grid 8 8 --html masks-8x8.html",
    ),
    "zoo": (
        "lcmae zoo",
        "lcmae zoo mae-cifar10-small --out runs/zoo",
    ),
    "dashboard": (
        "lcmae dashboard",
        "lcmae dashboard mae_pretrain_vit_base.pth --data PHOTOS",
    ),
    "report": (
        "lcmae report runs/demo/mae-digits-s0 --out report.html",
        "lcmae report runs/demo/*/ --out all.html",
    ),
}
"""By the name of the command; a test runs none of them, but reads the options of all."""


def epilog(command: str) -> str:
    """The lines below a command's options. `command` may have a recipe behind its name."""
    examples = EXAMPLES.get(command.partition(" ")[0], ())
    return "\n".join(["examples:", *(f"  {example}" for example in examples)]) if examples else ""
