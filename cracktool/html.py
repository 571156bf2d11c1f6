"""One HTML page that holds all it shows: style, script and data inside, nothing fetched.

Knows nothing of what is on the page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from html import escape
from importlib import resources


def page(title: str, body: Iterable[str], *, package: str, name: str, pictures: str = "data:") -> Iterator[str]:
    """Give a page piece by piece.

    Args:
        title: Of the page.
        body: Its HTML, piece by piece.
        package: Where ``NAME.css`` lies, and ``NAME.js`` if the page has a program.
        name: Of these two.
        pictures: Where pictures may come from, as a Content-Security-Policy says it.

    Example:
        >>> "".join(page("Cracks", ["<p>none</p>"], package="cracktool.inspection", name="report"))[:15]
        '<!doctype html>'
    """
    folder = resources.files(package)
    style, program = (folder / f"{name}.css").read_text("utf-8"), folder / f"{name}.js"
    script = f"\n<script>\n{program.read_text('utf-8')}</script>" if program.is_file() else ""
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    # Nothing is fetched, and a file name cannot become a program.
    policy = f"default-src 'none'; img-src {pictures}; style-src 'unsafe-inline'"
    policy += "; script-src 'unsafe-inline'" if script else ""
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    yield '<meta name="viewport" content="width=device-width">\n'
    yield f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
    yield from body
    yield f"{script}\n</body>\n</html>\n"


def data_block(name: str, content: object) -> str:
    r"""Return data for the script of a page, under an id; no text in it can end the block.

    Example:
        >>> data_block("row", ["</script>"])
        '<script type="application/json" id="row">["\\u003c/script>"]</script>\n'
    """
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>\n'
