"""Arrays of every layout, size and type: the pixels are those of the same values laid out [b h w
c]."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lcmae
from lcmae.data.names import named, parse_name
from lcmae.data.readers.arrays import layout
from lcmae.data.readers.tar import expand
from lcmae.data.survey import ImagesWarning
from lcmae.errors import InputError
from tests.reference.eight_bits import to_eight_bits

SIDES = st.integers(5, 9)

DTYPES = {
    "bool": (0, 1), "uint8": (0, 255), "uint16": (0, 65535), "int16": (0, 32767), "float32": (0, 1), "float64": (0, 1),
}  # fmt: skip
"""Types that have a range of their own."""


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 4), height=SIDES, width=SIDES, bands=st.integers(1, 4), dtype=st.sampled_from(list(DTYPES)),
    first=st.booleans(), as_tensor=st.booleans(), seed=st.integers(0, 9),
)  # fmt: skip
def test_every_layout_of_few_bands(
    count: int, height: int, width: int, bands: int, dtype: str, first: bool, as_tensor: bool, seed: int
) -> None:
    low, high = DTYPES[dtype]
    shares = np.random.default_rng(seed).random((count, height, width, bands))
    shares[0, 0, :2, 0] = 0, 1  # the whole range is used
    values = (shares * high if dtype.startswith("float") else (shares * high).round()).astype(dtype)
    given = np.ascontiguousarray(np.moveaxis(values, -1, 1)) if first else values
    found = lcmae.images(torch.from_numpy(given) if as_tensor else given)
    np.testing.assert_array_equal(found[:].permute(0, 2, 3, 1).numpy(), to_eight_bits(values, low, high))


@settings(max_examples=60, deadline=None)
@given(side=st.integers(20, 40), bands=st.integers(5, 200), first=st.booleans())
def test_many_bands_beside_two_equal_sides(side: int, bands: int, first: bool) -> None:
    if bands == side:
        return
    shape = (2, bands, side, side) if first else (2, side, side, bands)
    found = layout(shape)
    assert found.order == ("bchw" if first else "bhwc")
    assert found.note is None


@pytest.mark.parametrize(("shape", "numpy", "torch_order"), [
    ((2, 3, 9, 3), "bhwc", "bchw"), ((2, 8, 8, 8), "bhwc", "bchw"), ((2, 30, 40, 50), "bchw", "bchw"),
])  # fmt: skip
def test_where_the_shape_does_not_decide_it_is_said(shape: tuple[int, ...], numpy: str, torch_order: str) -> None:
    for is_torch, order in ((False, numpy), (True, torch_order)):
        found = layout(shape, channels_first=is_torch)
        assert found.order == order
        assert found.note is not None
        assert " ".join(order) in found.note
    assert layout((2, 30, 40, 50), channels=50).order == "bhwc"
    assert layout((2, 30, 40, 50), channels=50).note is None


def test_one_image_and_what_is_no_image() -> None:
    assert layout((8, 9)).order == "hw"
    assert layout((8, 9), one=True).order == "hw"
    assert layout((3, 8, 9)).order == "chw"
    assert layout((8, 9, 3)).order == "hwc"
    assert layout((7, 8, 9)).order == "bhw"
    with pytest.warns(ImagesWarning, match="taken as one image of 3 bands, not as 8 grey ones"):
        lcmae.images(np.arange(216, dtype=np.uint8).reshape(8, 9, 3))
    for shape in ((4,), (1, 2, 3, 4, 5)):
        with pytest.raises(InputError, match="expected images"):
            layout(shape)


NUMBERS = st.floats(-1e6, 1e6)


@given(
    base=st.text(min_size=1, max_size=12), low=NUMBERS, span=st.integers(1, 10**5),
    bands=st.none() | st.lists(st.integers(1, 300), min_size=1, max_size=5).map(tuple), masks=st.none() | st.text(),
)  # fmt: skip
def test_a_name_comes_back_as_it_was_written(
    base: str, low: float, span: int, bands: tuple[int, ...] | None, masks: str | None
) -> None:
    high = low + span
    if "?" in base:
        return
    found = parse_name(named(base, value_range=(low, high), bands=bands, masks=masks))
    assert (found.base, found.value_range, found.bands, found.masks) == (base, (low, high), bands, masks)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x?value_range=3", "expected a value range LOW:HIGH"),
        ("x?value_range=a:b", "expected a value range LOW:HIGH"),
        ("x?value_range=nan:1", "two finite numbers"),
        ("x?bands=3-1", "expected bands such as"),
        ("x?bands=0", "counted from 1"),
        ("x?bands=", "expected bands such as"),
    ],
)
def test_options_that_are_none(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_name(name)


def test_a_question_mark_in_a_path_is_a_question_mark() -> None:
    assert parse_name("folder:what?really").base == "folder:what?really"
    assert parse_name("folder:x?bands=1-3").bands == (1, 2, 3)


def test_shards_by_a_pattern() -> None:
    assert expand("a-{09..11}.tar") == ["a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand("a.tar") == ["a.tar"]
    with pytest.raises(InputError, match="at most 100,000 shards"):
        expand("a-{0..999999999}.tar")
