"""What every part needs of the operating system and the event loop: durable files, file locks, threads, background work.

It knows nothing of calls or of the law, and imports nothing of ours. What belongs to one subject stays with that subject.
"""
