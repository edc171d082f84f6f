#!/usr/bin/env python3
"""REQUIRETLS and TLS-Required: No (RFC 8689) from the handoff, also through a real Postfix, to hosts with TLS."""
import os
import smtplib
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from certs import Authority  # noqa: E402
from mta import message, run, standard_policy, wait_for  # noqa: E402

DELIVERED = ("delivery", "host")


def outcome(rig, recipient):
    def found():
        return [e for e in rig.events("delivery", "deferral", "bounce") if e["recipient"] == recipient]
    wait_for("an event of " + recipient, found, seconds=300)
    return found()[-1]


def summary(e):
    return (e["event"], e.get("tls", {}).get("verified"))


def hand_over(rig, number, recipient, *options):
    with smtplib.LMTP(rig.sock("handoff.sock"), local_hostname="mta.example") as handoff:
        handoff.sendmail("a@acme.example", [recipient], message(number, "a@acme.example", recipient), mail_options=options)


def mail_of(rig, recipient):
    return next((m for m in rig.seen() if recipient in m["recipients"]), None)


def offered(tap, rig):
    for where, handoff in (("a Unix socket", smtplib.LMTP(rig.sock("handoff.sock"))), ("loopback", smtplib.LMTP(rig.ip(24), 2424))):
        with handoff:
            handoff.docmd("LHLO", "mta.example")
            reply = handoff.docmd("LHLO", "mta.example")[1].decode()
            tap.ok("REQUIRETLS" in reply.split("\n"), "offered over " + where, reply)


def requiretls(tap, rig):
    hand_over(rig, 1, "a@does.example", "REQUIRETLS")
    tap.equal(summary(outcome(rig, "a@does.example")), DELIVERED, "over verified TLS")
    m = mail_of(rig, "a@does.example")
    tap.ok("REQUIRETLS" in m["params"].split(), "and passed on", m)
    hand_over(rig, 2, "b@does.example")
    m = outcome(rig, "b@does.example") and mail_of(rig, "b@does.example")
    tap.ok("REQUIRETLS" not in m["params"].split(), "not for other mail", m)
    for number, domain, why in ((3, "lacks.example", "not offered"), (4, "clear.example", "STARTTLS is required"), (5, "wrong.example", "refused")):
        hand_over(rig, number, "c@" + domain, "REQUIRETLS")
        e = outcome(rig, "c@" + domain)
        tap.ok((e["event"], e["code"], e["enhanced"]) == ("bounce", 550, "5.7.30") and why in e["reply"], domain, e)
        tap.equal(mail_of(rig, "c@" + domain), None, domain + ": nothing has gone out")
    hand_over(rig, 6, "d@second.example", "REQUIRETLS")
    e = outcome(rig, "d@second.example")
    tap.equal(summary(e) + (e["mx"], e["attempt"]), DELIVERED + ("does.example.test", 1), "the next MX host")


def through_postfix(tap, rig):
    rig.send("a@acme.example", ["e@checked.example"], message(10, "a@acme.example", "e@checked.example"))
    e = outcome(rig, "e@checked.example")
    tap.ok(e["event"] == "deferral" and "certificate refused" in e["reply"], "a certificate that is refused", e)
    rig.send("a@acme.example", ["f@checked.example"],
             message(11, "a@acme.example", "f@checked.example", headers="TLS-Required: No\r\n"))
    e = outcome(rig, "f@checked.example")
    tap.equal(summary(e), ("delivery", "ca"), "TLS-Required: No, through Postfix")
    m = mail_of(rig, "f@checked.example")
    tap.ok(m["tls"], "still over TLS", m)
    e = outcome(rig, "e@checked.example")
    tap.equal(e["event"], "deferral", "which does not help other mail")


def body(tap, rig):
    authority = Authority(rig.path("certs"))
    hosts = {"does": ("does.example.test", True, True), "lacks": ("lacks.example.test", True, False),
             "clear": ("clear.example.test", False, False), "wrong": ("elsewhere.test", True, True)}
    for n, (name, (certified, tls, does)) in enumerate(hosts.items()):
        options = ["cert=" + authority.issue(name, certified)] if tls else []
        rig.mx(name + ".example.test", 11 + n, *options + (["requiretls"] if does else []))
        rig.record("%s.example. MX 10 %s.example.test." % (name, name))
    rig.record("second.example. MX 10 lacks.example.test.")
    rig.record("second.example. MX 20 does.example.test.")
    rig.record("checked.example. MX 10 wrong.example.test.")
    rig.start_dns()
    rig.start_mx()
    policy = standard_policy(rig, domains={"checked.example": {"tls_verify": "host"}})
    policy["global"].update(tls_ca=authority.pem, retry_interval="1h")
    rig.write_config(policy)
    rig.start_deliveryd()
    rig.start_milter()
    rig.start_postfix()
    offered(tap, rig)
    requiretls(tap, rig)
    through_postfix(tap, rig)
    tap.equal(rig.stop("deliveryd"), 0, "deliveryd stops in good order")


run(body)
