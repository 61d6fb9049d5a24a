"""Proof and explanation of what was decided: search, replay, evidence, legal holds, key retirement, reconciliation."""
