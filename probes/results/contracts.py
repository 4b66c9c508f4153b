"""What a stored result of each probe holds: names, dims and kinds of its variables and coordinates.
No torch.

A file is as foreign as a checkpoint (`lcmae.probes.results.untrusted`): one with text for numbers,
or without an axis, would end the page that draws it together with others. `problem` says in a few
words what does not fit. It says nothing of a name that the table does not have, so that a result of
a newer lcmae is shown as far as this one knows it, and nothing of a probe of somebody else's.
"""

import re

import xarray as xr

from lcmae.safety.text import printable

Table = dict[str, str]
"""Dims, space between -> names of the variables that have them. With "!": no figure without it."""

_DERIVED = "_sem"
"""A variable of this name behind another's has its dims."""

TEXT = frozenset({
    "baseline", "centring", "classifier", "corruption", "decoder", "edge", "encoder", "end", "feature", "flow", "form", "how",
    "key", "kind", "level", "map", "mask", "measure", "network", "other_layer", "pair", "part", "pooling",
    "predicted", "quantity", "reference", "removal", "scope", "side", "similarity", "source", "strategy", "target",
    "toy_estimator", "toy_quantity", "true", "view", "what",
    "explanation", "other_explanation",
})  # fmt: skip
"""Coordinates that are words, and variables that are; every other variable and coordinate is
numbers or truth values."""

EITHER = frozenset({"layer"})
"""Coordinates of numbers in one probe, and of words in another (`pixels` is a layer there)."""

