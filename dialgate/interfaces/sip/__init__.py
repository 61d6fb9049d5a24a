"""SIP: a redirect server for session border controllers, and a user agent for probe calls.

The protocol modules have no sockets and no clock: time is an argument, in ms from a monotonic clock. No library is used
to read messages: libraries interpret some messages differently than a trunk does, so the checked number could differ
from the dialled number. docs/decisions/0010-own-sip-reader.md lists such messages. The tests read our responses with
`sipmessage`.
"""
