"""What the site has beside the Markdown files of docs/: README, changes, gallery, reference, and
the pages that its menu does not name yet. mkdocs calls the functions `on_...`."""

from pathlib import Path
from typing import Any

import gallery
import reference
import texts
from mkdocs.structure.files import File, Files, InclusionLevel
from plotly.offline import get_plotlyjs

ROOT = Path(__file__).resolve().parents[2]


def on_config(config: Any) -> Any:
    """The menu: generated parts take the place of their names in capitals; pages that nobody named
    stand under More."""
    docs = Path(config.docs_dir)
    results = [path.relative_to(docs).as_posix() for path in sorted((docs / "results").glob("*.md"))]
    parts = {
        "GALLERY": [f"gallery/{name}.md" for name in ("index", *gallery.OTHERS, *gallery.PROBES)],
        "REFERENCE": [f"reference/{name}.md" for name in reference.pages()],
        "RESULTS": results,
    }
    menu = [{title: parts.get(what, what) if isinstance(what, str) else what} for title, what in items(config.nav)]
    named = set(leaves(menu))
    written = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    menu[-1]["More"] += sorted(written - named)
    config.nav = menu
    return config


def items(menu: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Title and content of each entry."""
    return [pair for entry in menu for pair in entry.items()]


def leaves(menu: Any) -> list[str]:
    """Pages of a menu."""
    if isinstance(menu, str):
        return [menu]
    return [leaf for one in (menu.values() if isinstance(menu, dict) else menu) for leaf in leaves(one)]


def on_files(files: Files, config: Any) -> Files:
    """Add what is generated."""
    pages = {f"gallery/{name}.md": text for name, text in gallery.pages().items()}
    pages |= {f"reference/{name}.md": text for name, text in reference.pages().items()}
    pages |= {target: texts.moved((ROOT / name).read_text()) for name, target in texts.FROM_THE_TOP.items()}
    for uri, text in pages.items():
        files.append(File.generated(config, uri, content=text, inclusion=InclusionLevel.INCLUDED))
    for name in texts.AS_THEY_ARE:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    files.append(File.generated(config, "assets/plotly.min.js", content=get_plotlyjs()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """What GitHub understands and Python-Markdown does not."""
    return texts.understood(markdown)
