"""Webhooks in both directions: revocations to subscribers (`deliveries`), what messages of platforms and CRMs mean (`operations`), and the records that bring lost ones (`record_pages`)."""
