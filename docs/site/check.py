"""Holds a built site against two rules: every link within it leads somewhere, and nothing is
fetched from another host.

`python docs/site/check.py FOLDER` prints what breaks them, and ends with 1 if anything does.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {"script": "src", "img": "src", "source": "srcset", "iframe": "src", "link": "href"}
"""What a browser fetches by itself to show a page."""

IN_STYLES = re.compile(r"url\(\s*[\"']?(?:https?:)?//|@import\s+[\"'](?:https?:)?//")


class Links(HTMLParser):
    """Links and anchors of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []
        """(tag, what is said about it, target)"""
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        self.anchors |= {said[name] for name in ("id", "name") if name in said}
        for name in ("href", "src", "srcset"):
            if name in said:
                self.found.append((tag, said.get("rel", ""), said[name]))


def faults(site: Path) -> list[str]:
    """A line for each link that leads nowhere and for each file of another host."""
    pages = {path: read(path) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, links in pages.items():
        for tag, rel, target in links.found:
            parts = urlsplit(target)
            where = f"{path.relative_to(site)}: {tag} {target}"
            if parts.scheme or parts.netloc:
                if tag in FETCHED and parts.scheme != "data" and rel != "canonical":
                    found.append(f"{where}: of another host")
                continue
            other = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if path.name == "404.html" and parts.path.startswith("/"):
                other = site / parts.path.lstrip("/")
            if other.is_dir():
                other /= "index.html"
            if not other.is_file():
                found.append(f"{where}: no such file")
            elif parts.fragment and other in pages and unquote(parts.fragment) not in pages[other].anchors:
                found.append(f"{where}: no such heading")
    styles = [path for path in site.rglob("*.css") if IN_STYLES.search(path.read_text())]
    return found + [f"{path.relative_to(site)}: fetches from another host" for path in styles]


def read(path: Path) -> Links:
    """The links of a page."""
    links = Links()
    links.feed(path.read_text())
    return links


def main() -> int:
    """Check a site; 1 if anything is wrong."""
    (site,) = (Path(one).resolve() for one in sys.argv[1:])
    found = faults(site)
    print("\n".join(found) or f"{len(list(site.rglob('*.html')))} pages: every link leads somewhere, no other host")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
