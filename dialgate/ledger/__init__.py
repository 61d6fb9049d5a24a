"""Reads and writes of the ledger, call lists, caller-ID proofs and outcomes: one module for each subject."""