TABLES: dict[str, Table] = {
    "reconstruction": {
        "network": "error",
        "group network": "error_groups",
        "": "error_nearest error_constant error_position error_linear",
        "group": "error_nearest_groups error_linear_groups",
        "row column": "error_map",
        "image": "image_error image_error_nearest image_class",
        "thumbnail thumbnail_y thumbnail_x channel": "image_thumbnail",
        "picture y x channel": "original reconstruction reconstruction_leaky",
        "picture row column": "hidden picture_error",
    },
    "second_order": {
        "network ratio": "error r2!",
        "ratio": "gain_over_linear! gain_over_wiener! far_gain reach shared_directions",
        "row column": "gain_map!",
        "ratio direction": "shared_variance!",
    },
    "local_contrast": {
        "network": "loss!",
        "network part": "term! term_unbiased",
        "group network": "loss_groups",
        "group network part": "term_groups",
        "left_out network part": "term_unbiased_without",
        "network source": "token_share_unbiased token_share",
        "left_out network source": "token_share_unbiased_without",
        "row column": (
            "invariance_map_unbiased local_consistency_map_unbiased loss_map! invariance_map local_consistency_map"
        ),
        "part": "collapse_position collapse_unbiased collapse",
        "": "invariance_unbiased",
        "network quantity": "position_share!",
        "left_out network quantity": "position_share_without",
        "picture y x channel": "original",
        "picture row column": "picture_loss picture_invariance picture_local_consistency",
    },
    "decoder_attention": {
        "network layer head key": "mass!",
        "group network layer head key": "mass_groups",
        "network key": "mean_mass",
        "group network key": "mean_mass_groups",
        "key": "mass_uniform!",
        "network layer head": "distance! entropy!",
        "group network layer head": "distance_groups entropy_groups",
        "network": (
            "mean_distance mean_entropy positional_share_over_images_rise "
            "positional_share_over_images_rise_masks_sem positional_share_over_masks_rise "
            "positional_share_over_masks_rise_masks_sem"
        ),
        "group network": "mean_distance_groups mean_entropy_groups",
        "": "distance_uniform! entropy_uniform!",
        "layer head": (
            "positional_share_over_images positional_share_over_images_masks_sem "
            "positional_share_over_masks positional_share_over_masks_masks_sem"
        ),
        "network layer": (
            "positional_share_over_images_pooled! positional_share_over_images_pooled_masks_sem "
            "positional_share_over_masks_pooled! positional_share_over_masks_pooled_masks_sem"
        ),
        "picture y x channel": "original",
        "picture row column": "hidden",
        "picture query": "query_patch",
        "picture query layer head row column": "attention_map",
        "picture query layer head": "attention_class",
    },
    "encoder_attention": {
        "network view layer head": ("distance! entropy! mutual_information! head_divergence! prefix_mass!"),
        "group network view layer head": (
            "distance_groups entropy_groups mutual_information_groups head_divergence_groups prefix_mass_groups"
        ),
        "network view": ("mean_distance mean_entropy mean_mutual_information mean_head_divergence mean_prefix_mass"),
        "group network view": (
            "mean_distance_groups mean_entropy_groups mean_mutual_information_groups "
            "mean_head_divergence_groups mean_prefix_mass_groups"
        ),
        "view": "distance_uniform! entropy_uniform!",
        "picture y x channel": "original",
        "picture layer head row column": "attention_map",
        "image": "image_distance",
    },
    "attention_flow": {
        "network layer head": "class_self class_patches class_entropy patch_self patch_class",
        "group network layer head": (
            "class_self_groups class_patches_groups class_entropy_groups patch_self_groups patch_class_groups"
        ),
        "network": ("mean_class_self mean_class_patches mean_class_entropy mean_patch_self mean_patch_class"),
        "group network": (
            "mean_class_self_groups mean_class_patches_groups mean_class_entropy_groups "
            "mean_patch_self_groups mean_patch_class_groups"
        ),
        "network layer": "outlier_share! norm_ratio! prefix_norm_ratio",
        "group network layer": "outlier_share_groups norm_ratio_groups prefix_norm_ratio_groups",
        "row column": "outlier_map!",
        "layer kind": "neighbour_cosine",
        "network flow": "agreement!",
        "picture y x channel": "original",
        "picture map row column": "picture_flow",
    },
    "knock_out": {
        "network": "loss",
        "network what how": "increase!",
        "left_out network what how": "increase_without",
        "what how layer": "block_increase",
        "layer head how": "head_increase",
        "layer": "skip_increase skip_mean_increase",
    },
    "receptive_field": {
        "target view form y x": "field!",
        "layer form y x": "depth_field!",
        "network target view form mass": "area_ratio! radius!",
        "network layer form mass": "depth_area_ratio depth_radius",
        "network target view mass": "image_radius!",
        "network layer mass": "depth_image_radius!",
        "network target view": "half_radius",
        "network layer": "depth_half_radius",
    },
    "attribution": {
        "network explanation other_explanation": "agreement!",
        "network explanation": "faithfulness! deletion insertion reach! spread",
        "left_out network explanation": (
            "faithfulness_without deletion_without insertion_without reach_without spread_without"
        ),
        "network explanation fraction": "deletion_curve! insertion_curve! deletion_error insertion_error",
        "network": "completeness_error additivity change",
        "picture y x channel": "original",
        "picture row column": "hidden",
        "picture query": "query_patch",
        "picture query map row column": "attribution_map",
    },
    "pixels_by_layer": {
        "network layer down across": "r2!",
        "network layer": "own! around! reach!",
        "layer": "gathered!",
    },
    "spectrum": {
        "network feature view": (
            "effective_rank! rankme participation_ratio alpha_req uniformity uniformity_of_others "
            "wang_isola intrinsic_dimension"
        ),
        "network feature view rank": "singular_value! variance_share!",
        "network feature": "lidar!",
        "feature": "lidar_mask_share",
        "feature view": "num_vectors largest_rank",
    },
    "invariance": {
        "network quantity pair centring": "alignment!",
        "network quantity pair centring overlap": "alignment_by_overlap!",
        "quantity pair overlap": "num_pairs!",
        "network scope similarity": "retrieval! info_nce!",
        "scope similarity": ("retrieval_shuffled! retrieval_ceiling! info_nce_shuffled! info_nce_ceiling!"),
        "scope": "retrieval_chance! info_nce_chance!",
    },
    "fidelity": {
        "network": "mse_unmasked! psnr_unmasked ssim_unmasked",
        "group network": "ssim_unmasked_groups psnr_unmasked_groups mse_unmasked_groups",
        "ratio network": "mse_hidden! psnr mse ssim",
        "group ratio network": "ssim_groups psnr_groups mse_groups mse_hidden_groups",
    },
    "frequency": {
        "network layer frequency": "log_amplitude!",
        "group network layer frequency": "log_amplitude_groups",
        "network layer row_frequency column_frequency": "amplitude_map",
        "network layer other_layer": "cka!",
        "network": "last_high_frequency last_cka_to_input",
    },
    "transfer": {
        "classifier network feature": "accuracy! clean_accuracy corrupted_accuracy",
        "classifier network feature bound": "accuracy_interval clean_accuracy_interval",
        "group classifier network feature": "accuracy_groups corrupted_accuracy_groups",
        "": "majority_accuracy!",
        "bound": "majority_accuracy_interval",
        "feature": "seed_deviation",
        "network feature": "learning_rate! rate_at_edge",
        "classifier network feature true predicted": "confusion!",
        "classifier network feature layer": "layer_accuracy",
        "classifier network feature layer bound": "layer_accuracy_interval",
        "pooling network layer": "pooled_accuracy pooled_rate pooled_rate_at_edge",
        "pooling network layer bound": "pooled_accuracy_interval",
        "pooling": "shuffled_accuracy pooled_fit shuffled_fit pooled_parameters",
        "pooling bound": "shuffled_accuracy_interval",
        "query row column": "query_map",
        "query_layer query width": "query_weight",
        "classifier network feature corruption severity": "corruption_accuracy",
        "classifier network feature corruption severity bound": "corruption_accuracy_interval",
    },
    "dense": {
        "classifier network": "miou accuracy chosen_layer",
        "left_out classifier network": "miou_without accuracy_without",
        "classifier network layer": "layer_miou layer_accuracy",
        "classifier network class": "class_iou",
        "classifier baseline": "gain",
        "measure": "constant ceiling!",
        "network layer": "chosen_neighbours chosen_rate rate_at_edge",
        "picture y x channel": "original",
        "picture row column": "picture_class",
        "picture classifier row column": "picture_named",
    },
    "patch_retrieval": {
        "network removal layer target": "purity information",
        "network target": "last_purity",
        "group network target": "last_purity_groups",
        "target": "chance!",
        "picture y x channel": "original",
        "picture removal layer row column": "cluster",
        "picture row column": "pixel_cluster",
        "query thumb_y thumb_x channel": "query_thumbnail",
        "query view match thumb_y thumb_x channel": "match_thumbnail",
        "query": "query_image query_position",
        "query view match": "match_image match_position",
    },
    "position": {
        "network layer component": "invariance variance_share",
        "network layer": "positional_components position_r2",
        "removal layer": "knn_accuracy! same_position!",
        "": "knn_chance!",
        "map row column": "component_map!",
        "map": "map_component!",
    },
    "embedding_consistency": {
        "network scope layer measure": "consistency!",
        "scope layer measure": "chance! ceiling!",
        "network scope reference": "sliced_wasserstein! gram_gap",
        "point": "kind! image! position! row column label! thumbnail pca_x! pca_y!",
        "picture y x channel": "image_thumbnail",
        "drawn patch_y patch_x channel": "patch_thumbnail",
    },
    "hierarchy": {
        "network feature level": "score skill!",
        "end level": "own_share",
        "end unit ratio": "predicted_level!",
        "end unit ratio level": "predicted_share!",
        "feature level": "gain",
        "network layer level": "layer_skill",
    },
    "mask_graph": {
        "mask ratio bandwidth side edge": "edges! edges_masks_sem",
        "mask ratio bandwidth": ("label_error! label_error_masks_sem components components_masks_sem"),
        "mask ratio bandwidth rank": "eigenvalue! eigenvalue_masks_sem tail! tail_masks_sem",
        "mask ratio rank": ("model_eigenvalue! model_eigenvalue_masks_sem model_tail! model_tail_masks_sem"),
        "mask ratio": "realised_ratio",
        "": "chance label_chance!",
        "toy_unit toy_ratio side edge": "toy_edges!",
        "toy_unit toy_ratio": "toy_label_error! toy_components",
        "toy_unit toy_ratio rank": "toy_eigenvalue! toy_tail!",
        "toy_estimator toy_quantity toy_size": "toy_error!",
    },
    "bounds": {
        "": ("loss pair_loss! half_alignment! half_length pair_bound! autoencoding! uniformity umae_loss!"),
        "level": "variance! share_of_variance!",
        "bandwidth rank": "tail!",
        "bandwidth": "tail_at_width",
        "quantity pair centring": "alignment!",
        "quantity pair centring overlap": "alignment_by_overlap!",
        "quantity pair overlap": "num_pairs",
    },
}
"""By probe, after `lcmae.probes.results.legacy.upgrade`. Tests hold them against computed results
of every probe (tests/probes/results/test_contracts.py), and name what is missing here."""


