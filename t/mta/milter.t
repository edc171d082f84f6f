#!/usr/bin/env python3
"""bindpost-milter behind a real Postfix: what arrives at the handoff carries one stamp, ours."""
import os
import shutil
import smtplib
import sys
import tempfile

src = os.path.abspath(os.environ.get("srcdir") or os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(src, "t/lib"))
from lmtp_sink import Sink  # noqa: E402
from rig import Rig, wait_for  # noqa: E402
from unix_http import Connection  # noqa: E402

POLICY = {
    "bindings": {"acme": {"bind_address": "192.0.2.1", "match_domain": "acme.example"},
                 "beta": {"bind_address": "192.0.2.2"}, "default": {"bind_address": "192.0.2.9"}},
    "rules": [
        {"name": "customer", "when": "header:X-Customer == 'acme'", "bind": "acme"},
        {"name": "port", "when": "header:X-Test == 'port' AND recv_port == '2525'", "bind": "beta"},
        {"name": "addr", "when": "header:X-Test == 'addr' AND recv_ip in '127.0.0.0/8'", "bind": "beta"},
        {"name": "local", "when": "header:X-Test == 'local' AND sender_ip == '127.0.0.1'", "bind": "beta"},
        {"name": "nohost", "when": "header:X-Test == 'host' AND sender_host !~ 'x'", "bind": "beta"},
        {"name": "size", "when": "header:X-Test == 'size' AND size > '200000'", "bind": "beta"},
        {"name": "alias", "when": "rcptto == 'final@dest.example' AND mailfrom_domain == 'open.example'", "bind": "beta"}],
}
TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


class Front(Rig):
    """A rig with a sink instead of deliveryd."""

    def begin(self):
        self.sink = Sink(self.sock("handoff.sock"))
        self.write_config(POLICY)
        self.start_milter()
        aliases = self.path("etc", "virtual")
        with open(aliases, "w", encoding="ascii") as f:
            f.write("/^alias@dest.example$/ final@dest.example\n/^gone@/ nobody@dest.example\n")
        self.aliases = aliases
        self.front_again()

    def front_again(self, **main):
        self.stop_front()
        self.start_postfix(**main, virtual_alias_maps="regexp:" + self.aliases, milter_default_action="tempfail",
                           smtpd_recipient_restrictions="check_recipient_access regexp:" + self.reject())

    def reject(self):
        with open(self.path("etc", "reject"), "w", encoding="ascii") as f:
            f.write("/^refused@/ REJECT\n")
        return self.path("etc", "reject")

    def reload(self, policy):
        self.write_config(policy)
        c = Connection(self.sock("milter-control.sock"))
        c.request("POST", "/v1/reload")
        return c.getresponse().status

    def arrival(self, submit):
        n = len(self.sink.deliveries)
        submit()
        wait_for("mail at the handoff", lambda: len(self.sink.deliveries) > n)
        return self.sink.deliveries[-1]

    def message(self, text, sender="s@example.com", to="u@dest.example"):
        return self.arrival(lambda: self.send(sender, [to], text))


def expect(delivery, *stamps):
    assert delivery.stamps() == list(stamps), "%r in %s" % (delivery.stamps(), delivery.header()[:2000])


@test
def by_header_by_domain_by_default(r):
    expect(r.message("X-Customer: acme\r\n\r\nx\r\n"), "acme; b=customer")
    expect(r.message("Subject: x\r\n\r\nx\r\n", "x@ACME.Example"), "acme; b=match_domain")
    expect(r.message("Subject: x\r\n\r\nX-Customer: acme\r\n"), "default; b=default")
    expect(r.message("Subject: x\r\n\r\nx\r\n", "<>"), "default; b=default")


