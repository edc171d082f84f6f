#!/usr/bin/env python3
"""Hostile messages: what ends data and what does not, what is refused, and that what leaves is what was accepted."""
import os
import random
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from hostile import dotted, hostile, received, short  # noqa: E402

OK, BARE, LOOP = "250 2.0.0", "550 5.6.0", "554 5.4.6"
HEAD = b"Subject: x\r\n\r\n"
OWN = b"Received: from a (b [192.0.2.1])\r\n\tby mta1.bindpost.example (bindpost) with ESMTP id %d;\r\n\tFri, 20 Nov 2026 12:00:00 +0000\r\n"
OTHER = b"Received: from a by b with SMTP id %d; Fri, 20 Nov 2026 12:00:00 +0000\r\n"
END = b"\r\n.\r\n"

# not the end of data: all that follows is still the message, and it is refused
NO_END = [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r\n.\n", b"\n.\r", b"\r.\n", b"\r\n.\r\r\n", b"\r\n\0.\r\n",
          b"\r\n.\0\r\n", b"\0.\0", b"\n\r.\n\r", b"\n\r.\r\n", b"\r\n\n.\r\n", b"\r\n.\n\r", b"\r\n.\r.\r\n", b"\n\n.\n\n", b"\r\n.\x00\n"]

# (name, what is sent after 354 without the end of data (CRLF.CRLF), the reply)
REFUSED = [
    ("a bare LF in the body", HEAD + b"a\nb", BARE), ("a bare CR in the body", HEAD + b"a\rb", BARE),
    ("a bare LF in the header", b"Subject: x\nTo: y\r\n\r\nbody", BARE), ("a bare CR in the header", b"Subject: x\rTo: y\r\n\r\nbody", BARE),
    ("NUL in the body", HEAD + b"a\0b", BARE), ("NUL in the header", b"Subject: \0\r\n\r\nbody", BARE),
    ("NUL first", b"\0" + HEAD, BARE), ("NUL last", HEAD + b"x\0", BARE), ("NUL in a field's name", b"Sub\0ject: x\r\n\r\nbody", BARE),
    ("LF first", b"\n" + HEAD, BARE), ("CR first", b"\r" + HEAD, BARE), ("all of it with LF", HEAD.replace(b"\r", b"") + b"a\nb", BARE),
    ("CR CR LF", HEAD + b"a\r\r\nb", BARE), ("LF CR", HEAD + b"a\n\rb", BARE), ("CR last", HEAD + b"a\r", BARE),
    ("a bare LF behind a dot", HEAD + b".\nx", BARE), ("a bare CR behind a dot", HEAD + b".\rx", BARE),
    ("a bare LF after 100 KB", HEAD + b"x" * 100000 + b"\n", BARE), ("NUL after 200 KB", HEAD + (b"x" * 70 + b"\r\n") * 3000 + b"\0", BARE),
    ("a stamp with a bare LF", b"X-Binding: acme\nX-Binding: bravo\r\n\r\nbody", BARE),
    ("a stamp with a bare CR", b"X-Binding: acme\rX-Binding: bravo\r\n\r\nbody", BARE),
    ("an empty line of bare LF before the stamp", b"Subject: x\n\nX-Binding: acme\r\n\r\nbody", BARE),
    ("11 own Received", b"".join(OWN % i for i in range(11)) + HEAD, LOOP),
    ("11 own Received between others", b"".join(OWN % i + OTHER % i for i in range(11)) + HEAD, LOOP),
    ("101 Received", b"".join(OTHER % i for i in range(101)) + HEAD, LOOP),
    ("101 Received in mixed case, with a blank", b"".join((OTHER % i).replace(b"Received:", b"rEceIVED \t:") for i in range(101)) + HEAD, LOOP),
    ("1,000 Received", b"".join(OTHER % i for i in range(1000)) + HEAD, LOOP),
    ("91 others and 11 own", b"".join(OTHER % i for i in range(91)) + b"".join(OWN % i for i in range(11)) + HEAD, LOOP),
    ("11 own Received, folded elsewhere", b"".join((OWN % i).replace(b" (bindpost)", b"\r\n (bindpost)") for i in range(11)) + HEAD, LOOP),
    ("11 own Received and a bare LF", b"".join(OWN % i for i in range(11)) + HEAD + b"\n", BARE),
]

