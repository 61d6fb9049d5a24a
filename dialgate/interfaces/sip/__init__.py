"""SIP without sockets and without a clock: bytes in, bytes out; every instant is an argument, in ms of a steady clock.

The parser is our own. `sipmessage` 0.7 (the one kept library for Python) was tried first, and reads some messages
otherwise than a trunk would, which opens a gate: `To : …`, with a blank, is not found; of two `From` the first counts in
silence; `"a" <sip:A@h>;x="b" <sip:B@h>` is an address of B; a folded line and `qop="auth,auth-int"` are refused. The tests
use it as somebody else's reader of what is written here.
"""
