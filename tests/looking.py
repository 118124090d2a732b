"""Pages as a browser would see them."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_VOID = {"meta", "br", "img", "link", "input", "hr"}


class Looked(HTMLParser):
    """What a browser would make of a page: its elements, its text by section, whether every element is closed."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.words, self.errors = [], [], [], []
        self.feed(text)
        self.close()
        self.errors += [f"{name} is not closed" for name in self.open]

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.errors.append(f"</{tag}> closes something else")

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))

    @property
    def pictures(self):
        return [attributes["aria-label"] for tag, attributes in self.elements if tag == "svg"]

    @property
    def sections(self):
        return [attributes["id"] for tag, attributes in self.elements if tag == "section"]


def assert_alone(text):
    """A page loads nothing: no script, and every reference is to itself or carries its data."""
    assert "<script" not in text.lower()
    references = re.findall(r"\b(?:src|href|action|poster)\s*=\s*[\"']([^\"']*)", text)
    references += re.findall(r"url\(([^)]*)\)", text) + re.findall(r"@import[^;]*", text)
    assert [each for each in references if not each.startswith(("#", "data:image/png;base64,"))] == []
    identifiers = re.findall(r'\bid="([^"]+)"', text)
    assert len(identifiers) == len(set(identifiers))
    assert {each[1:] for each in references if each.startswith("#")} <= set(identifiers)
