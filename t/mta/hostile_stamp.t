#!/usr/bin/env python3
"""Stamps from outside: every way to be wrong, what each option makes of it, keys, and that none ever leaves."""
import base64
import hashlib
import hmac
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from hostile import dotted, hostile, short, wait_for  # noqa: E402

OK, LATER, NEVER = "250 2.0.0", "451 4.7.1", "550 5.7.1"
MAC43 = "A" * 43
RULE = "rcptto_domain == 'd1.example'"
DIGEST = hashlib.sha256(RULE.encode()).hexdigest()[:8]
BINDINGS = {"default": 100, "acme": 101, "bravo": 102, "coyote": 103, "s1": 104, "s2": 105}

# (value, the binding it leads to)
GOOD = [(" acme", "acme"), ("acme", "acme"), ("\tacme\t ", "acme"), (" acme; b=match_domain", "acme"), (" bravo;b=x", "bravo"),
        (" acme;  b=x;\t s=0123abCD;p=low", "acme"), ("\r\n acme", "acme"), ("\r\n\tacme;\r\n\tb=x;\r\n p=high", "acme"),
        (" acme;\r\n \r\n\t b=x", "acme"), (" default", "default"), (" default; b=default", "default"), (" s1; b=x", "s1"),
        (" group:shared", "s1 s2"), (" group:shared; b=x; s=00000000", "s1 s2"), (" group:shared; s=FFFFFFFF", "s1 s2"),
        (" acme; p=normal", "acme"), (" acme; r=toD1/%s/bravo" % DIGEST, "acme"), (" acme; r=toD1/%s/group:shared/00000001" % DIGEST, "acme"),
        (" acme; r=a/00000000/bravo,\r\n\tb/11111111/bravo, toD1/%s/bravo" % DIGEST, "acme"), (" acme; r=toD1/%s/bravo" % DIGEST.upper(), "acme"),
        (" acme; t=1; m=0; h=" + MAC43, "acme"), (" acme; b=" + "x" * 64, "acme"), (" acme; b=!#$%&()*+-.<=>?@[]^_`{|}~", "acme"),
        (" acme; r=" + ",\r\n\t".join("x%d/00000000/bravo" % i for i in range(2000)), "acme")]

SYNTAX = ["", " ", "\r\n ", " ;", " acme;", " acme; ", " acme;; b=x", " ; b=x", " acme ; b=x", " acme b=x", " acme trailing", " acme,bravo",
          " acme, bravo", " acme; x=1", " acme; b", " acme; b=", " acme; b=a b", " acme; b=\"x\"", " acme; b=a;b=a", " acme; b=x; b=x",
          " acme; b=x trailing", " acme; B=x", " acme; b =x", " acme; b= x", " acme; b=x;", " acme; b=" + "x" * 65, " acme; b=caf\xc3\xa9",
          " acme; p=urgent", " acme; p=HIGH", " acme; p=high; p=high", " acme; p=highest", " acme; p=", " acme; p=low; b=x",
          " acme; s=1234567", " acme; s=123456789", " acme; s=xyzxyzxy", " acme; s=", " acme; s=00000000; s=00000000", " acme; s=-1234567",
          " acme; s=0x123456", " acme; r=", " acme; r=x", " acme; r=x/12345678", " acme; r=x/12345678/", " acme; r=x/1234567/acme",
          " acme; r=x/123456789/acme", " acme; r=/12345678/acme", " acme; r=x/12345678/acme,", " acme; r=x/12345678/acme,,y/12345678/acme",
          " acme; r=x/12345678/acme/123", " acme; r=x/12345678/acme/123456789", " acme; r=x/12345678/acme;y/12345678/acme",
          " acme; r=x/12345678/acme; r=x/12345678/acme", " acme; t=1", " acme; m=1", " acme; h=" + MAC43, " acme; t=1; m=1",
          " acme; t=1; h=" + MAC43, " acme; m=1; h=" + MAC43, " acme; t=; m=0; h=" + MAC43, " acme; t=-1; m=0; h=" + MAC43,
          " acme; t=x; m=0; h=" + MAC43, " acme; t=1; m=2; h=" + MAC43, " acme; t=1; m=; h=" + MAC43, " acme; t=1; m=01; h=" + MAC43,
          " acme; t=" + "9" * 30 + "; m=0; h=" + MAC43, " acme; t=1; m=0; h=", " acme; t=1; m=0; h=" + MAC43[1:],
          " acme; t=1; m=0; h=" + MAC43 + "=", " acme; t=1; m=0; h=" + MAC43 + "A", " acme; t=1; m=0; h=+" + MAC43[1:],
          " acme; t=1; m=0; h=/" + MAC43[1:], " acme; t=1; m=0; h=" + MAC43 + "; b=x", " acme; m=0; t=1; h=" + MAC43,
          " acme; h=" + MAC43 + "; t=1; m=0", " acme; t=1; t=1; m=0; h=" + MAC43, " group:", " group:;", " group:group:shared",
          " :acme", " acme:", " Group:shared", " acme/bravo", " \"acme\"", " 'acme'", " " + "x" * 65, " acm\xc3\xa9", " acme\x01",
          " \x7f", " acme\xc2\xa0", " (comment) acme", " acme (comment)", " acme\r\n trailing", " ac\r\n me", " acme; b=x\r\n y",
          " acme; b\r\n =x", " acme" + " " * 70000 + "x", " " + "x" * 200000, " acme; " + "b=x; " * 50000, "\x0b acme", " acme;\x0bb=x",
          " acme; r=x/12345678/group:"]
