"""Strings from files, links and folders, made fit for a person's eyes."""

MOST = 200


def printable(value: object, most: int = MOST) -> str:
    """`value` as plain text of one line and at most `most` characters, for a terminal, a page, a
    log.

    Control characters, lone surrogates and marks that turn the direction of writing become escapes
    (`\\n`, `\\ud800`, `\\u202e`); what is too long ends in an ellipsis. Markdown and HTML stay what
    they are: the page that shows them must show text. A number of too many digits is no error.
    """
    try:
        text = value if isinstance(value, str) else str(value)
    except (ValueError, RecursionError):  # a whole number of more than 4,300 digits
        text = f"a {type(value).__name__} that is too long to print"
    text = text[: most + 1]  # escapes make text longer, and a text of megabytes costs time
    if not text.isprintable():
        text = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return text if len(text) <= most else text[: most - 1] + "…"
