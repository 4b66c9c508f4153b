"""The pages of the dashboard, in the order of its menu. Listing them imports no page, and no page
imports torch."""

from lcmae.app.dashboard.menu import Page

PAGES: tuple[Page, ...] = (
    Page("runs", "Runs", ":material/table_rows:", section="Runs", is_probe=False),
    Page("training", "Training", ":material/show_chart:", section="Runs", is_probe=False),
    Page("through_training", "Through training", ":material/timeline:", section="Runs", is_probe=False),
    Page("open_checkpoint", "Open a checkpoint", ":material/folder_open:", section="Runs", is_probe=False),
    Page("microscope", "Microscope", ":material/biotech:", section="Live", is_probe=False),
    Page("pair", "Pair", ":material/compare:", section="Live", is_probe=False),
    Page("embedding_map", "Embedding map", ":material/bubble_chart:", section="Live", is_probe=False),
    Page("reconstruction", "Reconstruction", ":material/image:"),
    Page("second_order", "Beyond covariance", ":material/linear_scale:"),
    Page("local_contrast", "Local contrast", ":material/stacked_bar_chart:"),
    Page("decoder_attention", "Decoder attention", ":material/visibility:"),
    Page("encoder_attention", "Encoder attention", ":material/hub:"),
    Page("receptive_field", "Receptive field", ":material/filter_center_focus:"),
    Page("embedding_consistency", "Embedding consistency", ":material/scatter_plot:"),
    Page("invariance", "Invariance", ":material/compare_arrows:"),
    Page("spectrum", "Spectrum", ":material/equalizer:"),
    Page("transfer", "Transfer", ":material/school:"),
    Page("position", "Position in tokens", ":material/pin_drop:"),
    Page("frequency", "Frequency", ":material/waves:"),
    Page("fidelity", "Fidelity", ":material/image_search:"),
    Page("mask_graph", "Mask graph", ":material/account_tree:"),
    Page("bounds", "Bounds", ":material/vertical_align_bottom:"),
    Page("hierarchy", "Hierarchy", ":material/family_history:"),
    Page("masks", "Mask strategies", ":material/grid_view:", section="Masks", is_probe=False),
    Page("claims", "Claims", ":material/fact_check:", section="Claims", is_probe=False),
)
