"""Checks the built documentation: links, anchors, pictures, nothing from elsewhere, every public name.

python scripts/check_site.py site
"""

import pathlib
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import griffe

# What a page would load by itself; a link waits for a reader.
_LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
_ONLY_NAMED = {"canonical", "edit", "prev", "next"}  # relations of a <link>


class Page(HTMLParser):
    """The anchors of a page, what it links to and what it loads."""

    def __init__(self, path):
        super().__init__()
        self.path, self.anchors, self.links, self.loaded = path, set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors.update(values[name] for name in ("id", "name") if values.get(name))
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        elif values.get(_LOADED.get(tag, "")) and not _ONLY_NAMED & set(values.get("rel", "").split()):
            self.loaded.append(values[_LOADED[tag]])


def located(path, page, folder):
    """The file that a link of a page leads to."""
    return (folder / path.lstrip("/") if path.startswith("/") else page.parent / path).resolve()


def dead_links(pages, folder):
    """What pages link to or load that is not there, in words."""
    for page in pages.values():
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = located(unquote(parts.path), page.path, folder) if parts.path else page.path
            if not target.is_file():
                yield f"{page.path}: {link} is not there"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{page.path}: {link} has no such anchor"


def loaded_from_elsewhere(pages):
    """What pages load from another host, in words."""
    for page in pages.values():
        for source in page.loaded:
            if urlsplit(source).netloc:
                yield f"{page.path}: loads {source}"


def undocumented_names(pages):
    """The public names that have no anchor in any page, in words."""
    package = griffe.load("keras_flowreg", search_paths=["."])
    kinds = ("module", "class", "function")  # A constant has no page; what uses it says what it may be.
    anchors = {anchor for page in pages.values() for anchor in page.anchors if anchor.startswith("keras_flowreg")}
    documented = {canonical(package, anchor) for anchor in anchors}
    modules = [package, *(package[name] for name in package.exports if package[name].is_module)]
    for module in modules:
        for name in module.exports or ():
            if module[name].kind.value in kinds and module[name].canonical_path not in documented:
                yield f"{module.path}.{name} is on no page"


def canonical(package, path):
    """Where an object is defined."""
    try:
        return package[path.removeprefix("keras_flowreg.")].canonical_path
    except KeyError:
        return path


def main(folder):
    pages = {path.resolve(): Page(path.resolve()) for path in sorted(pathlib.Path(folder).rglob("*.html"))}
    if len(pages) < 2:
        sys.exit(f"Expected the pages of the documentation in {folder}. Received {len(pages)}.")
    faults = [*dead_links(pages, pathlib.Path(folder)), *loaded_from_elsewhere(pages), *undocumented_names(pages)]
    sys.exit("\n".join(faults) or None)


if __name__ == "__main__":
    main(*sys.argv[1:])
