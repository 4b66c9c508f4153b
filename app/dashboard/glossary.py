"""Words of the dashboard, each in a sentence with its unit or its range. One meaning everywhere."""

GLOSSARY = {
    "patch": "a square of the image, counted in raster order; a token is the vector that stands for it",
    "masking ratio": "the share of patches that are hidden from the encoder",
    "loss": "the mean squared error over hidden patches, plus the objective's own terms",
    "collapse level": "what the best constant patch scores: the variance of the hidden patches. A loss at this level means "
    "that nothing was learned (Theorem 3.6 of “How Mask Matters”, Zhang et al., 2210.08344)",
    "invariance": "how much the prediction of one patch moves when only the mask changes; 0 is best",
    "local consistency": "how badly differences between two patches of one image are predicted",
    "global consistency": "how badly differences between the means of two images are predicted",
    "offset": "the squared mean of the residual: a shift that all predictions share",
    "kNN accuracy": "share of test images whose 20 nearest training images (cosine, weighted) vote for the right class; frozen "
    "features of unmasked images",
    "adjusted information": "mutual information of two groupings, less what random groupings of the same sizes have: 0 where "
    "one tells nothing about the other, 1 where they are the same",
    "mIoU": "mean over classes of intersection over union: the pixels that have a class and are predicted as it, over those "
    "that have it or are predicted as it; 0 to 1",
    "ridge accuracy": "share of test images that a ridge regression onto the classes gets right, on the same features "
    "(training's monitor; the probe transfer trains by SGD)",
    "effective rank": "exp of the entropy of the features' covariance spectrum: 1 when one direction holds all variance",
    "standard error": "how far a number would typically move with other images (or masks); the 95 % interval is Student's t "
    "times it on either side: 1.96 for many images, 2.36 for 8 groups of images",
    "normalised targets": "each patch scaled to mean 0 and variance 1 before it is predicted; a constant then scores about 1",
    "leaky picture": "a picture de-normalised with the hidden patches' true mean and deviation, which give part of the "
    "answer away",
    "error": "mean squared error over hidden patches, in the space that the model was trained to predict",
    "nearest-patch baseline": "the error when the nearest visible patch is copied",
    "knock-out": "a part of the network is removed; the rise of the loss says whether the prediction needed it",
    "stitching": "one network's encoder followed by another's decoder, with a fitted affine map between them; it costs "
    "nothing where the tokens of both are the same up to such a map",
    "positional share": "share of the variance of attention rows that lies between query positions, corrected for chance: 1 "
    "where the position of the query decides the whole map, about 0 where it decides nothing (lcmae's own definition)",
    "attention distance": "mean distance from a patch to the patches it attends to, in patches; class token left out",
    "attention entropy": "how widely attention is spread, in nats: 0 for a single token, log of the number of tokens if "
    "uniform",
    "mutual information": "what a key tells about its query, over the geometric mean of their entropies: 0 to 1",
    "head divergence": "KL divergence, in nats, of a head's attention to that of another head of the layer; 0 if alike",
    "receptive field": "the pixels on which one token or prediction depends, weighted by the size of its gradient there",
    "area ratio": "share of the image that the smallest centred square takes up which holds a given share of the gradient",
    "participation ratio": "how many directions the vectors' second moment uses: 1 / the mean squared cosine of all pairs",
    "intrinsic dimension": "how many coordinates a small neighbourhood of the vectors needs (TwoNN), whatever space they lie "
    "in",
    "alignment": "how similar two vectors are that should be alike: a cosine, at most 1; after centring, 0 means no relation",
    "retrieval": "share of predictions that are more like their own target than like any other candidate",
    "InfoNCE": "minus the log of the own target's softmax among the candidates, in nats; log of their number if nothing is "
    "known",
    "CKA": "how far two sets of inner products agree (centred kernel alignment): 1 for rotated and scaled copies, 0 if "
    "unrelated",
    "sliced Wasserstein distance": "how far one set of points must be moved to become another, along random directions",
    "Gram gap": "how far the inner products of reconstructed patches are from those of the true ones; 1 if the first are 0",
    "SSIM": "structural similarity of two pictures: similarity of local means, contrasts and patterns; 1 for equal pictures",
    "PSNR": "peak signal-to-noise ratio in dB: ten times the logarithm of 1 over the mean squared error of pixels from 0 to 1",
    "Fourier amplitude": "how strong a wave of one frequency is in the grid of tokens; frequency in cycles per patch, at "
    "most 0.5",
    "linear probe": "a linear classifier on frozen features, trained by SGD on other images by one fixed protocol",
    "efficient probing": "a classifier that learns 32 queries, each of which pools the tokens that it attends to, and a linear "
    "map of what they pool (Psomas et al., 2506.10178)",
    "selectivity": "accuracy beyond that of the same classifier trained on shuffled labels: what the features "
    "know, not the classifier",
    "semantic invariance": "how reliably a principal component of tokens has the same sign at a position, whatever the image "
    "shows: 1 is always, 0.707 is an uninformative component (Hjelkrem-Tan et al., 2604.00172)",
    "attention rollout": "attention multiplied through all layers, each mixed half and half with the token itself (Abnar and "
    "Zuidema, 2005.00928)",
    "outlier token": "a patch token whose norm lies 5 robust deviations above the median of its image (lcmae's own threshold)",
    "attribution": "the effect of one visible patch on a prediction, with its direction and size; ablation replaces that "
    "patch alone",
    "faithfulness": "how well an order of patches begins with those that matter: area under the insertion curve less that "
    "under the deletion curve; a random order has 0 (curves of Petsiuk et al., 1806.07421; the difference is lcmae's own)",
    "completeness error": "how far integrated gradients are from adding up to the whole change, as a share of it: 0 with "
    "enough steps",
    "additivity": "what all single ablations add up to, as a share of the change by all visible patches together: 100 % for a "
    "linear model, less where patches can replace each other",
    "corruption": "a change of an image (noise, blur, contrast, ...) at a severity from 1 to 5",
    "augmentation graph": "images as nodes; an edge's weight is the chance to get from one to the other through a content "
    "that both share, visible or hidden under one mask (Zhang et al., 2210.08344)",
    "label error": "alpha, how often the most likely class of what is visible is not the image's class; from 0 to 1",
    "tail of the spectrum": "the sum of the graph's squared eigenvalues beyond rank k: 0 where k features suffice",
    "bandwidth": "how different two contents may be and still count as alike, in distances from an image to the nearest "
    "other one",
    "positive pair": "two views of an image whose masks hide some patches in common",
    "eps": "how badly the decoder repeats visible patches, as a mean squared error",
    "latent": "a number or kind that an image was made from, known because the images are synthetic (`--data hierarchy`)",
    "shared latents": "the smallest set of latents that separates visible from hidden: given it, what is visible says "
    "nothing more about what is hidden. Its level counts from the pixels; textures are 1 (lcmae's reading of Theorem 1 of "
    "Kong et al., 2306.04898)",
    "decodability": "how well a linear map reads latents off frozen features of images that it was not fitted on: 0 is the "
    "best constant answer, 1 is always right",
    "gradient norm": "length of the gradient over all weights, before clipping",
    "learning rate": "AdamW's step size; warm-up, then a cosine to zero",
}
"""Word -> what it means."""
