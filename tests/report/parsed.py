"""A page as a browser reads it."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import unquote

VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """Links, cells by row, and all text of a document whose tags must be balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        values = dict(attributes)
        if "href" in values:
            self.links.append(unquote(values["href"]))
        if "src" in values:
            self.sources.append(unquote(values["src"]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data
