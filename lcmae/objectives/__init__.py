"""Objectives: settings that you call with (model, images, rng) and that return a `Loss`. One paper,
one file."""

from typing import Annotated

from pydantic import Field

from lcmae.objectives.base import Loss, Objective
from lcmae.objectives.lcmae import LCMAE
from lcmae.objectives.mae import MAE
from lcmae.objectives.simmim import SimMIM
from lcmae.objectives.umae import UMAE
from lcmae.objectives.usimmim import USimMIM

AnyObjective = Annotated[MAE | UMAE | LCMAE | SimMIM | USimMIM, Field(discriminator="kind")]

__all__ = ["LCMAE", "MAE", "UMAE", "AnyObjective", "Loss", "Objective", "SimMIM", "USimMIM"]
