"""The operator's configuration: schema, loader, warnings, and the archive of versions that records refer to.

This package only reads settings. Other packages apply them.
"""
