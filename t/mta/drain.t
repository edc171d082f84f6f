#!/usr/bin/env python3
"""drain: all mail of a binding leaves from another one, each once; then the binding may go, and late stamps still work."""
import copy
import os
import smtplib
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from mta import message, run, standard_domains, standard_policy, wait_for  # noqa: E402


def hand_over(rig, recipient, stamp=None, sender="news@acme.example"):
    raw = message(1, sender, recipient)
    if stamp:
        raw = b"X-Binding: " + stamp.encode() + b"\r\n" + (raw if isinstance(raw, bytes) else raw.encode())
    with smtplib.LMTP(rig.ip(24), 2424, timeout=30) as client:
        try:
            return client.sendmail(sender, [recipient], raw)
        except smtplib.SMTPException as e:
            return e


def peers(rig, recipient):
    return [r["peer"].split(":")[0] for r in rig.seen() if recipient in r["recipients"]]


def arrives(rig, recipient):
    wait_for("%s to arrive" % recipient, lambda: peers(rig, recipient), 30)
    return peers(rig, recipient)


def body(tap, rig):
    standard_domains(rig, 4)
    rig.start_dns()
    rig.start_mx()
    policy = standard_policy(rig)
    rig.write_config(policy)
    rig.start_deliveryd()
    rig.bindpost("suspend", "acme", "--domain", "d0.example")
    names = ["m%d@d0.example" % i for i in range(20)]
    for name in names:
        hand_over(rig, name)
    rig.mx_option("mx1.example", "hold=2500,times=1")
    hand_over(rig, "out@d1.example")
    wait_for("it is sent", lambda: "sending" in
             [m["state"] for m in rig.bindpost_json("messages", "--domain", "d1.example")["items"]])

    without = copy.deepcopy(policy)
    del without["bindings"]["acme"]
    rig.write_config(without)
    refused = rig.bindpost("reload", "--no-milter", check=False)
    tap.ok(refused.returncode == 1 and "bindpost drain acme --to" in refused.stderr, "a reload names the remedy", refused)
    tap.equal(rig.bindpost("drain", "acme", check=False).returncode, 2, "no --to: exit 2")
    tap.equal(rig.bindpost("drain", "acme", "--to", "nobody", check=False).returncode, 1, "an unknown target: exit 1")
    tap.equal(rig.bindpost_json("drain", "acme", "--to", "bravo", "--dry-run")["queued"], 21, "--dry-run tells how many")
    done = rig.bindpost("drain", "acme", "--to", "bravo")
    tap.ok(done.returncode == 0 and "acme: 21 of 21 gone" in done.stdout, "drain waits until it is empty", done)
    for name in names:
        arrives(rig, name)
    tap.equal([peers(rig, n) for n in names], [[rig.ip(102)]] * 20, "all leave from the other address, each once")
    tap.equal(arrives(rig, "out@d1.example"), [rig.ip(101)], "what was being sent ended where it was")
    events = rig.events("rebind")
    tap.equal([(e["binding"], e["who"].split(" (")[0]) for e in events], [("bravo", "root")], "one rebind event")
    hand_over(rig, "before@d0.example")
    tap.equal(arrives(rig, "before@d0.example"), [rig.ip(102)], "a rule that still says acme means bravo")

    tap.equal(rig.bindpost("reload", "--no-milter").returncode, 0, "the reload without it is accepted")
    hand_over(rig, "late@d2.example", "acme")
    tap.equal(arrives(rig, "late@d2.example"), [rig.ip(102)], "a late stamp is honoured")
    tap.equal(rig.stop("deliveryd"), 0, "a restart")
    rig.start_deliveryd()
    hand_over(rig, "later@d2.example", "acme")
    tap.equal(arrives(rig, "later@d2.example"), [rig.ip(102)], "does not end that")
    hand_over(rig, "bad@d2.example", "never")
    wait_for("its event", lambda: rig.events("bad_stamp"))
    tap.equal(len(rig.events("bad_stamp")), 1, "another unknown name is a bad stamp")
    again = rig.bindpost_json("drain", "acme", "--to", "coyote")
    tap.equal((again["to"], again["left"]), ("coyote", 0), "drained again, elsewhere; as JSON")
    hand_over(rig, "latest@d3.example", "acme")
    tap.equal(arrives(rig, "latest@d3.example"), [rig.ip(103)], "the newest counts")


run(body)
