"""Helpers for the operating system and the event loop: durable files, file locks, threads, background work.

They have nothing to do with calls or law. Code that only one package needs belongs to that package.
"""
