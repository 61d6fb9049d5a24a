"""SIP without sockets and without a clock: bytes in, bytes out; time is an argument, in ms of a steady clock.

The reader of messages is our own, because libraries read some messages differently from a trunk, which would open the gate:
docs/decisions/0010-own-sip-reader.md has the inputs. The tests read our responses with `sipmessage`.
"""
