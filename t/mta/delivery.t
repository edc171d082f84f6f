#!/usr/bin/env python3
"""Limits as the MX host counts them, fail-over, 4yz and 5yz, what is never sent."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from mta import message, run, standard_domains, standard_policy, wait_for  # noqa: E402


def send(rig, recipient, number, sender="news@acme.example", headers=""):
    rig.send(sender, [recipient], message(number, sender, recipient, headers))


def limit(tap, rig):
    rig.mx_option("mx0.example", "hold=30")
    with rig.client() as client:
        for i in range(200):
            client.sendmail("news@acme.example", ["l%d@d0.example" % i], message(i, "news@acme.example", "l"))
    wait_for("200 deliveries", lambda: len([r for r in rig.seen() if r["host"] == "mx0.example"]) >= 200, 60)
    rows = [r for r in rig.seen(None) if r["host"] == "mx0.example" and r["peer"] == rig.ip(101)]
    tap.equal(max(r["open"] for r in rows), 3, "max_outbound_connections: 3 is reached and never passed")
    rig.mx_option("mx0.example", None)


def fail_over(tap, rig):
    send(rig, "a@two.example", 1)
    wait_for("fail-over", lambda: any(r["recipients"] == ["a@two.example"] for r in rig.seen()))
    row = [r for r in rig.seen() if r["recipients"] == ["a@two.example"]][0]
    tap.equal((row["host"], row["peer"]), ("second.example", rig.ip(101)), "a dead best MX: the next one, same source")
    tap.equal([e for e in rig.events("deferral") if e.get("domain") == "two.example"], [], "and that costs no retry")


def transient(tap, rig):
    rig.mx_option("mx1.example", "rcpt=451 4.7.1 greylisted\\, come back,times=1".replace("\\,", ";"))
    send(rig, "g@d1.example", 2)
    wait_for("4yz then delivery", lambda: any(r["recipients"] == ["g@d1.example"] for r in rig.seen()))
    deferral = [e for e in rig.events("deferral") if e["recipient"] == "g@d1.example"]
    tap.equal([(e["code"], e["enhanced"], e["state"], e["attempt"]) for e in deferral], [(451, "4.7.1", "rcpt", 1)],
              "4yz: one deferral event with the reply")
    done = wait_for("its event", lambda: [e for e in rig.events("delivery") if e["recipient"] == "g@d1.example"])
    tap.equal([e["attempt"] for e in done], [2], "then delivered by the second attempt")
    tap.equal({r["peer"] for r in rig.seen(None) if r["host"] == "mx1.example"}, {rig.ip(101)}, "both from its address")


def permanent(tap, rig):
    rig.mx_option("mx2.example", "rcpt=550 5.1.1 no such user")
    send(rig, "nobody@d2.example", 3, "boss@back.example", "X-Customer: bravo\r\n")
    wait_for("the DSN", lambda: any(r["sender"] == "" for r in rig.seen()))
    dsn = [r for r in rig.seen() if r["sender"] == ""]
    tap.equal([(r["recipients"], r["host"]) for r in dsn], [(["boss@back.example"], "mx3.example")],
              "5yz gives one DSN to the envelope sender")
    with open(rig.path("mx", "saved", dsn[0]["file"]), "rb") as f:
        text = f.read().decode("utf-8", "replace")
    for part in ("multipart/report", "Final-Recipient: rfc822; nobody@d2.example", "Status: 5.1.1", "Action: failed",
                 "Diagnostic-Code: smtp; 550 5.1.1 no such user", "Remote-MTA: dns; mx2.example", "Subject: 3"):
        tap.ok(part in text, "the DSN says " + part, text)
    bounce = wait_for("its event", lambda: rig.events("bounce"))
    tap.equal([(e["recipient"], e["code"], e["enhanced"]) for e in bounce], [("nobody@d2.example", 550, "5.1.1")],
              "and one bounce event")
    rig.send("", ["nobody@d2.example"], message(4, "x@y.example", "nobody@d2.example"))
    wait_for("second bounce", lambda: len(rig.events("bounce")) >= 2)
    send(rig, "after@d3.example", 5)
    wait_for("later mail", lambda: any(r["recipients"] == ["after@d3.example"] for r in rig.seen()))
    tap.equal(len([r for r in rig.seen() if r["sender"] == ""]), 1, "the null reverse-path gets none")


def dns(tap, rig):
    send(rig, "x@nowhere.example", 6, "boss@back.example", "X-Customer: bravo\r\n")
    send(rig, "x@nullmx.example", 7, "boss@back.example", "X-Customer: bravo\r\n")
    send(rig, "x@onlya.example", 8)
    wait_for("bounces by DNS", lambda: len(rig.events("bounce")) >= 4)
    codes = {e["domain"]: e["enhanced"] for e in rig.events("bounce")}
    tap.equal(codes.get("nowhere.example"), "5.1.2", "NXDOMAIN bounces with 5.1.2")
    tap.equal(codes.get("nullmx.example"), "5.1.10", "null MX bounces with 5.1.10")
    wait_for("implicit MX", lambda: any(r["recipients"] == ["x@onlya.example"] for r in rig.seen()))
    tap.ok(True, "no MX record: the domain's own address")


def body(tap, rig):
    standard_domains(rig, 4)
    rig.mx("second.example", 21)
    rig.record("first.example. A %s" % rig.ip(22))  # nothing listens there
    rig.record("two.example. MX 10 first.example.")
    rig.record("two.example. MX 20 second.example.")
    rig.record("back.example. MX 10 mx3.example.")
    rig.record("nullmx.example. MX 0 .")
    rig.mx("onlya.example", 23)
    policy = standard_policy(rig)
    policy["bindings"]["acme"]["max_outbound_connections"] = 3
    rig.write_config(policy)
    rig.start_dns()
    rig.start_mx(save=True)
    rig.start_milter()
    rig.start_deliveryd()
    rig.start_postfix()
    limit(tap, rig)
    fail_over(tap, rig)
    transient(tap, rig)
    permanent(tap, rig)
    dns(tap, rig)


run(body)
