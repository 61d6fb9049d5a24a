"""The console at `/console`: routes, pages, texts, templates, scripts and styles.

The browser loads nothing from other sites, and the scripts need no build step.
"""
