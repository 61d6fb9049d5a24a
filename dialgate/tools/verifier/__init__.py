"""The stand-alone verifier of evidence: one file that does not import this package."""
