"""Every claim, by the order of the papers. No torch."""

from collections.abc import Sequence

from lcmae.errors import InputError, did_you_mean
from lcmae.probes.claims import how_mask_matters, latent_hierarchy, local_perspective, masked_autoencoders
from lcmae.probes.claims.claim import Claim

CLAIMS: dict[str, Claim] = {
    claim.id: claim
    for paper in (masked_autoencoders, how_mask_matters, local_perspective, latent_hierarchy)
    for claim in paper.CLAIMS
}
"""By their id."""


def chosen(ids: Sequence[str]) -> list[Claim]:
    """The named claims in the order of the catalogue, all of them where none is named. `InputError`
    for an unknown id."""
    unknown = [name for name in ids if name not in CLAIMS]
    if unknown:
        word = unknown[0]
        raise InputError(f"expected claims out of {', '.join(CLAIMS)}, got {word!r}{did_you_mean(word, CLAIMS)}")
    return [claim for name, claim in CLAIMS.items() if not ids or name in ids]
