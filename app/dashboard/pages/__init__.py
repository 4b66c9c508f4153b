"""The pages of the dashboard, in the order of its menu. Listing them imports no page, and no page
imports torch."""

from lcmae.app.dashboard.menu import Page

VIEW, LEARNED, HOW, COLLAPSE = "Look", "What was learned?", "How?", "Collapse and spectrum"
MASKS, TRAINING, THEORY = "Masks", "Through training", "Theory and claims"
"""Headings of the menu: the questions that pages answer."""

PAGES: tuple[Page, ...] = (
    Page("start", "Start", ":material/rocket_launch:", section=VIEW, is_probe=False),
    Page("runs", "Runs", ":material/table_rows:", section=VIEW, is_probe=False),
    Page("microscope", "Microscope", ":material/biotech:", section=VIEW, is_probe=False),
    Page("gallery", "Gallery", ":material/grid_on:", section=VIEW, is_probe=False),
    Page("pair", "Pair", ":material/compare:", section=VIEW, is_probe=False),
    Page("open_checkpoint", "Open a checkpoint", ":material/folder_open:", section=VIEW, is_probe=False),
    Page("reconstruction", "Reconstruction", ":material/image:", section=LEARNED),
    Page("second_order", "Beyond covariance", ":material/linear_scale:", section=LEARNED),
    Page("transfer", "Transfer", ":material/school:", section=LEARNED),
    Page("dense", "Segmentation", ":material/category:", section=LEARNED),
    Page("patch_retrieval", "Matching patches", ":material/frame_inspect:", section=LEARNED),
    Page("position", "Position in tokens", ":material/pin_drop:", section=LEARNED),
    Page("pixels_by_layer", "Pixels by layer", ":material/layers:", section=LEARNED),
    Page("fidelity", "Fidelity", ":material/image_search:", section=LEARNED),
    Page("frequency", "Frequency", ":material/waves:", section=LEARNED),
    Page("embedding_consistency", "Embedding consistency", ":material/scatter_plot:", section=LEARNED),
    Page("embedding_map", "Embedding map", ":material/bubble_chart:", section=LEARNED, is_probe=False),
    Page("encoder_attention", "Encoder attention", ":material/hub:", section=HOW),
    Page("decoder_attention", "Decoder attention", ":material/visibility:", section=HOW),
    Page("knock_out", "Knock-outs", ":material/content_cut:", section=HOW),
    Page("attention_flow", "Class token and flow", ":material/call_merge:", section=HOW),
    Page("receptive_field", "Receptive field", ":material/filter_center_focus:", section=HOW),
    Page("attribution", "Attribution", ":material/ads_click:", section=HOW),
    Page("stitch", "Stitching", ":material/join_inner:", section=HOW, is_probe=False),
    Page("local_contrast", "Local contrast", ":material/stacked_bar_chart:", section=HOW),
    Page("invariance", "Invariance", ":material/compare_arrows:", section=HOW),
    Page("spectrum", "Spectrum", ":material/equalizer:", section=COLLAPSE),
    Page("masks", "Mask strategies", ":material/grid_view:", section=MASKS, is_probe=False),
    Page("mask_graph", "Mask graph", ":material/account_tree:", section=MASKS),
    Page("training", "Training", ":material/show_chart:", section=TRAINING, is_probe=False),
    Page("through_training", "Through training", ":material/timeline:", section=TRAINING, is_probe=False),
    Page("bounds", "Bounds", ":material/vertical_align_bottom:", section=THEORY),
    Page("hierarchy", "Hierarchy", ":material/family_history:", section=THEORY),
    Page("claims", "Claims", ":material/fact_check:", section=THEORY, is_probe=False),
)

TITLES = {page.name: page.title for page in PAGES if page.is_probe}
"""What a probe is called where a person picks or reads it: the title of its page."""
