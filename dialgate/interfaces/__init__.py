"""Translation between protocols and the app: HTTP, FastAGI, SIP, webhooks, the command line and the console.

No rule of law is applied here.
"""
