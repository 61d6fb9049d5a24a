"""The configuration of the documentation site. `make docs` builds it.

The source folder is the whole repository. The site can therefore include the pages in `deploy/`, which lie next to
the files that they describe. A link leads to the same place on the site and in the repository.
"""

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

from dialgate import __version__

project = "dialgate"
version = release = __version__
extensions = ["myst_parser", "sphinx_copybutton"]
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "config/prompts/README.md",
    "deploy/README.md",
    "deploy/*/README.md",
    "deploy/clients/*/README.md",
    "deploy/prometheus/runbook.md",
]
exclude_patterns = [".*", "build", "dialgate", "dist", "registry_sync", "tests"]
myst_heading_anchors = 4
nitpicky = True
# Blocks of a format for which Pygments has no lexer name none; the others must be what they say.
highlight_language = "none"

html_theme = "furo"
html_title = f"dialgate {version}"
html_last_updated_fmt = "%Y-%m-%d"  # SOURCE_DATE_EPOCH, if it is set
html_favicon = "../dialgate/interfaces/console/assets/mark.svg"
html_show_sourcelink = False  # the sources are for llms.txt
html_show_copyright = False
html_show_sphinx = False
html_static_path = ["style"]
html_css_files = ["site.css"]
html_js_files = [("tables.js", {"defer": "defer"})]
html_extra_path = ["site"]
html_theme_options = {"navigation_with_keys": True}


def _first_paragraph(app: Sphinx, page: str) -> str:
    return next(
        (node.astext().replace("\n", " ") for node in app.env.get_doctree(page).findall(nodes.paragraph)), ""
    )


def write_llms_txt(app: Sphinx, failure: Exception | None) -> None:
    """Write `llms.txt` (llmstxt.org): the pages of the site in the order of its menu, as Markdown sources."""
    if failure or app.builder.name != "html":
        return
    children, titles = app.env.toctree_includes, app.env.titles
    lines = [f"# dialgate {version}", "", f"> {_first_paragraph(app, root_doc)}"]
    for section in (*children[root_doc], root_doc):
        # The pages of the front page that have no pages of their own come last.
        pages = [page for page in children.get(section, ()) if section != root_doc or page not in children]
        pages = [section, *pages] if pages and section != root_doc else pages
        if pages:
            lines += ["", f"## {titles[section].astext() if section != root_doc else 'More'}", ""]
        for page in pages:
            text = _first_paragraph(app, page).partition(". ")[0].rstrip(".:")
            lines.append(f"- [{titles[page].astext()}](_sources/{page}.md.txt): {text}")
    Path(app.outdir, "llms.txt").write_text("\n".join(lines) + "\n", "utf-8")


def setup(app: Sphinx) -> None:
    app.connect("build-finished", write_llms_txt)