@test
def forged_stamps_never_decide(r):
    forms = ["X-Binding: beta", "x-binding: beta", "X-BINDING:beta", "X-Binding : beta", "X-Binding\t: beta",
             "X-Binding:\r\n beta", "X-Binding: beta;\r\n\tb=x;\r\n p=high", "X-Binding:", "x-BINDING: " + "y" * 3000]
    for form in forms:
        for text in ("%s\r\nSubject: a\r\n", "Subject: a\r\n%s\r\nTo: b\r\n", "Subject: a\r\n%s\r\n",
                     "%s\r\nSubject: a\r\n%s\r\n%s\r\n"):
            expect(r.message(text.replace("%s", form) + "\r\nX-Binding: body\r\n"), "default; b=default")
    d = r.message("Subject: a\r\n" + "".join(f + "\r\n" for f in forms) + "X-Customer: acme\r\n\r\nbody\r\n")
    expect(d, "acme; b=customer")
    assert d.data.endswith(b"\r\n\r\nbody\r\n") and b"Subject: a\r\n" in d.data


@test
def the_stamp_stands_on_top(r):
    assert r.message("Subject: x\r\n\r\nx\r\n").data.startswith(b"X-Binding: default; b=default\r\nReceived: ")


@test
def submitted_by_the_sendmail_command(r):
    expect(r.arrival(lambda: r.sendmail("s@example.com", ["u@dest.example"], b"X-Binding: acme\nX-Test: local\n\nx\n")),
           "beta; b=local")
    expect(r.arrival(lambda: r.sendmail("x@acme.example", ["u@dest.example"], b"Subject: a\n\nx\n")), "acme; b=match_domain")


@test
def facts_of_the_connection(r):
    expect(r.message("X-Test: port\r\n\r\nx\r\n"), "beta; b=port")
    expect(r.message("X-Test: addr\r\n\r\nx\r\n"), "beta; b=addr")
    # Postfix says "unknown" for a client without a name: that is no fact
    expect(r.message("X-Test: host\r\n\r\nx\r\n"), "default; b=default")


@test
def size_of_large_mail(r):
    line = "x" * 998 + "\r\n"
    expect(r.message("X-Test: size\r\n\r\n" + line * 190), "default; b=default")
    expect(r.message("X-Test: size\r\n\r\n" + line * 200), "beta; b=size")


@test
def several_messages_rset_and_refusals_in_one_session(r):
    with r.client() as c:
        c.ehlo("client.example")
        c.mail("x@acme.example")
        c.rcpt("u@dest.example")
        c.rset()
        c.mail("s@example.com")
        assert c.rcpt("refused@dest.example")[0] == 554
        assert c.rcpt("u@dest.example")[0] == 250
        expect(r.arrival(lambda: c.data("Subject: 1\r\n\r\nx\r\n")), "default; b=default")
        c.mail("s@example.com")
        assert c.rcpt("refused@dest.example")[0] == 554
        c.rset()
        expect(r.arrival(lambda: c.sendmail("s@example.com", ["u@dest.example"], "X-Customer: acme\r\n\r\nx\r\n")),
               "acme; b=customer")
        expect(r.arrival(lambda: c.sendmail("s@example.com", ["u@dest.example"], "Subject: 2\r\n\r\nx\r\n")),
               "default; b=default")


@test
def a_client_that_goes_away_in_mid_message(r):
    for _ in range(5):
        c = r.client()
        c.ehlo("client.example")
        c.mail("x@acme.example")
        c.rcpt("u@dest.example")
        c.docmd("DATA")
        c.sock.sendall(b"X-Customer: acme\r\nSubject: half")
        c.sock.close()
    expect(r.message("Subject: x\r\n\r\nx\r\n"), "default; b=default")


@test
def open_rules_name_no_recipient(r):
    d = r.message("Subject: x\r\n\r\nx\r\n", "s@open.example", "alias@dest.example")
    assert d.recipients == ["<final@dest.example>"], d.recipients
    (stamp,) = d.stamps()
    assert stamp.startswith("default; b=default; r=alias/") and stamp.endswith("/beta") and "@" not in stamp, stamp