UNKNOWN = [" nobody", " group", " Acme", " ACME", " acm", " acmee", " group:none", " group:acme", " shared", " group:default", " group:s1",
           " acme; r=x/12345678/nobody", " acme; r=toD1/%s/group:none" % DIGEST, " *", " .", " ..", " %s%n", " ={}", " acme=x"]
TWO = ["X-Binding: acme\r\nX-Binding: acme\r\n", "X-Binding: acme\r\nSubject: y\r\nx-binding: bravo\r\n", "X-Binding: acme\r\nX-BINDING :\r\n bravo\r\n",
       "X-Binding: acme\r\nX-Binding:\r\n", "X-Binding:\r\nX-Binding: acme\r\n", "X-Binding: acme\r\n" * 500, "X-Binding: acme\r\nX-Binding\t: nonsense;;\r\n"]

# the header section around a stamp for acme: (name, before, the stamp's lines, behind)
PLACES = [("first", "", "X-Binding: acme\r\n", ""), ("in the middle", "From: a\r\n", "X-Binding: acme\r\n", "To: b\r\n"),
          ("last", "From: a\r\nTo: b\r\n", "X-Binding: acme\r\n", ""), ("lower case", "A: 1\r\n", "x-binding: acme\r\n", ""),
          ("upper case", "A: 1\r\n", "X-BINDING:acme\r\n", "B: 2\r\n"), ("mixed case", "", "x-BiNdInG: acme\r\n", ""),
          ("a blank before the colon", "A: 1\r\n", "X-Binding : acme\r\n", "B: 2\r\n"), ("blanks before the colon", "A: 1\r\n", "X-Binding \t \t: acme\r\n", ""),
          ("folded at once", "A: 1\r\n", "X-Binding:\r\n\tacme\r\n", " B: 2\r\n"[1:]), ("behind a folded field", "A: 1\r\n 2\r\n\t3\r\n", "X-Binding: acme\r\n", "B: 2\r\n"),
          ("folded thrice", "A: 1\r\n", "X-Binding:\r\n \r\n\t\r\n acme\r\n", "B: 2\r\n"), ("behind a line that is no field", "no field\r\n", "X-Binding: acme\r\n", "B: 2\r\n"),
          ("behind 5,000 fields", "A: 1\r\n" * 5000, "X-Binding: acme\r\n", "B: 2\r\n" * 5000), ("behind a field of 200 KB", "A: " + "y" * 200000 + "\r\n", "X-Binding: acme\r\n", ""),
          ("behind names that are nearly its own", "X-Bindin: bravo\r\nX-Bindings: bravo\r\nXX-Binding: bravo\r\n X-Binding: bravo\r\n", "X-Binding: acme\r\n", "X-Binding-X: bravo\r\n"),
          ("behind its name without a colon", "X-Binding\r\nX-Binding bravo\r\n", "X-Binding: acme\r\n", ""),
          ("behind a Received that quotes it", "Received: by X-Binding: bravo; x\r\n", "X-Binding: acme\r\n", "")]
