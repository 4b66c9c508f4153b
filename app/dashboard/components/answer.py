"""What a page answers, above its figures: a sentence with its interval, and headline numbers."""

from dataclasses import asdict
from pathlib import Path

from streamlit.components.v2 import component

from lcmae.app.figures.answers import Answer
from lcmae.safety.text import printable

_ANSWER = component(
    "lcmae.answer",
    html='<p class="sentence"></p><dl></dl>',
    css=Path(__file__).with_suffix(".css").read_text(),
    js=Path(__file__).with_suffix(".js").read_text(),
)


def answer(shown: Answer, key: str) -> None:
    """The sentence and up to four tiles, as text and nothing else."""
    tiles = [{name: printable(text) for name, text in asdict(tile).items()} for tile in shown.tiles]
    _ANSWER(key=f"answer-{key}", data={"sentence": printable(shown.sentence, 2000), "tiles": tiles})
