"""Strict at the root: warnings are errors (pyproject.toml), seeds are arguments, no test reads
another's randomness.

`LCMAE_HYPOTHESIS=thorough` draws many more examples than the default.
"""

import os
import signal

# read by OpenMP when torch loads: on a shared machine spinning threads make a step ten times slower
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# read when huggingface_hub is imported: no test asks the network
os.environ["HF_HUB_OFFLINE"] = "1"

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import jaxtyping
import pytest
from hypothesis import HealthCheck, settings

# imported by what uses it: the process that only hands tests to workers (pytest -n) needs no torch
if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lcmae.models import MAE, SimMIM

# no deadline: the first call of a kernel is slow, and a timing is not a law
settings.register_profile("fast", max_examples=25, deadline=None, derandomize=True)
settings.register_profile(
    "thorough",
    max_examples=500,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile(os.environ.get("LCMAE_HYPOTHESIS", "fast"))


IMPORTED_FIRST = (
    "torch",
    "timm",
    "xarray",
    "beartype",
    "safetensors.torch",
    "einops",
    "streamlit",
    "plotly.graph_objects",
)


def pytest_collection(session: pytest.Session) -> None:
    """Import what others wrote before what we did, in each process that runs tests. While a module
    of ours is imported, jaxtyping looks for all bytecode under a name of its own: torch, timm and
    what they import (3,000 files) would be compiled anew."""
    if session.config.getoption("dist", "no") == "no":
        for name in IMPORTED_FIRST:
            import_module(name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a test that may take longest (its own `timeout`) first: else the last worker would
    begin with one of them when the others have ended."""
    longest: dict[Path, float] = {}
    for item in items:
        mark = item.get_closest_marker("timeout")
        longest[item.path] = max(longest.get(item.path, 0), mark.args[0] if mark else 0)
    items.sort(key=lambda item: -longest[item.path])


@pytest.fixture(scope="session", autouse=True)
def _shared_cores() -> None:
    """Processes that test side by side (pytest -n) share the cores."""
    import torch

    num_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    torch.set_num_threads(max(1, min(2, os.cpu_count() or 1) // num_workers))


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard() -> None:
    """A shell starts `make test &` with SIGINT ignored, which training respects and tests of SIGINT
    do not expect."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_global_seed() -> None:
    """Weights are initialised from torch's global generator; each test starts it at the same
    place."""
    import torch

    torch.manual_seed(0)


@pytest.fixture
def rng() -> "torch.Generator":
    """A fresh generator, the same for every test."""
    import torch

    return torch.Generator().manual_seed(0)


@pytest.fixture
def as_installed() -> Iterator[None]:
    """Without the check of shapes, which tests have and users have not: what a user is told of a
    wrong shape."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def mae() -> "MAE":
    """A MAE of 4 x 6 patches of 2 pixels, 3 channels, small enough to be tried hundreds of
    times."""
    return tiny_mae()


@pytest.fixture
def simmim() -> "SimMIM":
    """A SimMIM of the same grid."""
    return tiny_simmim()


@pytest.fixture
def images(rng: "torch.Generator") -> "Tensor":
    """Five images of 3 x 8 x 12 in the network's input space."""
    import torch

    return torch.randn(5, 3, 8, 12, generator=rng)


@pytest.fixture
def data_root() -> Path:
    """The folder with downloaded data sets, where there is one."""
    root = Path(os.environ.get("LCMAE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no data sets at {root} (set LCMAE_DATA)")
    return root


SMALL = {"image_size": (8, 12), "patch_size": 2, "width": 16, "depth": 2, "heads": 2}


def tiny_mae(**settings: object) -> "MAE":
    from lcmae.models import MAE

    return MAE(**{**SMALL, "decoder_width": 12, "decoder_depth": 1, "decoder_heads": 3, **settings})


def tiny_simmim(**settings: object) -> "SimMIM":
    from lcmae.models import SimMIM

    return SimMIM(**{**SMALL, **settings})
