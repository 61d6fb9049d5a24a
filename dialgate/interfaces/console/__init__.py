"""The console at `/console`: routes, pages, texts, templates, scripts and styles.

The browser loads nothing from elsewhere, and there is no build step.
"""
