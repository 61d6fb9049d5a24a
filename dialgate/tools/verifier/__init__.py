"""The stand-alone verifier of evidence: one file, which needs nothing of this package."""
