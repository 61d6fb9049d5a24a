"""The app's interfaces: HTTP, FastAGI, SIP, webhooks, the command line and the console.

This package applies no legal rules.
"""
