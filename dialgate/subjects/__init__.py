"""The rights of the called person (GDPR 12 to 22): access, portability, rectification, erasure, deadlines and storage limits."""
