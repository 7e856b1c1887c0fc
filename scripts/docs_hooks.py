"""What mkdocs.yml cannot say: a link from a page to a file outside docs/ names the file, which the site does not hold."""

import os
import re

_LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown, page, config, files):
    """Puts a file's path in the place of a link that leaves the folder of the pages."""

    def named(link):
        text, target = link.groups()
        path = os.path.normpath(os.path.join(os.path.dirname(page.file.src_uri), target))
        if not path.startswith(".."):
            return link.group()
        return f"{text} (`{os.path.normpath(os.path.join(config.docs_dir, os.path.dirname(page.file.src_uri), target))[len(os.path.dirname(config.docs_dir)) + 1 :]}`)"

    return _LINK.sub(named, markdown)