NOT_ONE = [("in the body", "A: 1\r\n\r\nX-Binding: acme\r\n"), ("in the body at once", "\r\nX-Binding: acme\r\n\r\nx\r\n"),
           ("in a continuation line", "A: 1\r\n X-Binding: acme\r\n\r\nx\r\n"), ("without a colon", "X-Binding acme\r\n\r\nx\r\n"),
           ("another name", "X-Bindings: acme\r\n\r\nx\r\n"), ("a byte before it", "\xffX-Binding: acme\r\n\r\nx\r\n"),
           ("its name folded", "X-\r\n Binding: acme\r\n\r\nx\r\n"), ("a form feed before the colon", "X-Binding\x0c: acme\r\n\r\nx\r\n")]
WAYS = {"tempfail": LATER, "reject": NEVER, "default": OK, "policy": OK}


class Post:
    """Hands messages over and knows what must become of each."""

    def __init__(self, tap, h):
        self.tap, self.h, self.due, self.silent = tap, h, [], []

    def send(self, head, sender="a@b.example", to=("d0.example",), hello="LHLO", body="\r\nbody\r\n", leaves=None, binding=None):
        """Returns the replies; notes that what was accepted must arrive as `leaves`, from `binding`'s address."""
        names = [self.h.name(domain) for domain in to]
        raw = (head + body).encode("latin-1")
        with self.h.client(self.h.unix) as c:
            c.mail(sender, *names, hello=hello)
            said = [short(r) for r in c.data(dotted(raw), len(to) if hello == "LHLO" else 1)]
            if short(c.say("NOOP")) != OK:
                said.append("out of step")
        for i, name in enumerate(names):
            if said[i if hello == "LHLO" else 0] != OK:
                self.silent.append(name)
            elif binding:
                self.due.append((name, (leaves if leaves is not None else raw.decode("latin-1")).encode("latin-1"),
                                 binding[i] if isinstance(binding, list) else binding, head))
        return said

    def collect(self, what):
        """All that was accepted arrives as it should; nothing that was refused ever does."""
        h, wrong = self.h, []
        for name, leaves, binding, head in self.due:
            row = h.arrived(name)
            if (row["peer"] not in [h.rig.ip(BINDINGS[b]) for b in binding.split()] or h.bytes_of(row) != leaves or row["bare"]
                    or len(h.rows(name)) != 1):
                wrong.append((head[:100], row["peer"], binding, h.bytes_of(row)[:100]))
        self.tap.equal(wrong[:5], [], "%s: %d accepted messages arrive without stamp, from the right address" % (what, len(self.due)))
        h.check_up(what)
        self.tap.equal([n for n in self.silent if h.rows(n)], [], "%s: %d refused ones never do" % (what, len(self.silent)))
        self.due, self.silent = [], []


def reasons(h):
    return {r: h.metric('bindpost_handoff_bad_stamp_total{reason="%s"}' % r)
            for r in ("syntax", "two", "no_mac", "bad_mac", "expired", "future", "unknown_binding")}


