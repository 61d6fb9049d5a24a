"""The app's interfaces: HTTP, FastAGI, webhooks, the command line and the console.

This package applies no legal rules.
"""
