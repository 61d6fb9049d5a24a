"""The console at `/console`: texts, templates, scripts and styles. The browser loads nothing from elsewhere, and there is no build
step. `dialgate.interfaces.console.routes` serves it."""
