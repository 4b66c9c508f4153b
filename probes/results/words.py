"""Labels of stored results in words, for titles, ticks, legends and pickers."""

WORDS = {
    "cls": "class token",
    "mean": "mean token",
    "token": "single tokens",
    "patch": "patch tokens",
    "full": "whole images",
    "masked": "masked images",
    "pca": "PCA",
    "umap": "UMAP",
    "label": "class",
}
"""What a person reads for a label; others are words as they are."""

NAMED = ("feature", "quantity", "view")
"""Dimensions whose labels these are; "mean" and "patch" mean other things along others."""


def called(label: str) -> str:
    """A label in words: "class token" of "cls", "coarse random" of "coarse_random"."""
    return WORDS.get(label, label.replace("_", " "))


def located(dimension: str, label: str) -> str:
    """A label that is a number, with what it counts: "layer 3"; others in words."""
    if label.lstrip("-").replace(".", "", 1).isdigit():
        return f"{dimension.replace('_', ' ')} {label}"
    return called(label) if dimension in NAMED else label.replace("_", " ")