@test
def reload_between_messages_of_a_session(r):
    with r.client() as c:
        expect(r.arrival(lambda: c.sendmail("s@example.com", ["u@dest.example"], "X-Customer: acme\r\n\r\nx\r\n")),
               "acme; b=customer")
        swapped = dict(POLICY, rules=[{"name": "new", "when": "header:X-Customer == 'acme'", "bind": "beta"}])
        assert r.reload(swapped) == 200
        expect(r.arrival(lambda: c.sendmail("s@example.com", ["u@dest.example"], "X-Customer: acme\r\n\r\nx\r\n")),
               "beta; b=new")
        assert r.reload(dict(POLICY, rules=[{"when": "nonsense", "bind": "beta"}])) == 409
        expect(r.arrival(lambda: c.sendmail("s@example.com", ["u@dest.example"], "X-Customer: acme\r\n\r\nx\r\n")),
               "beta; b=new")
        # a policy that needs more than this session asked for: 421, and the client comes back
        assert r.reload(dict(POLICY, rules=[{"name": "body", "when": "body =~ 'needle'", "bind": "beta"}])) == 200
        try:
            c.sendmail("s@example.com", ["u@dest.example"], "Subject: x\r\n\r\nneedle\r\n")
            raise AssertionError("no 421")
        except smtplib.SMTPSenderRefused as e:
            assert e.smtp_code == 421, e
    expect(r.message("Subject: x\r\n\r\na needle\r\n"), "beta; b=body")
    assert r.reload(POLICY) == 200


@test
def nothing_claims_it(r):
    assert r.reload(dict(POLICY, **{"global": {"default_binding": "none"}})) == 200
    try:
        r.send("s@example.com", ["u@dest.example"], "Subject: x\r\n\r\nx\r\n")
        raise AssertionError("accepted")
    except smtplib.SMTPDataError as e:
        assert e.smtp_code == 451 and b"4.7.1" in e.smtp_error, e
    expect(r.message("Subject: x\r\n\r\nx\r\n", "<>"), "default; b=default")
    expect(r.message("Subject: x\r\n\r\nx\r\n", "x@acme.example"), "acme; b=match_domain")
    assert r.reload(POLICY) == 200


@test
def without_a_milter_postfix_refuses_for_the_time_being(r):
    r.stop("milter")
    try:
        r.send("s@example.com", ["u@dest.example"], "Subject: x\r\n\r\nx\r\n")
        raise AssertionError("accepted")
    except smtplib.SMTPResponseException as e:
        assert 400 <= e.smtp_code < 500, e
    r.start_milter()
    expect(r.message("Subject: x\r\n\r\nx\r\n"), "default; b=default")


@test
def postfix_that_opens_its_queue_file_early_or_late(r):
    """MAIL reaches the milter before the first valid recipient, or with it."""
    for when in ("no", "yes"):
        r.front_again(smtpd_delay_open_until_valid_rcpt=when)
        facts_of_the_connection(r)
        several_messages_rset_and_refusals_in_one_session(r)
        a_client_that_goes_away_in_mid_message(r)


def main():
    folder = tempfile.mkdtemp(prefix="bindpost-milter.", dir="/var/tmp")
    failed = 0
    print("1..%d" % len(TESTS), flush=True)
    try:
        with Front(folder) as r:
            r.begin()
            for n, fn in enumerate(TESTS, 1):
                try:
                    fn(r)
                    print("ok %d - %s" % (n, fn.__name__), flush=True)
                except Exception as e:  # pylint: disable=broad-except
                    failed += 1
                    print("not ok %d - %s" % (n, fn.__name__), flush=True)
                    print("".join("# %s\n" % line for line in ("%s: %s" % (type(e).__name__, e)).splitlines()), end="")
                    print("".join("# %s\n" % line for line in r.tail("milter").splitlines()), end="", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
