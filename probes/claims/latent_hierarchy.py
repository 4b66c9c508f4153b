"""Kong et al., "Understanding Masked Autoencoders via Hierarchical Latent Variable Models" (CVPR
2023, arXiv 2306.04898).

Held against digits, where latents are unknown, and against images that are made from known latents
(`--data hierarchy`).
"""

from lcmae.probes.claims.claim import Claim, Needs, difference, middle_above_ends, value
from lcmae.probes.claims.how_mask_matters import HIGH, LOW, MIDDLE
from lcmae.probes.claims.masked_autoencoders import linear
from lcmae.probes.claims.readings import Reading

SOURCE = "Kong et al., hierarchical latent variables, 2306.04898"
RATIOS = (LOW, MIDDLE, HIGH)
CUT = "The shared latents are a minimum vertex separator of the tree, lcmae's reading of theorem 1."


def predicted(ratio: float, unit: int = 1) -> Reading:
    """Mean level of the latents that visible and hidden parts share, the highest of all smallest
    sets; over masks."""
    return Reading("hierarchy", "hierarchy", "predicted_level", {"end": "highest", "unit": unit, "ratio": ratio})


def skill(level: str, ratio: float) -> Reading:
    """How well a level's latents are decoded from the mean token: 0 is chance, 1 is perfect."""
    return Reading("hierarchy", "hierarchy", "skill", {"feature": "mean", "level": level}, ratio=ratio)


def gain(level: str) -> Reading:
    """The same beyond what fresh weights give."""
    return Reading("hierarchy", "hierarchy", "gain", {"feature": "mean", "level": level})


CLAIMS = (
    Claim(
        id="inverted-u",
        says="Very small and very large masking ratios give worse representations than ratios between (ImageNet-1K, linear: "
        "47 % at 0.1, 67 % at 0.75, 63 % at 0.9).",
        source=f"{SOURCE}, sweep over the ratio",
        quantity="accuracy of the linear probe by SGD (class token), trained at ratio 0.5 less the better of 0.1 and 0.9",
        units="share of test images",
        readings=(linear("ratios", ratio=LOW), linear("mae"), linear("ratios", ratio=HIGH)),
        combine=middle_above_ends,
        leaves_open="Equal numbers of steps: at 0.9 training is less advanced.",
    ),
    Claim(
        id="cut-inverted-u",
        says="In theory, ratios between the extremes share the latents of the highest level (no training).",
        source=f"{SOURCE}, theorem 1",
        quantity="mean level of the shared latents at ratio 0.5 less the higher of 0.1 and 0.9, units of one patch",
        units="levels",
        readings=tuple(predicted(ratio) for ratio in RATIOS),
        combine=middle_above_ends,
        over="masks",
        leaves_open=CUT,
    ),
    Claim(
        id="cut-unit",
        says="In theory, larger mask units share latents of a higher level (no training).",
        source=f"{SOURCE}, theorem 1",
        quantity="mean level of the shared latents at ratio 0.5, units of 2 x 2 patches less single patches",
        units="levels",
        readings=(predicted(MIDDLE, 2), predicted(MIDDLE)),
        combine=difference,
        over="masks",
        leaves_open=CUT,
    ),
    Claim(
        id="latents-inverted-u",
        says="Trained at ratios between the extremes, features hold the highest latent best.",
        source=f"{SOURCE}, theorems 1 and 2",
        quantity="decodability of the class, trained at ratio 0.5 less the better of 0.1 and 0.9, synthetic images",
        readings=tuple(skill("class", ratio) for ratio in RATIOS),
        combine=middle_above_ends,
        leaves_open="Linear decodability is more than the theorem's one-to-one map. 320 steps, of which the first 200 "
        "or so are a plateau.",
    ),
    Claim(
        id="latents-identified",
        says="Masked autoencoders identify latents that visible and hidden parts share: layouts, the level above the parts.",
        source=f"{SOURCE}, theorem 2",
        quantity="decodability of layouts at ratio 0.5, beyond that of fresh weights, synthetic images",
        readings=(gain("layout"),),
        combine=value,
        leaves_open="Linear decodability, from the mean token.",
    ),
    Claim(
        id="unit-inverted-u",
        says="Mask units that are too small or too large give worse representations than units between.",
        source=f"{SOURCE}, sweep over the patch size",
        needs=Needs(mask_units=3),
    ),
    Claim(
        id="shape-bias",
        says="Ratios between the extremes give features with more shape bias, and more robust ones (ImageNet-v2, -A, -R, "
        "Sketch).",
        source=f"{SOURCE}, shape bias and robustness",
        needs=Needs(images=1_281_167, image_side=224, labels=frozenset({"cue conflicts of shape and texture"})),
    ),
    Claim(
        id="detection",
        says="The same ratios give better detection (COCO, Mask R-CNN: 30.5 AP at 0.1, 39.7 at 0.75, 37.2 at 0.9).",
        source=f"{SOURCE}, detection",
        needs=Needs(images=118_287, image_side=1024, labels=frozenset({"boxes"})),
    ),
)
