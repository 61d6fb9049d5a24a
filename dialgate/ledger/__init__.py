"""The ledger, one module for each kind of entry: revocations, consents, contracts, call requests, call lists, caller-ID proofs, outcomes."""
