"""The configuration of the documentation site. `make docs` builds it.

The source folder is the whole repository. The site can therefore include the pages in `deploy/`, which lie next to
the files that they describe. A link leads to the same place on the site and in the repository.
"""

project = "dialgate"
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "config/prompts/README.md",
    "deploy/README.md",
    "deploy/*/README.md",
    "deploy/prometheus/runbook.md",
]
exclude_patterns = [".*", "build", "dialgate", "dist", "registry_sync", "tests"]
myst_heading_anchors = 4
nitpicky = True
# Blocks of a format for which Pygments has no lexer name none; the others must be what they say.
highlight_language = "none"

html_theme = "furo"
html_title = "dialgate"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_static_path = ["style"]
html_css_files = ["site.css"]
html_extra_path = ["site"]
html_theme_options = {"navigation_with_keys": True}