class Counted:
    """Within it, exactly these bad stamps must be counted, and told by events."""

    def __init__(self, tap, h, what, **want):
        self.tap, self.h, self.what, self.want = tap, h, what, want

    def __enter__(self):
        self.before, self.events = reasons(self.h), len(self.h.rig.events("bad_stamp"))

    def __exit__(self, kind, *rest):
        if kind:
            return
        after, total = reasons(self.h), sum(self.want.values())
        got = {r: after[r] - self.before[r] for r in after if after[r] != self.before[r]}
        self.tap.equal(got, {k: v for k, v in self.want.items() if v}, self.what + ": each reason has its counter")
        wait_for("the events", lambda: len(self.h.rig.events("bad_stamp")) >= self.events + total)
        told = [e["reason"] for e in self.h.rig.events("bad_stamp")[self.events:]]
        self.tap.equal({r: told.count(r) for r in told}, {k: v for k, v in self.want.items() if v}, self.what + ": and its event")


def forms(tap, h):
    """Without a key: what is a stamp, and which are good."""
    post = Post(tap, h)
    with Counted(tap, h, "good stamps"):
        for value, binding in GOOD:
            got = post.send("Subject: x\r\nX-Binding:%s\r\n" % value, leaves="Subject: x\r\n\r\nbody\r\n", binding=binding)
            tap.equal(got, [OK], "good: %.60r" % value)
        for what, before, stamp, behind in PLACES:
            got = post.send(before + stamp + behind, leaves=before + behind + "\r\nbody\r\n", binding="acme")
            tap.equal(got, [OK], "the stamp " + what)
        for what, text in NOT_ONE:
            tap.equal(post.send(text, body="", binding="default"), [OK], "no stamp: " + what)
        got = post.send("X-Binding: acme\r\n", to=("d0.example", "d1.example"), leaves="\r\nbody\r\n", binding="acme")
        tap.equal(got, [OK, OK], "no open rule: the target in front for every recipient")
        got = post.send("X-Binding: acme; r=toD1/%s/bravo\r\n" % DIGEST, to=("d0.example", "d1.example"), leaves="\r\nbody\r\n",
                        binding=["acme", "bravo"])
        tap.equal(got, [OK, OK], "an open rule decides for its recipients")
        before = len(h.rig.events("stale_rule"))
        post.send("X-Binding: acme; r=toD1/12345678/bravo\r\n", to=("d1.example",), leaves="\r\nbody\r\n", binding="acme")
        wait_for("stale_rule", lambda: len(h.rig.events("stale_rule")) > before)
        tap.ok(True, "an open rule of another policy is skipped, with an event")
    post.collect("good stamps")


def bad(tap, h):
    """Each bad stamp under each choice, LMTP and EHLO."""
    post = Post(tap, h)
    table = [("syntax", "X-Binding:%s\r\n" % v) for v in SYNTAX] + [("unknown_binding", "X-Binding:%s\r\n" % v) for v in UNKNOWN]
    table += [("two", v) for v in TWO]
    for way, want in WAYS.items():
        h.reconfigure(handoff={"bad_stamp": way})
        # once each in full, under the other choices one in five
        rows = table if way in ("tempfail", "policy") else table[::5] + table[-1:]
        count = {r: 2 * sum(1 for row in rows if row[0] == r) for r in ("syntax", "unknown_binding", "two")}
        with Counted(tap, h, way, **count):
            for reason, stamp in rows:
                leaves = "Subject: y\r\n" * stamp.count("Subject") + "X-Customer: bravo\r\n\r\nbody\r\n"
                binding = {"default": "default", "policy": "bravo"}.get(way)
                for hello in ("LHLO", "EHLO"):
                    got = post.send(stamp + "X-Customer: bravo\r\n", hello=hello, leaves=leaves, binding=binding,
                                    to=("d0.example",) if hello == "LHLO" else ("d0.example", "d0.example"))
                    if got != [want] or hello == "LHLO":
                        tap.equal(got, [want], "%s: %s (%s): %.60r" % (way, reason, hello, stamp))
        # the null reverse-path is never refused: the rules are asked
        got = [post.send("X-Binding: nobody\r\nX-Customer: bravo\r\n", sender="", leaves="X-Customer: bravo\r\n\r\nbody\r\n", binding="bravo"),
               post.send("X-Binding: ;\r\n", sender="", leaves="\r\nbody\r\n", binding="default"),
               post.send(TWO[0], sender="", leaves="\r\nbody\r\n", to=("d0.example", "d1.example"), binding=["default", "coyote"])]
        tap.equal(got, [[OK], [OK], [OK, OK]], way + ": the null reverse-path is not refused")
        got = post.send("X-Binding: nobody\r\n", to=("d0.example", "d1.example", "d2.example"), leaves="\r\nbody\r\n",
                        binding={"default": "default", "policy": ["default", "coyote", "default"]}.get(way))
        tap.equal(got, [want] * 3, way + ": one reply each recipient")
        post.collect("bad stamps, " + way)
    h.reconfigure()


