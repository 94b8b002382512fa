"""Add pages generated from the code, and pages stored outside ``docs/``, to the MkDocs site.

Links in the sources work in the repository. Here they are rewritten for the site: a file without
a page is shown by its path, and images are copied.
"""

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

import commands
import configuration
import modules
import notebook
import reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]

#: Page → the function that generates it.
MADE: dict[str, Callable[[Path], str]] = {
    "configuration.md": configuration.page,
    "commands.md": commands.page,
    "modules.md": modules.page,
    "notebook.md": notebook.page,
    "reference.md": reference.page,
}

#: Page → the repository file that it shows.
ELSEWHERE = {
    "speed.md": "benchmarks/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    **{f"studies/{p.parent.name}.md": f"experiments/{p.parent.name}/README.md"
       for p in sorted(ROOT.glob("experiments/*/README.md"))},
}  # fmt: skip
_PAGE_OF = {path: page for page, path in ELSEWHERE.items()}

# Code is matched first, so that nothing in it is mistaken for a link, a mark or a tag.
_CODE = r"(?P<code>(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`))"
_LINK = re.compile(
    _CODE + r"|(?P<bang>!?)\[(?P<text>[^\]]*)\]\((?P<to>[^)\s#:]+)(?P<at>#\S*?)?\)", re.S
)
_MARK = re.compile(_CODE + r"|<!-- (?P<mark>\w+)(?: [^>]*?)?-->\n", re.S)
_TAG = re.compile(_CODE + r"|<", re.S)
_PICTURES = {".png", ".svg"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, the pages stored elsewhere, and their images."""
    for page, write in MADE.items():
        files.append(File.generated(config, page, content=_plain(write(ROOT))))
    for page, path in ELSEWHERE.items():
        files.append(File.generated(config, page, content=_read(path)))
    pages = [file.src_uri for file in files.documentation_pages()]
    for path in sorted({path for page in pages for path in _pictures(page)}):
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links for the site, and remove the marks of rendered blocks."""
    here = page.file.src_uri

    def mark(match: re.Match[str]) -> str:
        return match["code"] or "\n"  # a table needs an empty line before it

    def link(match: re.Match[str]) -> str:
        return match["code"] or _link(match, here)

    return _LINK.sub(link, _MARK.sub(mark, markdown))


def _plain(text: str) -> str:
    """Escape ``<`` outside code, so that it does not start a tag."""
    return _TAG.sub(lambda match: match["code"] or "&lt;", text)


def _link(match: re.Match[str], here: str) -> str:
    target = _target(here, match["to"])
    page = target.removeprefix("docs/") if target.startswith("docs/") else _page(target)
    if page is None and (ROOT / target).exists():
        if not match["bang"]:  # a file without a page on the site
            text = match["text"].strip("`")
            return f"`{target}`" if text in target else f"{match['text']} (`{target}`)"
        page = target
    if page is None:
        return match[0]  # MkDocs warns about it
    relative = posixpath.relpath(page, posixpath.dirname(here) or ".")
    return f"{match['bang']}[{match['text']}]({relative}{match['at'] or ''})"


def _page(target: str) -> str | None:
    """Return the page that shows a file, or a folder's README."""
    return _PAGE_OF.get(target) or _PAGE_OF.get(f"{target}/README.md")


def _target(page: str, link: str) -> str:
    """Return the repository file that a link on a page points to."""
    source = ELSEWHERE.get(page, f"docs/{page}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _pictures(page: str) -> list[str]:
    """Return the images outside docs/ that a page shows."""
    source = ELSEWHERE.get(page, f"docs/{page}")
    found = _LINK.finditer(_read(source)) if page not in MADE else ()
    targets = [_target(page, match["to"]) for match in found if match["bang"]]
    outside = [t for t in targets if not t.startswith("docs/") and Path(t).suffix in _PICTURES]
    return [t for t in outside if (ROOT / t).is_file()]


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")
