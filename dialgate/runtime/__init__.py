"""Helpers for the operating system and the event loop: durable files, file locks, threads, background work.

They are independent of calls and law. Code that only one package needs belongs to that package.
"""
