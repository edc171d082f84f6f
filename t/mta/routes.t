#!/usr/bin/env python3
"""Routing and `bindpost dns` with the real resolver: a hub with the domain's own MX hosts behind it, LMTP over a Unix
socket, prohibited hosts, and what operators see of DNS. Mail comes straight to deliveryd."""
import os
import smtplib
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from lmtp_sink import Sink  # noqa: E402
from mta import message, run, standard_domains, standard_policy, wait_for  # noqa: E402


def hand_over(rig, recipient, number):
    with smtplib.LMTP(rig.ip(24), 2424) as handoff:
        handoff.sendmail("a@acme.example", [recipient], message(number, "a@acme.example", recipient))


def outcome(rig, recipient):
    """The last event of an attempt for a recipient"""
    def found():
        return [e for e in rig.events("delivery", "deferral", "bounce") if e["recipient"] == recipient]
    wait_for("an event of " + recipient, found)
    return found()[-1]


def routing(tap, rig, sink):
    hand_over(rig, "a@hubbed.example", 1)
    e = outcome(rig, "a@hubbed.example")
    tap.equal((e["event"], e["mx"]), ("delivery", "mx0.example"), "the first of its routes")
    tap.ok(e["next_hop"].startswith("smtp://mx0.example:"), "next_hop names the list", e["next_hop"])
    hand_over(rig, "a@fallback.example", 2)
    e = outcome(rig, "a@fallback.example")
    tap.equal((e["event"], e["mx"], e["attempt"]), ("delivery", "mx1.example", 1), "its own MX hosts when the hub is not there")
    hand_over(rig, "a@stored.example", 3)
    e = outcome(rig, "a@stored.example")
    tap.equal((e["event"], e["mx"]), ("delivery", sink), "LMTP over a Unix socket")
    hand_over(rig, "a@d2.example", 4)
    e = outcome(rig, "a@d2.example")
    tap.equal((e["event"], e.get("mx")), ("delivery", "mx2.example"), "others by their MX hosts")
    hand_over(rig, "a@d3.example", 5)
    e = outcome(rig, "a@d3.example")
    tap.equal((e["event"], e["code"], e["enhanced"], e["reply"]), ("bounce", 550, "5.7.1", "not to that one"),
              "a prohibited host, in the operator's words")
    hand_over(rig, "a@d4.example", 6)
    e = outcome(rig, "a@d4.example")
    tap.equal((e["event"], e["enhanced"]), ("deferral", "4.4.4"), "a skipped one")


def names(tap, rig):
    got = rig.bindpost_json("dns", "lookup", "D1.example", "mx")
    tap.equal((got["result"], got["records"], got["authentic"]), ("answer", ["10 mx1.example"], False), "dns lookup")
    tap.ok("mx1.example" in rig.bindpost("dns", "lookup", "d1.example", "MX").stdout, "for people")
    tap.equal(rig.bindpost_json("dns", "lookup", "nothing.example", "A")["result"], "nxdomain", "what is not there")
    bad = rig.bindpost("dns", "lookup", "d1.example", "SPF", check=False)
    tap.ok(bad.returncode in (1, 2) and "TLSA" in bad.stderr, "an unknown type", bad.stderr)
    tap.equal(rig.bindpost("dns", "lookup", "d1.example", check=False).returncode, 2, "a missing one")
    stats = rig.bindpost_json("dns", "stats")
    tap.equal([s["address"] for s in stats["servers"]], ["%s:%d" % rig.dns], "dns stats: the servers")
    tap.ok(stats["cache_entries"] > 0 and stats["servers"][0]["trust_ad"], "and the cache", stats)
    tap.ok("VALIDATES" in rig.bindpost("dns", "stats").stdout, "for people")
    tap.ok(rig.bindpost_json("dns", "refresh", "d1.example")["forgotten"] >= 2, "dns refresh forgets the MX host too")
    tap.equal(rig.bindpost_json("dns", "refresh", "d1.example")["forgotten"], 0, "once")


def body(tap, rig):
    standard_domains(rig, 5)
    sink = rig.path("run", "lmtp.sock")
    rig.record("hubbed.example. MX 10 mx4.example.")
    rig.record("fallback.example. MX 10 mx1.example.")
    rig.record("gone.example. TXT x")
    rig.start_dns()
    rig.start_mx()
    store = Sink(sink)
    policy = standard_policy(rig, domains={
        "hubbed.example": {"routes": ["smtp://mx0.example?type=a", "__mx__"]},
        "fallback.example": {"routes": ["gone.example", "__mx__"]},
        "stored.example": {"routes": "lmtp:unix:" + sink}})
    policy["global"]["prohibited_hosts"] = [{"host": "/^mx3\\./", "code": 550, "enhanced": "5.7.1", "text": "not to that one"}]
    policy["global"]["skip_hosts"] = [rig.ip(15)]
    rig.write_config(policy)
    rig.start_deliveryd()
    routing(tap, rig, sink)
    tap.equal([d.recipients for d in store.deliveries], [["<a@stored.example>"]], "which has it")
    names(tap, rig)
    tap.equal(rig.stop("deliveryd"), 0, "deliveryd stops in good order")


run(body)
