"""SIP: a redirect server for session border controllers, and a user agent for probe calls.

The protocol modules have no sockets and no clock: time is an argument, in ms of a monotonic clock. The message reader is our own.
Libraries read some messages differently from a trunk, so the dialled number could differ from the checked number;
docs/decisions/0010-own-sip-reader.md has the inputs. The tests read our responses with `sipmessage`.
"""
