"""The stand-alone verifier for evidence: one file that does not import this package."""
