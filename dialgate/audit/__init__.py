"""Proof and explanation of decisions: search, replay, evidence, legal holds, key retirement, reconciliation."""
