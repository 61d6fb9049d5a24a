"""Ledger entries, call lists, caller-ID proofs and call outcomes, with one module for each topic."""
