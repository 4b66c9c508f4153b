"""Two processes on gloo are one process: every objective's value, gradient and masks, under DDP and
FSDP2.

Run as a script, this file is the pair: it pays for importing torch once, forks, and each half joins
the group through the environment, as under `torchrun`. Models are float64 to the end, so that
equality is held to float64's rounding.
"""

import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lcmae.errors import InputError
from lcmae.masking import Block, Random
from lcmae.models import MaskedImageModel
from lcmae.objectives import LCMAE, MAE, UMAE, Loss, Objective, SimMIM, USimMIM
from lcmae.training import distributed
from tests.reference.exact import ExactMAE, ExactSimMIM

pytestmark = pytest.mark.slow  # two processes with torch of their own

WORLD = 2
NUM_IMAGES = 6

CASES: dict[str, Objective] = {
    "mae": MAE(),
    "mae-block": MAE(mask=Block(ratio=0.5)),
    "umae-cls": UMAE(weight=1.0),
    "umae-mean": UMAE(weight=1.0, feature="mean"),
    "simmim": SimMIM(),
    "usimmim": USimMIM(weight=1.0),
    "lcmae": LCMAE(),
    "lcmae-weighed": LCMAE(
        num_masks=3, invariance=0.5, local_consistency=0.1, global_consistency=3.0, offset=2.0, mask=Random(ratio=0.5)
    ),
    "lcmae-tokens": LCMAE(token_contrast=1.0, temperature=0.5, mask=Random(ratio=0.7)),
}
SHARDED = ("umae-cls", "lcmae-weighed", "usimmim")

# the two sums are added in another order; gradients of size 1 keep 14 of 16 digits
close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-12)


class Task(nn.Module):
    """Model and objective as one module, as the trainer wraps them."""

    def __init__(self, model: MaskedImageModel, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, images: Tensor, rng: torch.Generator) -> Loss:
        return self.objective(self.model, images, rng)


def build(objective: Objective) -> MaskedImageModel:
    shape = {"image_size": (8, 12), "patch_size": 2, "width": 16, "depth": 2, "heads": 2}
    torch.manual_seed(0)
    if isinstance(objective, SimMIM | USimMIM):
        return ExactSimMIM(**shape).double()
    return ExactMAE(**shape, decoder_width=12, decoder_depth=2, decoder_heads=3).double()


