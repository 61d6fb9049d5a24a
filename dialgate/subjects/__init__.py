"""The rights of the called person (GDPR 12 to 22).

They are access, portability, rectification and erasure, with their deadlines. Storage limitation is here too.
"""
