"""The rights of the called person (GDPR 12 to 22), with their deadlines.

The rights are access, portability, rectification and erasure. This package also implements storage limitation.
"""
