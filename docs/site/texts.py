"""What is done to Markdown on its way into the site: links of files beside docs/, and what GitHub
understands and Python-Markdown does not."""

import re

FROM_THE_TOP = {"CHANGELOG.md": "changes.md", "CONTRIBUTING.md": "contributing.md", "README.md": "index.md"}
"""Files beside docs/ that are pages of the site."""

AS_THEY_ARE = ("LICENSE", "CITATION.cff")
"""Files beside docs/ that the site has as files."""

LINK = re.compile(r"(?P<text>(?<!!)\[[^\]]*\]|!\[[^\]]*\])\((?P<path>[\w./-]+)(?P<anchor>#[\w-]*)?\)")
ATTRIBUTE = re.compile(r"(?P<before>(?:src|srcset|href)=\")docs/")
TITLED = re.compile(r"^```(\w+) ([^{=\n]+)$")
"""A fence that says after its language what the code is of."""

BLOCK = re.compile(r"^\s*([-*] |\d+\. |\||```)")


def moved(text: str) -> str:
    """Text of a file beside docs/ with its links as seen from docs/. A link to code, of which the
    site has no page, becomes its words and the path."""

    def link(found: re.Match[str]) -> str:
        words, path, anchor = found["text"], found["path"], found["anchor"] or ""
        if path in FROM_THE_TOP or path in AS_THEY_ARE:
            return f"{words}({FROM_THE_TOP.get(path, path)}{anchor})"
        if path.startswith("docs/") and not path.startswith("docs/site/"):
            return f"{words}({path.removeprefix('docs/')}{anchor})"
        return f"{words.strip('[]')} (`{path}`)"

    return ATTRIBUTE.sub(lambda found: found["before"], LINK.sub(link, text))


def understood(markdown: str) -> str:
    """Lists, tables and fences right behind a sentence get a blank line, and a fence's words beside
    its language become its title."""
    lines: list[str] = []
    fenced = False
    for line in markdown.splitlines():
        begins = bool(BLOCK.match(line)) and not fenced
        if begins and lines and lines[-1].strip() and not BLOCK.match(lines[-1]) and not lines[-1].startswith(" "):
            lines.append("")
        if line.lstrip().startswith("```"):
            fenced = not fenced
        titled = TITLED.match(line)
        lines.append(f'```{titled[1]} title="{titled[2].strip().replace(chr(34), chr(39))}"' if titled else line)
    return "\n".join(lines)
