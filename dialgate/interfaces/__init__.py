"""Interfaces translate between a protocol and the app: HTTP, FastAGI, SIP, webhooks, the command line, the console.

Nothing is decided here."""
