"""Helpers for the operating system and the event loop: durable files, file locks, threads, background work.

No helper is specific to calls or law. A helper that only one package needs belongs in that package.
"""