def work(objective: Objective, *, shard: bool) -> dict[str, Any]:
    """One step of plain gradient descent on this process's share of the images, and everything
    worth comparing."""
    images = torch.randn(NUM_IMAGES, 3, 8, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    # images that differ in level, so that no two shares have the same mean
    images += torch.arange(NUM_IMAGES, dtype=torch.float64)[:, None, None, None]
    share = NUM_IMAGES // distributed.world_size()
    mine = images[distributed.rank() * share :][:share]

    model = build(objective)
    task = distributed.wrap(Task(model, objective), shard=shard) if distributed.is_active() else Task(model, objective)
    loss = task(mine, torch.Generator().manual_seed(2))
    loss.total.backward()
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    gradients = {name: whole(value.grad) for name, value in parameters.items()}
    torch.optim.SGD(parameters.values(), lr=0.1).step()
    num_masks = objective.num_masks if isinstance(objective, LCMAE) else 1
    return {
        "numbers": {name: term.detach() for name, term in {"total": loss.total, **loss.terms}.items()},
        "collapse": loss.collapse,
        "gradients": gradients,
        "weights": {name: whole(value) for name, value in parameters.items()},
        "masks": objective.draw(model, mine, torch.Generator().manual_seed(2), num_masks).is_hidden,
    }


def whole(value: Any) -> Tensor:
    """A sharded tensor put together again; any other as it is."""
    return (value.full_tensor() if hasattr(value, "full_tensor") else value).detach().clone()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two processes saw."""
    folder = tmp_path_factory.mktemp("pair")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(WORLD),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-W", "error", __file__, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Any]]:
    """The same work in this process."""
    return {name: work(objective, shard=False) for name, objective in CASES.items()}


SETUPS = [*((name, name) for name in CASES), *((f"{name}-sharded", name) for name in SHARDED)]


@pytest.mark.parametrize(("setup", "name"), SETUPS, ids=[setup for setup, _ in SETUPS])
class TestTwoProcessesAreOne:
    def test_in_value(self, pair: list[dict[str, Any]], alone: dict[str, Any], setup: str, name: str) -> None:
        expected = alone[name]["numbers"]
        shares = [rank[setup]["numbers"] for rank in pair]
        assert set(shares[0]) == set(expected)
        for term, value in expected.items():
            close(torch.stack([share[term] for share in shares]).mean(), value)
        if "uniformity" in expected:
            # a term of the whole batch is the same number everywhere
            assert shares[0]["uniformity"] == shares[1]["uniformity"]

    def test_in_gradient(self, pair: list[dict[str, Any]], alone: dict[str, Any], setup: str, name: str) -> None:
        for rank in pair:
            for parameter, gradient in alone[name]["gradients"].items():
                close(rank[setup]["gradients"][parameter], gradient, msg=parameter)

    def test_after_a_step(self, pair: list[dict[str, Any]], alone: dict[str, Any], setup: str, name: str) -> None:
        for rank in pair:
            for parameter, weight in alone[name]["weights"].items():
                close(rank[setup]["weights"][parameter], weight, msg=parameter)

    def test_in_masks(self, pair: list[dict[str, Any]], alone: dict[str, Any], setup: str, name: str) -> None:
        assert torch.equal(torch.cat([rank[setup]["masks"] for rank in pair]), alone[name]["masks"])


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not isinstance(case, SimMIM | USimMIM)])
def test_the_collapse_level_is_that_of_the_whole_batch(
    pair: list[dict[str, Any]], alone: dict[str, Any], name: str
) -> None:
    for rank in pair:
        close(rank[name]["collapse"], alone[name]["collapse"])


def test_the_gathered_term_has_the_whole_gradient(alone: dict[str, Any], pair: list[dict[str, Any]]) -> None:
    # U-MAE's own gather loses a factor of the world size here: lambda 1 must not act as 1/2
    plain = alone["mae"]["gradients"]
    ours, theirs = (case["umae-cls"]["gradients"] for case in (alone, pair[0]))
    regulariser = {name: ours[name] - plain[name] for name in plain}
    assert max(gradient.abs().max() for gradient in regulariser.values()) > 1e-4
    for name, gradient in regulariser.items():
        close(theirs[name] - plain[name], gradient, rtol=1e-6)


def test_one_process_is_left_alone() -> None:
    task = Task(build(MAE()), MAE())
    assert distributed.wrap(task, shard=False) is task
    assert (distributed.world_size(), distributed.rank(), distributed.is_main()) == (1, 0, True)
    value = torch.ones(3, requires_grad=True)
    assert distributed.mean_over_ranks(value) is value
    with pytest.raises(InputError, match=r"^expected a torchrun launch for sharding \(FSDP2\), got a single process$"):
        distributed.wrap(task, shard=True)


def main(folder: Path) -> None:
    # fork before torch starts a thread
    child = os.fork()
    os.environ["RANK"] = os.environ["LOCAL_RANK"] = "0" if child else "1"
    torch.set_num_threads(1)
    try:
        distributed.start()
        seen = {name: work(objective, shard=False) for name, objective in CASES.items()}
        seen |= {f"{name}-sharded": work(CASES[name], shard=True) for name in SHARDED}
        torch.save(seen, folder / f"{distributed.rank()}.pt")
        distributed.stop()
    except BaseException:
        # the other half would wait for this one
        if child:
            os.kill(child, signal.SIGKILL)
        raise
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