def unstamped(tap, h):
    post = Post(tap, h)
    for way, want in WAYS.items():
        h.reconfigure(handoff={"unstamped": way})
        policy = way == "policy"
        with Counted(tap, h, "unstamped " + way):
            before = h.metric("bindpost_handoff_unstamped_total")
            for hello in ("LHLO", "EHLO"):
                for head, sender, to, binding in (("A: 1\r\n", "a@b.example", "d0.example", "default"),
                                                  ("X-Customer: bravo\r\n", "a@b.example", "d0.example", "bravo"),
                                                  ("x-customer:\r\n\tbravo \r\n", "a@b.example", "d1.example", "bravo"),
                                                  ("A: 1\r\n", "a@b.example", "d1.example", "coyote"),
                                                  ("A: 1\r\n", "News@ACME.Example", "d0.example", "acme")):
                    got = post.send(head, sender=sender, to=(to,), hello=hello, binding=binding if policy else "default")
                    tap.equal(got, [want], "unstamped %s, %s: %s" % (way, hello, binding))
            got = [post.send("A: 1\r\n", sender="", binding="default"), post.send("X-Customer: bravo\r\n", sender="", binding="bravo"),
                   post.send("A: 1\r\n", sender="", to=("d1.example",), binding="coyote")]
            tap.equal(got, [[OK]] * 3, "unstamped %s: the null reverse-path is not refused, the rules are asked" % way)
            tap.equal(post.send("X-Binding: acme\r\n", leaves="\r\nbody\r\n", binding="acme"), [OK], "unstamped %s: a stamp is taken" % way)
            tap.equal(h.metric("bindpost_handoff_unstamped_total") - before, 13, "unstamped %s: counted" % way)
        post.collect("unstamped, " + way)
    h.reconfigure()


# the header that chooses, and the binding it leads to
CHOICES = [("acme", "acme"), (" acme \t", "acme"), ("\r\n\tacme\r\n ", "acme"), ("group:shared", "s1 s2"), ("default", "default"), ("s1", "s1"),
           ("", "default"), (" ", "default"), ("nobody", "default"), ("ACME", "default"), ("acme, bravo", "default"), ("acme;", "default"), ("group:default", "default"),
           ("group:nobody", "default"), ("ac\r\n me", "default"), ("acme\xa0", "default"), ("acme\x01", "default"), ("\"acme\"", "default"), ("acme" * 30000, "default"),
           ("acme\r\nX-Choose: acme", "default"), ("acme\r\nx-choose: bravo", "default"), ("nobody\r\nX-Choose: acme", "default"), ("acme\r\nX-Chooser: bravo", "acme")]


