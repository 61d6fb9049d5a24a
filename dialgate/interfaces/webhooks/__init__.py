"""Webhooks in both directions: revocations to subscribers (`deliveries`), and what messages of platforms and CRMs mean (`operations`)."""
