"""The operator's configuration: its schema, its loader, its warnings, and the archive of configuration that records refer to.

Nothing here acts on a setting.
"""
