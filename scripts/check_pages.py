"""Opens the built documentation in a browser, at the width of a desk and of a phone, and searches it.

python scripts/check_pages.py site chromium screenshots

A page has no error in the console, misses no picture, asks no other server, and scrolls in one direction only. A picture of
each page is written to look at.
"""

import contextlib
import functools
import http.server
import pathlib
import sys
import threading

from playwright import sync_api

WIDTHS = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}
SOUGHT = "FlowFrankWolfe"
_MISSING_PICTURES = "[...document.images].filter(image => !image.naturalWidth).map(image => image.src)"
_OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Says nothing."""


@contextlib.contextmanager
def served(folder):
    """The address at which a folder is served."""
    handler = functools.partial(_Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def watched(context, address, faults):
    """A new page, which appends to `faults` what goes wrong in it, in words."""
    page = context.new_page()

    def say(words):
        faults.append(f"{page.url.removeprefix(address)}: {words}")

    page.on("console", lambda message: say(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: say(error))
    page.on("request", lambda request: say(f"asks {request.url}") if not is_of(request.url, address) else None)
    page.on("requestfailed", lambda request: say(f"{request.url} {request.failure}") if not is_left(request) else None)
    return page


def is_of(url, address):
    """Whether what is asked for is on the server of the pages, or in the page itself."""
    return url.startswith((address, "data:", "blob:"))


def is_left(request):
    """Whether the next page was opened before an answer came."""
    return "ERR_ABORTED" in (request.failure or "")


def look_at(page, address, picture):
    """Opens a page and takes its picture; gives what is wrong with it, in words."""
    page.goto(address, wait_until="load")
    for source in page.evaluate(_MISSING_PICTURES):
        yield f"misses the picture {source}"
    overflow = page.evaluate(_OVERFLOW)
    if overflow > 0:
        yield f"is {overflow} pixels wider than the screen"
    picture.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=picture, full_page=True)


def search(page, address, picture):
    """Searches for a name and follows the first result; gives what is wrong with that, in words."""
    page.goto(address, wait_until="networkidle")
    if page.locator("label.md-header__button[for=__search]").is_visible():  # on a phone
        page.locator("label.md-header__button[for=__search]").click()
    page.locator("input.md-search__input").press_sequentially(SOUGHT)
    result = page.locator(".md-search-result__link").filter(has_text=SOUGHT).first
    try:
        result.wait_for(timeout=20_000)
    except sync_api.TimeoutError:
        yield f"the search does not find {SOUGHT}"
        return
    page.screenshot(path=picture)
    result.click()
    page.wait_for_load_state("networkidle")
    if SOUGHT not in page.locator("article").inner_text():
        yield f"the search for {SOUGHT} leads to {page.url}"


def check(browser, address, names, pictures):
    """All faults of the pages at all widths, in words."""
    faults = []
    for width, viewport in WIDTHS.items():
        context = browser.new_context(viewport=viewport, is_mobile=width == "phone", has_touch=width == "phone")
        page = watched(context, address, faults)
        for name in names:
            picture = (pictures / width / name).with_suffix(".png")
            faults.extend(f"{name} ({width}): {fault}" for fault in look_at(page, address + name, picture))
        faults.extend(f"{width}: {fault}" for fault in search(page, address, pictures / f"search-{width}.png"))
        context.close()
    return faults


def main(folder, chromium, pictures):
    names = sorted(path.relative_to(folder).as_posix() for path in pathlib.Path(folder).rglob("*.html"))
    if len(names) < 2:
        sys.exit(f"Expected the pages of the documentation in {folder}. Received {len(names)}.")
    with served(folder) as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        faults = check(browser, address, names, pathlib.Path(pictures))
    sys.exit("\n".join(faults) or None)


if __name__ == "__main__":
    main(*sys.argv[1:])
