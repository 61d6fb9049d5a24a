"""Protocols translated to the app: HTTP, FastAGI, SIP, webhooks, the command line and the console.

This package applies no legal rules.
"""