LONG = b"x" * 100000
ACCEPTED = [
    ("nothing at all", b""), ("an empty line", b"\r\n"), ("two empty lines", b"\r\n\r\n"), ("no header", b"\r\nbody\r\n"),
    ("no body", b"Subject: x\r\n"), ("no body, but the separator", b"Subject: x\r\n\r\n"),
    ("text without header or separator", b"just some text\r\nand more\r\n"), ("a line of one dot", HEAD + b".\r\n"),
    ("only dots", HEAD + b".\r\n..\r\n...\r\n....\r\n"), ("a dot first of all", b".Subject: x\r\n\r\nbody\r\n"),
    ("dots in the header", b"Subject: x\r\n.X: y\r\n..\r\n\r\nbody\r\n"), ("a dot behind a blank", HEAD + b" .\r\n"),
    ("a dot and a blank", HEAD + b". \r\n"), ("dots at the end of lines", HEAD + b"a.\r\nb..\r\n"),
    ("a line of 1 MB", HEAD + LONG * 10 + b"\r\n"), ("a line of dots", HEAD + b"." * 70000 + b"\r\n"),
    ("a field of 100 KB in one line", b"X-Long: " + LONG + b"\r\n" + HEAD + b"body\r\n"),
    ("a field of 100 KB in 1,000 lines", b"X-Long: x" + (b"\r\n\t" + b"y" * 98) * 1000 + b"\r\n" + HEAD),
    ("a field's name of 100 KB", LONG + b": x\r\n" + HEAD), ("a line of 100 KB without a colon", LONG + b"\r\n" + HEAD),
    ("10,000 fields", b"".join(b"X-%d: %d\r\n" % (i, i) for i in range(10000)) + HEAD + b"body\r\n"),
    ("60,000 fields", b"".join(b"X: %d\r\n" % i for i in range(60000)) + HEAD + b"body\r\n"),
    ("10,000 lines in the header that are no fields", b"no field\r\n" * 10000 + HEAD),
    ("a continuation line first", b" folded\r\n" + HEAD), ("only continuation lines", b" a\r\n\tb\r\n \r\n\r\nbody\r\n"),
    ("a stamp's name in a continuation line", b"Subject: x\r\n X-Binding: bravo\r\n\r\nbody\r\n"),
    ("a continuation of blanks only", b"Subject: x\r\n \t\r\n y\r\n\r\nbody\r\n"),
    ("fields without names", b": x\r\n: y\r\n" + HEAD), ("a colon alone", b":\r\n" + HEAD), ("colons", b"::::\r\n" + HEAD),
    ("an mbox line first", b"From a@b Fri Nov 20 12:00:00 2026\r\n" + HEAD), ("8-bit in a field's name", b"S\xfcbject: x\r\n\r\nbody\r\n"),
    ("all bytes but CR, LF, NUL", HEAD + bytes(i for i in range(1, 256) if i not in (10, 13)) + b"\r\n"),
    ("bad UTF-8", b"Subject: \xff\xfe\xc0\x80\r\n\r\n\xf5\xed\xa0\x80\r\n"), ("control bytes", HEAD + b"\x01\x08\x0b\x0c\x1a\x1b[2J\x7f\r\n"),
    ("commands in the body", HEAD + b"QUIT\r\nMAIL FROM:<a@b>\r\nDATA\r\n250 ok\r\n354 go\r\n"),
    ("a second message in the body", HEAD + b"\r\n..\r\nMAIL FROM:<x@y>\r\n"),
    ("10 own Received", b"".join(OWN % i for i in range(10)) + HEAD), ("100 Received", b"".join(OTHER % i for i in range(100)) + HEAD),
    ("200 Received in the body", HEAD + b"".join(OTHER % i for i in range(200))),
    ("200 Received in one field's continuation", b"X: y\r\n" + b"".join(b" " + OTHER % i for i in range(200)) + HEAD),
    ("another host's own Received", b"".join((OWN % i).replace(b"mta1", b"mta2") for i in range(20)) + HEAD),
    ("a Received of 100 KB", b"Received: " + LONG + b"\r\n" + HEAD), ("a Message-ID of 300 KB", b"Message-ID: <" + LONG * 3 + b">\r\n" + HEAD),
    ("1,000 Message-IDs", b"Message-ID: <a@b>\r\n" * 1000 + HEAD), ("an unfinished MIME structure", b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n"),
    ("3 MB", HEAD + (b"y" * 998 + b"\r\n") * 3000),
]


def one(h, raw, hello="LHLO", size=10**6, n=1):
    """Hands raw (with its end) over; the replies, one more command's, and the recipients' names."""
    names = [h.name() for _ in range(n)]
    with h.client(h.unix if h.serial % 2 else h.tcp) as c:
        c.mail("a@b.example", *names, hello=hello)
        if c.say("DATA")[:3] != "354":
            return ["no 354"], None, names
        for i in range(0, len(raw), size):
            c.send(raw[i:i + size])
        c.send("NOOP\r\n")
        got = [short(r) for r in c.replies(n if hello == "LHLO" else 1)]
        return got, short(c.reply()), names


def ends(tap, h):
    """Smuggling: only CRLF.CRLF ends data, so what follows anything else is never a command."""
    silent = []
    for separator in NO_END:
        for before in (b"body", b""):
            name = h.name("d1.example")
            evil = b"MAIL FROM:<evil@evil.example>\r\nRCPT TO:<" + name.encode() + b">\r\nDATA\r\nSubject: evil\r\n\r\nx"
            got, after, _ = one(h, HEAD + before + separator + evil + END)
            tap.equal((got, after), ([BARE], OK), "not the end of data: %r after %r" % (separator, before))
            silent.append(name)
    # this one is the end, though a bare CR stands before it
    with h.client() as c:
        c.mail("a@b.example", h.name())
        tap.equal([short(r) for r in c.data(HEAD + b"x\r" + END + b"NOOP\r\nRSET\r\n", 3)], [BARE, OK, OK], "CR CRLF.CRLF is the end, of a bad message")
    # data before 354, commands behind the end in the same packet
    for hello in ("LHLO", "EHLO"):
        names = [h.name(), h.name()]
        with h.client() as c:
            c.send("%s x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<%s>\r\nDATA\r\n" % (hello, names[0]))
            c.send(dotted(received(names[0])) + b"MAIL FROM:<>\r\nRCPT TO:<" + names[1].encode() + b">\r\nDATA\r\n" + dotted(received(names[1])) + b"QUIT\r\n")
            tap.equal([short(r) for r in c.replies(10)], ["250", "250 2.1.0", "250 2.1.5", "354", OK, "250 2.1.0", "250 2.1.5", "354", OK, "221 2.0.0"],
                      hello + ": data before 354, commands behind the end")
        for name in names:
            h.arrived(name)
    with h.client() as c:  # no 354: what follows are commands
        c.say("LHLO x")
        c.send("DATA\r\nSubject: x\r\n\r\n.\r\nNOOP\r\n")
        tap.equal([short(r) for r in c.replies(5)], ["503 5.5.1", "500 5.5.1", "500 5.5.2", "500 5.5.1", OK], "refused DATA: its data are commands")
    h.check_up("ends of data")
    tap.equal([n for n in silent if h.rows(n)], [], "nothing smuggled arrived")


def refused(tap, h):
    silent = []
    for what, raw, want in REFUSED:
        for hello, n, size in (("LHLO", 1, 10**6), ("LHLO", 3, 10**6), ("EHLO", 3, 10**6), ("LHLO", 1, 37 if len(raw) < 9999 else 1999)):
            got, after, names = one(h, raw + END, hello, size, n)
            good = got == [want] * (n if hello == "LHLO" else 1) and after == OK
            silent += names
            if not good or (n == 1 and size == 10**6):
                tap.ok(good, "refused: %s (%s, %d recipients, chunks of %d)" % (what, hello, n, size), got, want, after)
    h.check_up("refused messages")
    tap.equal([n for n in silent if h.rows(n)], [], "nothing refused arrived")
    tap.equal(h.rig.bindpost_json("messages")["items"], [], "nor waits")


def accepted(tap, h):
    for hello, size in (("LHLO", 10**7), ("EHLO", 1369), ("LHLO", 5)):
        sent = []
        for what, raw in ACCEPTED:
            if size > 5 or len(raw) < 5000:
                got, after, (name,) = one(h, dotted(raw), hello, size)
                if (got, after) != ([OK], OK) or size > 9999:
                    tap.equal((got, after), ([OK], OK), "accepted: %s (%s, chunks of %d)" % (what, hello, size))
                sent.append((what, raw, name))
        for what, raw, name in sent:
            row = h.arrived(name)
            good = not row["bare"] and h.bytes_of(row) == raw
            if not good or size > 9999:
                tap.ok(good, "as it was: " + what, h.bytes_of(row)[:500], raw[:500])
    h.check_up("odd messages")


def reference(stream):
    """Where data ends in stream, whether it is bad, and the text: by the rule alone, only CRLF.CRLF ends it."""
    at = 3 if stream.startswith(b".\r\n") else stream.index(END) + len(END)
    text = stream[:at - 3]
    lines = re.split(rb"(?<=\r\n)", text)
    return (at, bool(re.search(rb"(?<!\r)\n|\r(?!\n)|\0", text)),
            b"".join(line[1:] if line.startswith(b".") else line for line in lines))


def chance(tap, h):
    """Random streams of the bytes that matter, in random chunks, against the rule in one line."""
    seed = int(os.environ.get("SEED", "20261120"))
    dice = random.Random(seed)
    wrong, sent = [], []
    for i in range(300):
        words = [b"\r\n", b".", b"..", b"x", b" ", b"\xe9", b"\r\n."] + ([b"\r", b"\n", b"\0"] if i % 2 else [])
        stream = (b"" if i % 3 else HEAD) + b"".join(dice.choice(words) for _ in range(dice.randrange(60))) + END
        at, bad, text = reference(stream)
        name = h.name()
        with h.client(h.unix) as c:
            c.mail("a@b.example", name)
            c.say("DATA")
            raw, pos = stream[:at] + b"NOOP\r\n", 0
            while pos < len(raw):
                step = dice.choice((1, 2, 3, 5, 100))
                c.send(raw[pos:pos + step])
                pos += step
            got = [short(r) for r in c.replies(2)]
        if got != [BARE if bad else OK, OK]:
            wrong.append((stream, got))
        elif not bad:
            sent.append((name, text))
    tap.equal(wrong[:3], [], "300 random streams (SEED=%d): each ends and is judged by the rule" % seed)
    wrong = [(name, text) for name, text in sent if h.bytes_of(h.arrived(name)) != text]
    tap.equal(wrong[:3], [], "the %d good ones arrive as they were" % len(sent))
    h.check_up("random streams")


def body(tap, h):
    began = time.monotonic()
    for group in (ends, refused, accepted, chance):
        group(tap, h)
        if os.environ.get("TIMES"):
            print("# %s: %.1f s" % (group.__name__, time.monotonic() - began))


hostile(body)
