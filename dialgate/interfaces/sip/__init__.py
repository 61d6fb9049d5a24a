"""SIP: a redirect server for session border controllers, and a user agent for probe calls.

The protocol modules have no sockets and no clock: time is an argument, in ms from a monotonic clock. The message reader is our
own, because libraries read some messages differently from a trunk, and the dialled number could then differ from the checked
number. docs/decisions/0010-own-sip-reader.md lists such inputs. The tests read our responses with `sipmessage`.
"""
