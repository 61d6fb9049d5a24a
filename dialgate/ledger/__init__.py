"""Writes that people's wishes cause: revocations, consents, contracts, call requests, call lists, caller-ID proofs, outcomes."""
