"""The operator's configuration: its schema, loader, warnings, and the archive of versions that records refer to.

This package only reads settings. Other packages apply them.
"""