def headers(tap, h):
    """Rules that deliveryd evaluates, on headers written by whoever likes."""
    post = Post(tap, h)
    for value, binding in CHOICES:
        tap.equal(post.send("X-Choose: %s\r\n" % value, binding=binding), [OK], "a header that chooses: %.50r" % value)
    fields = "A: %s\r\n"
    for what, before in (("20,000 fields", fields % "b" * 20000), ("3 MB of fields", fields % ("b" * 950) * 3200), ("a field of 2 MB", fields % ("b" * 2000000)),
                         ("lines that are no fields", "no field\r\n" * 5000), ("names that are nearly its own", "X-Customers: coyote\r\nX-Custome: coyote\r\n")):
        tap.equal(post.send(before + "X-Customer: bravo\r\n", binding="bravo"), [OK], "a rule's header behind " + what)
        tap.equal(post.send("X-Customer: bravo\r\n" + before, binding="bravo"), [OK], "and before " + what)
    tap.equal(post.send("X-Customer: acme\r\n" * 3000 + "X-Customer: bravo\r\n", binding="bravo"), [OK], "the last of 3,001 instances")
    tap.equal(post.send("A: 1\r\n\r\nX-Customer: bravo\r\n", binding="default"), [OK], "a rule's header in the body")
    post.collect("headers")


def nothing_claims(tap, h):
    """default_binding none and suspended."""
    post = Post(tap, h)
    h.policy["global"]["default_binding"] = "none"
    h.reconfigure()
    for head, leaves in (("A: 1\r\n", "A: 1\r\n\r\nbody\r\n"), ("X-Binding: default; b=default; r=toD1/%s/coyote\r\n" % DIGEST, "\r\nbody\r\n")):
        tap.equal(post.send(head), [LATER], "none: what nothing claims has to wait: %.30r" % head)
        tap.equal(post.send(head, hello="EHLO"), [LATER], "none, EHLO: %.30r" % head)
        tap.equal(post.send(head, to=("d1.example",), leaves=leaves, binding="coyote"), [OK], "none: what a recipient rule claims goes: %.30r" % head)
        got = post.send(head, to=("d0.example", "d1.example", "d0.example"), leaves=leaves, binding="coyote")
        tap.equal(got, [LATER, OK, LATER], "none: per recipient: %.30r" % head)
        got = post.send(head, to=("d1.example", "d0.example"), hello="EHLO")
        tap.equal(got, [LATER], "none, EHLO: one of two unclaimed: nothing is stored: %.30r" % head)
        tap.equal(post.send(head, sender="", leaves=leaves, binding="default"), [OK], "none: the null reverse-path goes to default: %.30r" % head)
    tap.equal(post.send("X-Binding: default; b=explicit\r\n", leaves="\r\nbody\r\n", binding="default"), [OK], "none: an explicit default delivers")
    tap.equal(post.send("X-Binding: acme\r\n", leaves="\r\nbody\r\n", binding="acme"), [OK], "none: claimed mail goes")
    post.collect("default_binding none")
    h.policy["global"]["default_binding"] = "suspended"
    h.reconfigure()
    tap.equal(post.send("X-Held: yes\r\n"), [OK], "suspended: accepted")
    tap.equal(post.send("X-Held: yes\r\n", sender="", hello="EHLO"), [OK], "suspended: the null reverse-path too")
    tap.equal(post.send("X-Customer: bravo\r\n", binding="bravo"), [OK], "suspended: claimed mail is accepted")
    held = ["r%d@d0.example" % i for i in (h.serial - 2, h.serial - 1)]
    post.collect("default_binding suspended")
    tap.equal([n for n in held if h.rows(n)], [], "suspended: and held")
    tap.equal(len(h.rig.bindpost_json("messages")["items"]), 2, "and shown")
    del h.policy["global"]["default_binding"]
    h.reconfigure()
    for name in held:
        tap.equal(h.arrived(name)["peer"], h.rig.ip(100), "normal again: delivered from default")


KEYS = [bytes([i]) * 32 for i in range(1, 5)]


def stamp(value, key=KEYS[0], message_id=None, t=None, m=None, mac=None):
    """A signed stamp, as design section 6 says and nothing else."""
    t = int(time.time()) if t is None else t
    m = (0 if message_id is None else 1) if m is None else m
    text = "%s; t=%s; m=%d" % (value, t, m)
    signed = re.sub(r"\s", "", text) + "\n" + (message_id or "" if m else "")
    h = base64.urlsafe_b64encode(hmac.new(key, signed.encode("latin-1"), hashlib.sha256).digest()).decode().rstrip("=")
    return "%s; h=%s" % (text, mac or h)


