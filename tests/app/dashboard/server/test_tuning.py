"""What the dashboard does for room and speed changes no number."""

from concurrent.futures import ThreadPoolExecutor

import torch

from lcmae.app.dashboard.server.tuning import share_cores, with_own_modules
from lcmae.masking import Mask
from tests.conftest import tiny_mae


def test_the_model_beside_has_the_weights_and_nothing_else_in_common() -> None:
    model = tiny_mae()
    other = with_own_modules(model)
    tensors = [dict([*one.named_parameters(), *one.named_buffers()]) for one in (model, other)]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(tensors[1][name] is tensor for name, tensor in tensors[0].items())
    assert {id(module) for module in model.modules()}.isdisjoint(map(id, other.modules()))
    assert other.config == model.config
    assert other.source == model.source

    called = []
    handle = model.blocks[0].register_forward_hook(lambda *_: called.append(1))
    images = torch.rand(2, model.config.channels, *model.config.image_size)
    mask = Mask.none(2, model.num_patches)
    expected = other(images, mask).pred
    assert not called
    torch.testing.assert_close(model(images, mask).pred, expected, rtol=0, atol=0)
    assert called
    handle.remove()


def test_a_small_model_leaves_cores_to_others() -> None:
    def threads(*, is_small: bool) -> int:
        share_cores(is_small=is_small)
        return torch.get_num_threads()

    with ThreadPoolExecutor(1) as pool:
        given, small, again = (pool.submit(threads, is_small=is_small).result() for is_small in (False, True, False))
    assert small == 1
    assert given == again
