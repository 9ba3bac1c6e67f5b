"""HTML and SVG text that is always escaped, and the frame of a self-contained page.

Nothing is fetched and nothing runs: a policy in the page forbids both. Knows no benchmark.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

NOTICE = "Research use only. Not for clinical decisions."
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = Path(__file__).with_name("page.css")


class Html(str):
    """Finished markup. Any other text is escaped where a tag takes it in."""


def tag(name: str, *children: object, **attributes: object) -> Html:
    """An element; children that are not `Html` are escaped, attributes always.

    Attributes are written with - for _ (`stroke_width`), `class_` is class; None leaves one out.
    """
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{told}>{join(children)}</{name}>")


def join(children: Iterable[object]) -> Html:
    """Children one after the other, what is not `Html` escaped."""
    return Html("".join(child if isinstance(child, Html) else escape(str(child)) for child in children))


def table(head: Sequence[object], rows: Iterable[Sequence[object]], *, marked: Sequence[int] = ()) -> Html:
    """A table that scrolls sideways where it is wide; the first cell of a row names it.

    Args:
        head: names of the columns.
        rows: cells.
        marked: places of rows to set apart.
    """
    top = tag("tr", *(tag("th", name, scope="col") for name in head))
    body = [
        tag(
            "tr",
            tag("th", first, scope="row"),
            *(tag("td", cell) for cell in cells),
            class_="marked" if place in marked else None,
        )
        for place, (first, *cells) in enumerate(rows)
    ]
    inner = tag("table", tag("thead", top), tag("tbody", *body))
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=str(head[0]))


def facts(pairs: Iterable[tuple[object, object]]) -> Html:
    """Names and values, a line each."""
    return tag("dl", *(join([tag("dt", name), tag("dd", value)]) for name, value in pairs))


def section(title: str, *children: object) -> Html:
    """A part of a page under a heading; empty where nothing is in it."""
    return tag("section", tag("h2", title), *children) if any(children) else Html()


def document(title: str, kind: str, *body: object, warning: str = "") -> str:
    """A whole page.

    Args:
        title: also of the window.
        kind: the small line above the title.
        body: sections.
        warning: shown beside the notice, such as that images must not be published.
    """
    notes = [tag("p", NOTICE, class_="notice", role="note")]
    notes += [tag("p", warning, class_="notice strong", role="alert")] if warning else []
    head = tag("header", tag("p", kind, class_="kind"), tag("h1", title), *notes)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{escape(title)}</title>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n"
        f"{tag('main', head, *body)}\n</body>\n</html>\n"
    )