def write_keys(h, *keys):
    path = h.rig.path("etc", "stamp.key")
    with open(path + ".new", "w", encoding="ascii") as f:
        f.write("# keys\n\n" + "".join("  %s # a key\n" % (k.hex() if i else k.hex().upper()) for i, k in enumerate(keys)))
    os.chmod(path + ".new", 0o600)
    os.rename(path + ".new", path)


def keys(tap, h):
    post, now = Post(tap, h), int(time.time())
    write_keys(h, KEYS[0], KEYS[1])
    h.reconfigure(stamp={"key_file": "stamp.key", "lifetime": "2d"})
    mid = "<1@test.example>"
    head = "Message-ID: %s\r\n" % mid
    rules = "acme; b=x; r=" + ",".join("rule%d/0123abcd/bravo" % i for i in range(30))
    good = [  # (the header section, with the stamp as {})
        ("alone", stamp("acme"), "X-Binding: {}\r\n"), ("with a Message-ID", stamp("acme", message_id=mid), head + "X-Binding: {}\r\n"),
        ("before the Message-ID", stamp("acme", message_id=mid), "X-Binding: {}\r\n" + head),
        ("second key", stamp("acme", KEYS[1]), "X-Binding: {}\r\n"), ("all parameters", stamp("acme; b=x; s=00000001; p=low"), "X-Binding: {}\r\n"),
        ("signed without Message-ID, one came later", stamp("acme"), head + "X-Binding: {}\r\n"),
        ("Message-ID in other case", stamp("acme", message_id=mid), head.lower() + "X-Binding: {}\r\n"),
        ("Message-ID folded", stamp("acme", message_id=mid), "Message-ID:\r\n " + mid + " \r\nX-Binding: {}\r\n"),
        ("Message-ID folded within", stamp("acme", message_id="<1@ test.example>"), "Message-ID: <1@\r\n test.example>\r\nX-Binding: {}\r\n"),
        ("the first of two Message-IDs", stamp("acme", message_id=mid), head + "Message-ID: <2@x>\r\nX-Binding: {}\r\n"),
        ("an empty Message-ID", stamp("acme", message_id=""), "Message-ID:\r\nX-Binding: {}\r\n"),
        ("8-bit in the Message-ID", stamp("acme", message_id="<\xc3\xa9@x>"), "Message-ID: <\xc3\xa9@x>\r\nX-Binding: {}\r\n"),
        ("just within its lifetime", stamp("acme", t=now - 2 * 86400 + 30), "X-Binding: {}\r\n"),
        ("a little ahead", stamp("acme", t=now + 86400 - 30), "X-Binding: {}\r\n"), ("30 open rules", stamp(rules), "X-Binding: {}\r\n")]
    with Counted(tap, h, "good MACs"):
        for what, value, text in good:
            leaves = re.sub(r"X-Binding: .*\r\n", "", text)
            got = post.send(text.replace("{}", value), leaves=leaves + "\r\nbody\r\n", binding="acme")
            tap.equal(got, [OK], "signed: " + what)
        for separator in (";", "; ", ";\t", ";\r\n ", ";\r\n\t  ", "; \r\n\t\r\n "):
            for what, value, text in good[-1:] + good[4:5]:
                folded = value.replace("; ", separator).replace(",", "," + separator[1:])
                got = post.send("X-Binding:%s\r\n" % (separator[1:] + folded), leaves="\r\nbody\r\n", binding="acme")
                tap.equal(got, [OK], "signed: %s, with %r between" % (what, separator))
    text = stamp("acme; b=x")
    wrong = [("no_mac", "acme"), ("no_mac", "acme; b=x; p=high"), ("bad_mac", stamp("acme", KEYS[2])), ("bad_mac", stamp("acme", mac=MAC43)),
             ("bad_mac", text.replace("acme", "bravo")), ("bad_mac", text.replace("b=x", "b=y")), ("bad_mac", text.replace("b=x", "p=high")),
             ("bad_mac", text.replace("m=0", "m=1")), ("bad_mac", text.replace("t=1", "t=2")), ("bad_mac", text.replace("acme; b=x", "acme")),
             ("bad_mac", stamp("acme", message_id="<other@x>")), ("bad_mac", stamp("acme", message_id=mid, m=1).replace("m=1", "m=0")),
             ("bad_mac", stamp("acme", message_id="", m=1)), ("bad_mac", stamp("acme", message_id=" " + mid)), ("bad_mac", stamp("nobody", KEYS[2])),
             ("expired", stamp("acme", t=now - 2 * 86400 - 60)), ("expired", stamp("acme", t=0)), ("expired", stamp("acme", t=1)),
             ("future", stamp("acme", t=now + 86400 + 60)), ("future", stamp("acme", t=9999999999999999999)), ("future", stamp("acme", t=2**62)),
             ("unknown_binding", stamp("nobody")), ("unknown_binding", stamp("acme; r=x/12345678/nobody")), ("syntax", stamp("acme", t=10**19)),
             ("syntax", stamp("acme") + "; b=x"), ("syntax", stamp("acme") + "="), ("syntax", stamp("acme x")), ("syntax", stamp("acme;"))]
    wrong.append(("bad_mac", re.sub("h=.*", lambda m: m.group(0).swapcase(), text).replace("H=", "h=")))
    count = {}
    for reason, _ in wrong:
        count[reason] = count.get(reason, 0) + 1
    with Counted(tap, h, "wrong MACs", **count):
        for reason, value in wrong:
            tap.equal(post.send(head + "X-Binding: %s\r\n" % value), [LATER], "%s: %.60s" % (reason, value))
    with Counted(tap, h, "a Message-ID that is missing", bad_mac=1):
        tap.equal(post.send("X-Binding: %s\r\n" % stamp("acme", message_id=mid)), [LATER], "the Message-ID that was signed is missing")
    h.stamp = stamp("acme")
    post.collect("keys")
    h.stamp = "acme"
    # rotation: the new one is added to readers, then signs, then the old one goes
    old, new = stamp("acme", KEYS[0]), stamp("acme", KEYS[3])
    for rotation, want in (((0, 1), [OK, LATER]), ((0, 3), [OK, OK]), ((3, 0), [OK, OK]), ((3,), [LATER, OK])):
        write_keys(h, *[KEYS[i] for i in rotation])
        h.reconfigure(stamp={"key_file": "stamp.key", "lifetime": "2d"})
        got = [post.send("X-Binding: %s\r\n" % s, leaves="\r\nbody\r\n", binding="acme")[0] for s in (old, new)]
        tap.equal(got, want, "keys %s in force" % (rotation,))
    h.reconfigure()
    got = [post.send("X-Binding: %s\r\n" % s, leaves="\r\nbody\r\n", binding="acme")[0] for s in (old, new, "acme")]
    tap.equal(got, [OK] * 3, "no key: t, m, h are ignored")
    post.collect("key rotation")


def body(tap, h):
    began = time.monotonic()
    for group in (forms, bad, unstamped, headers, nothing_claims, keys):
        group(tap, h)
        if os.environ.get("TIMES"):
            print("# %s: %.1f s" % (group.__name__, time.monotonic() - began))


def policy(rig):
    from mta import standard_policy
    text = standard_policy(rig)
    text["binding_groups"] = {"shared": {"bindings": {"s1": {"bind_address": rig.ip(104)}, "s2": {"bind_address": rig.ip(105)}}}}
    text["rules"] = text["rules"][:1] + [{"name": "choose", "when": "header:X-Choose =~ ''", "bind": {"header": "X-Choose"}}] + [{"name": "toD1", "when": RULE, "bind": "coyote"}]
    return text


hostile(body, policy=policy)
