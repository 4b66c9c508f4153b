"""Another kind of mask, objective or model by one option: what both kinds know is kept."""

import pytest

from lcmae.app.command_line.union_options import as_kind, of_kinds
from lcmae.errors import InputError
from lcmae.masking import AnyMask, AttentionGuided, Block, Complementary, Grid, Random
from lcmae.models import SimMIMConfig
from lcmae.objectives import UMAE
from lcmae.recipes import recipe


def test_objective_and_its_mask_change_together_whatever_their_order() -> None:
    """The mask of another kind belongs to the objective of another kind; the recipe's ratio
    stays."""
    words = ["--objective.mask.kind", "grid", "--objective.kind=umae", "--epochs", "3"]
    objective = of_kinds(recipe("mae-digits"), words).objective
    assert objective == UMAE(mask=Grid(ratio=recipe("mae-digits").objective.mask.ratio))


def test_a_model_of_another_kind_keeps_its_size() -> None:
    """Fields of both kinds keep their values; a field of the old kind alone is dropped."""
    before = recipe("mae-digits").model
    after = of_kinds(recipe("mae-digits"), ["--model.kind", "simmim"]).model
    assert isinstance(after, SimMIMConfig)
    assert (after.width, after.depth, after.patch_size) == (before.width, before.depth, before.patch_size)


def test_the_same_kind_changes_nothing() -> None:
    """Settings of a kind that is there already stay as they are, also those that only this kind
    has."""
    mask = Block(ratio=0.6, min_block=2)
    assert as_kind(mask, AnyMask, "block") == mask


def test_an_unknown_kind_is_named_with_those_there_are() -> None:
    """One line, before anything else is read."""
    with pytest.raises(InputError, match=r"expected a kind out of random, .* got 'blob'"):
        as_kind(Random(), AnyMask, "blob")


def test_fields_that_are_not_there_are_left_to_the_reader_of_options() -> None:
    """A misspelt path is no kind: the option itself is refused later, by its name."""
    assert of_kinds(recipe("mae-digits"), ["--objectve.kind", "umae"]) == recipe("mae-digits")


def test_what_a_kind_cannot_do_without_is_taken_from_the_other_options() -> None:
    """A mask that follows a checkpoint has no default checkpoint; the order of the options does not
    matter."""
    words = ["--objective.mask.checkpoint=a/run", "--objective.mask.kind", "attention"]
    mask = of_kinds(recipe("mae-digits"), words).objective.mask
    assert (mask.model_dump()["kind"], mask.ratio) == ("attention", recipe("mae-digits").objective.mask.ratio)
    assert isinstance(mask, AttentionGuided)
    assert mask.checkpoint == "a/run"
    with pytest.raises(InputError, match="checkpoint: field required"):
        of_kinds(recipe("mae-digits"), words[1:])


def test_a_kind_within_a_kind() -> None:
    """The first of complementary masks may be of any kind."""
    words = ["--objective.mask.of.kind", "grid", "--objective.mask.kind", "complementary"]
    mask = of_kinds(recipe("mae-digits"), words).objective.mask
    assert mask == Complementary(of=Grid(ratio=0.5))