OTHERS: dict[str, Table] = {
    "stitch": {
        "decoder": "loss untrained_increase! constant_increase!",
        "encoder decoder": "increase! identity_increase!",
    },
}
"""The same of files that no probe writes: those of `lcmae stitch`."""


def dims_of(variable: xr.DataArray | xr.Variable) -> str:
    """Dims as the tables have them: `left_out_of_7`, of a jackknife, is `left_out`."""
    return re.sub(r"left_out_of_\d+", "left_out", " ".join(map(str, variable.dims)))


def is_text(variable: xr.DataArray | xr.Variable) -> bool:
    """Whether it holds words."""
    return variable.dtype.kind in "UOS"


def expected(probe: str) -> tuple[dict[str, str], set[str]]:
    """Dims by variable, and the variables without which figures fail."""
    dims: dict[str, str] = {}
    needed: set[str] = set()
    for axes, names in (TABLES.get(probe) or OTHERS.get(probe, {})).items():
        for name in names.split():
            plain = name.removesuffix("!")
            dims[plain] = axes
            dims.setdefault(plain + _DERIVED, axes)
            if plain != name:
                needed.add(plain)
    return dims, needed


def problem(result: xr.Dataset, probe: str) -> str:
    """In a few words, the first thing in which a result is not as its probe writes it; "" where it
    is, or the probe has no table."""
    dims, needed = expected(probe)
    if not dims:
        return ""
    variables = {str(name): variable for name, variable in result.variables.items()}
    for name in dims.keys() & variables.keys():
        variable = variables[name]
        if dims_of(variable) != dims[name]:
            return f"{name} [{printable(dims_of(variable), 80)}] for [{dims[name]}]"
        if is_text(variable) != (name in TEXT):
            return f"{name} of {_kind(variable)}"
    for name in map(str, result.coords):
        variable = variables[name]
        if name not in EITHER and is_text(variable) != (name in TEXT):
            return f"the coordinate {printable(name, 60)} of {_kind(variable)}"
    missing = sorted(needed - variables.keys())
    return f"none of the name {missing[0]}" if missing else ""


def _kind(variable: xr.Variable) -> str:
    return "text" if is_text(variable) else "numbers"
