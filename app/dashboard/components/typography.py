"""How a heading and a caption look within a component: as Streamlit's own, an element less each for
a browser to draw."""

from pathlib import Path

WORDS = Path(__file__).with_suffix(".css").read_text()
"""CSS of `.title` and `.caption`."""
