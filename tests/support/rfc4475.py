"""The torture messages of RFC 4475, adapted to a call to a telephone number through a proxy.

Message names come from the RFC. `{n}` is the number, `{v}` the sender's address, and `{i}` an id that makes a message
unique.
"""

VIA = "Via: SIP/2.0/UDP {v};branch=z9hG4bK-{i}"
BASE = {
    "Via": VIA,
    "Max-Forwards": "Max-Forwards: 70",
    "From": "From: <sip:+390844123456@a.example>;tag={i}",
    "To": "To: <sip:{n}@b.example>",
    "Call-ID": "Call-ID: {i}@a.example",
    "CSeq": "CSeq: 1 INVITE",
    "Contact": "Contact: <sip:c@{v}>",
    "Length": "Content-Length: 0",
}


def message(
    first: str = "INVITE sip:{n}@p.example SIP/2.0", more: str = "", body: str = "", **changes: str
) -> str:
    """Return a message with the headers in `BASE`. `changes` replaces headers, and an empty string removes a header."""
    lines = [line for line in (BASE | changes).values() if line]
    return "\r\n".join([first, *lines, *([more] if more else [])]) + "\r\n\r\n" + body


TORTURE: dict[str, str] = {
    "wsinv": "INVITE sip:{n}@p.example;unknownparam SIP/2.0\r\n"
    'TO :\r\n sip:{n}@b.example ;   tag    = \r\nfrom   : "J Rosenberg \\\\\\"" <sip:+390844123456@a.example>\r\n'
    "  ;\r\n  tag = {i}\r\nMaX-fOrWaRdS: 0068\r\nCall-ID: ws{i}\r\nContent-Length   : 0\r\ncseq: 0009\r\n  INVITE\r\n"
    "Via  : SIP  /   2.0\r\n /UDP\r\n    {v};branch=z9hG4bK-{i}\r\ns :\r\nNewFangledHeader:   newfangled value\r\n"
    '  continued newfangled value\r\nContact: "Quoted string \\"\\"" <sip:c@{v};newparam>\r\n\r\n',
    "intmeth": message(
        "!interesting-Method0123456789_*+`.%indeed'~ sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:"
        "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@p.example SIP/2.0",
        CSeq="CSeq: 1 !interesting-Method0123456789_*+`.%indeed'~",
    ),
    "esc01": message(
        "INVITE sip:sips%3Auser%40example.com@p.example SIP/2.0", To="To: <sip:%75se%72@b.example>"
    ),
    "esc number": message("INVITE sip:%2B{n}@p.example SIP/2.0"),
    "escnull": message(
        "REGISTER sip:b.example SIP/2.0", CSeq="CSeq: 1 REGISTER", Contact="Contact: <sip:%00@{v}>"
    ),
    "escnull in the number": message("INVITE sip:{n}%00@p.example SIP/2.0"),
    "esc02": message("RE%47IST%45R sip:b.example SIP/2.0", CSeq="CSeq: 1 RE%47IST%45R"),
    "esc02 invite": message("INV%49TE sip:{n}@p.example SIP/2.0", CSeq="CSeq: 1 INV%49TE"),
    "lwsdisp": message(From="From: caller<sip:+390844123456@a.example>;tag={i}"),
    "longreq": message(
        more="Subject: " + "x" * 3000,
        To="To: "
        '"I have a user name of ' + "extreme" * 40 + '" <sip:{n}@b.example:6000;' + "long" * 60 + "=y>",
    ),
    "dblreq": message("REGISTER sip:b.example SIP/2.0", CSeq="CSeq: 1 REGISTER") + message(),
    "semiuri": message("INVITE sip:{n};par=u%40example.net@p.example SIP/2.0"),
    "transports": message(
        more="Via: SIP/2.0/UNKNOWN t5.example;branch=z9hG4bKkdj\r\nVia: SIP/2.0/SCTP t3.example;branch=z9hG4bKk"
    ),
    "mpart01": message(
        more="Content-Type: multipart/mixed;boundary=7a9cbec02ceef655",
        body="--7a9cbec02ceef655\r\n\r\nhello\0\xff\r\n--7a9cbec02ceef655--\r\n",
        Length="Content-Length: 59",
    ),
    "unreason": "SIP/2.0 200 = 2**3 * 5**2 \u043d\u043e\r\n"
    + VIA
    + "\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:{n}@b>;tag=2\r\n"
    "Call-ID: {i}\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n",
    "noreason": "SIP/2.0 100 \r\n"
    + VIA
    + "\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:{n}@b>;tag=2\r\nCall-ID: {i}\r\n"
    "CSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n",
    "badinv01": message(Via=VIA + ";;,;,,", Contact='Contact: "Joe" <sip:c@{v}>;;;;'),
    "clerr": message(body="v=0", Length="Content-Length: 9999"),
    "ncl": message(Length="Content-Length: -999", body="v=0"),
    "scalar02": message(CSeq="CSeq: 36893488147419103232 INVITE"),
    "scalarlg": message(**{"Max-Forwards": "Max-Forwards: 300"}, more="Expires: 10000000000000000000"),
    "quotbal": message(To='To: "Mr. J. User <sip:{n}@b.example>'),
    "ltgtruri": message("INVITE <sip:{n}@p.example> SIP/2.0"),
    "lwsruri": message("INVITE sip:{n}@p.example; lr SIP/2.0"),
    "lwsstart": message("INVITE  sip:{n}@p.example  SIP/2.0"),
    "trws": message("INVITE sip:{n}@p.example SIP/2.0  "),
    "escruri": message("INVITE sip:{n}@p.example?Route=%3Csip:example.com%3E SIP/2.0"),
    "escruri replaces": message("INVITE sip:{n}@p.example?Replaces=a%3Bto-tag=b SIP/2.0"),
    "baddate": message(more="Date: Fri, 01 Jan 2010 16:00:00 EST"),
    "regbadct": message(
        "REGISTER sip:b.example SIP/2.0", CSeq="CSeq: 1 REGISTER", Contact="Contact: sip:u@{v}?R=%3Cs>"
    ),
    "badaspec": message(
        To="To: <sip:{n}@[::1.2.3>", From="From: Bell, Alexander <sip:+390844123456@a.example>;tag={i}"
    ),
    "baddn": message(From="From: Bell, Alexander <sip:+390844123456@a.example>;tag={i}"),
    "badvers": message("INVITE sip:{n}@p.example SIP/7.0"),
    "mismatch01": message("OPTIONS sip:{n}@p.example SIP/2.0"),
    "mismatch01 reversed": message(CSeq="CSeq: 1 OPTIONS"),
    "mismatch02": message("NEWMETHOD sip:{n}@p.example SIP/2.0"),
    "bigcode": "SIP/2.0 4294967301 better not break the receiver\r\n" + VIA + "\r\nFrom: <sip:a@b>;tag=1\r\n"
    "To: <sip:{n}@b>;tag=2\r\nCall-ID: {i}\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n",
    "badbranch": message(Via="Via: SIP/2.0/UDP {v};branch=z9hG4bK"),
    "insuf": message(**{"Call-ID": "", "From": "", "To": ""}),
    "unkscm": message("INVITE nobodyKnowsThisScheme:{n} SIP/2.0"),
    "novelsc": message("INVITE soap.beep://{n}:3002 SIP/2.0"),
    "unksm2": message(To="To: <isbn:2983792873>", From="From: <http://www.example.com>;tag={i}"),
    "bext01": message(more="Require: nothingSupportsThis\r\nProxy-Require: noProxiesSupportThis"),
    "invut": message(
        more="Content-Type: application/unknownformat", body="<audio/>", Length="Content-Length: 8"
    ),
    "regaut01": message(more="Authorization: NoOneKnowsThisScheme opaque-data=here"),
    "multi01": message(
        more="CSeq: 59 INVITE\r\nCall-ID: other{i}\r\nMax-Forwards: 5\r\nTo: sip:other@o.example\r\n"
        "From: sip:other@o.example;tag=o\r\nCSeq: 61 INVITE"
    ),
    "mcl01": message(more="Content-Length: 5", body="hello"),
    "bcast": "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.6;branch=z9hG4bKx\r\n"
    + VIA
    + "\r\nFrom: <sip:a@b>;tag=1\r\n"
    "To: <sip:{n}@b>;tag=2\r\nCall-ID: {i}\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n",
    "zeromf": message(**{"Max-Forwards": "Max-Forwards: 0"}),
    "cparam01": message(Contact="Contact: sip:c@{v};unknownparam"),
    "cparam02": message(Contact="Contact: <sip:c@{v}?Route=%3Csip:sip.example.com%3E>"),
    "regescrt": message(Contact="Contact: <sip:c@{v}?Replaces=x>"),
    "sdp01": message(more="Accept: text/nobodyKnowsThis", body="v=0\r\n", Length="Content-Length: 5"),
    "inv2543": "INVITE sip:{n}@p.example SIP/2.0\r\nVia: SIP/2.0/UDP {v}\r\nFrom: <sip:+390844123456@a.example>\r\n"
    "To: <sip:{n}@b.example>\r\nCall-ID: old{i}\r\nCSeq: 56 INVITE\r\nContent-Length: 0\r\n\r\n",
    # Further messages in the spirit of the RFC.
    "two targets": message("INVITE sip:{n}@p.example SIP/2.0\r\nINVITE sip:+390699999999@p.example SIP/2.0"),
    "a second request behind": message()
    + message("INVITE sip:+390699999999@p.example SIP/2.0", **{"Call-ID": "Call-ID: b{i}"}),
    "a second request for a body": message(Length="")
    + message("INVITE sip:+390699999999@p.example SIP/2.0", **{"Call-ID": "Call-ID: b{i}"}),
    "two callers": message(
        From="From: <sip:+390844123456@a.example>;tag={i}, <sip:+390699999999@a.example>;tag=x"
    ),
    "two called": message(To="To: <sip:{n}@b.example>, <sip:+390699999999@b.example>"),
    "a caller behind the caller": message(
        From="From: <sip:+390844123456@a.example>;tag={i};x=<sip:+390699999999@a.example>"
    ),
    "a line feed alone": message().replace("\r\n", "\n"),
    "compact": message(From="f: <sip:+390844123456@a.example>;tag={i}", To="t: <sip:{n}@b.example>"),
    "a header in the user": message("INVITE sip:{n}%0d%0aRoute:x@p.example SIP/2.0"),
    "a tel URI in a SIP URI": message("INVITE sip:tel:{n}@p.example SIP/2.0"),
    "two ats": message("INVITE sip:{n}@+390699999999@p.example SIP/2.0"),
    "no number": message("INVITE sip:p.example SIP/2.0"),
    "a tag without a value": message(To="To: <sip:{n}@b.example>;tag="),
    "a tag twice": message(To="To: <sip:{n}@b.example>;tag=a;tag=b"),
    "hash": message("INVITE sip:%23{n}%23@p.example SIP/2.0"),
}


def torture(number: str, sender: str, run: str) -> dict[str, bytes]:
    """Return the messages, keyed by name. `run` makes the ids differ from those of an earlier run."""
    return {
        name: text.replace("{n}", number).replace("{v}", sender).replace("{i}", f"{run}-{at}").encode()
        for at, (name, text) in enumerate(TORTURE.items())
    }
