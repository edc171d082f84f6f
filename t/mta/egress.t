#!/usr/bin/env python3
"""Egress proxies: addresses that are not ours to bind, behind a real HAProxy (PROXY protocol v2) and a real Dante (SOCKS5),
TLS inside. What the MX host saw as the source is what counts. Mail comes straight to deliveryd."""
import os
import shutil
import smtplib
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import netns  # noqa: E402
from certs import Authority  # noqa: E402
from mta import message, run, standard_policy, wait_for  # noqa: E402
from rig import port_open  # noqa: E402

HAPROXY = """
global
    maxconn 500
defaults
    mode tcp
    timeout connect 10s
    timeout client 15m
    timeout server 15m
listen egress
    bind {address}:5000 accept-proxy
    tcp-request connection reject unless {{ src 127.0.0.0/8 }}
    tcp-request session reject unless {{ src {sources} }}
    source 0.0.0.0 usesrc clientip
    server next-hop 0.0.0.0
"""
DANTE = """
logoutput: stderr
internal: {address} port = {port}
external: {source}
clientmethod: none
socksmethod: none
user.privileged: root
user.notprivileged: root
client pass {{
    from: 127.0.0.0/8 to: 0.0.0.0/0
}}
socks pass {{
    from: 127.0.0.0/8 to: 0.0.0.0/0
    command: connect
    protocol: tcp
}}
"""


def program(name):
    return shutil.which(name) or "/usr/sbin/" + name


def start_haproxy(rig):
    with open(rig.path("haproxy.cfg"), "w", encoding="ascii") as f:
        f.write(HAPROXY.format(address=rig.ip(200), sources="%s 192.0.2.78" % rig.ip(151)))
    rig.start("haproxy", [program("haproxy"), "-db", "-f", rig.path("haproxy.cfg")], lambda: port_open(rig.ip(200), 5000))


def start_dante(rig, name, port, source):
    config = rig.path(name + ".conf")
    with open(config, "w", encoding="ascii") as f:
        f.write(DANTE.format(address=rig.ip(200), port=port, source=source))
    rig.start(name, [program("danted"), "-f", config, "-N", "1", "-p", rig.path(name + ".pid")],
              lambda: port_open(rig.ip(200), port))


def hand_over(rig, sender, recipient, number):
    with smtplib.LMTP(rig.ip(24), 2424) as handoff:
        handoff.sendmail(sender, [recipient], message(number, sender, recipient))


def event(rig, recipient, *types):
    def found():
        return [e for e in rig.events(*types or ("delivery", "deferral", "bounce")) if e.get("recipient") == recipient]
    wait_for("an event of " + recipient, found, 60)
    return found()[-1]


def through(tap, rig, binding, domain, source, claimed, proxy):
    to = "a@" + domain
    hand_over(rig, "x@%s.example" % binding, to, 1)
    e = event(rig, to)
    name = "%s to %s: " % (binding, domain)
    if not tap.equal((e["event"], e["source"], e.get("claimed", False), e.get("proxy")),
                     ("delivery", source, claimed, proxy), name + "what the event says"):
        print("# %r" % e)
    tap.equal([m["peer"] for m in rig.seen() if m["recipients"] == [to]], [source], name + "what the MX host saw")
    return e


def policy(rig):
    near = rig.ip(200)
    p = standard_policy(rig)
    p["global"]["host_failure_retry"] = "1s"
    p["bindings"] = {
        "hap": {"bind_address": rig.ip(151), "egress_proxy": "proxy://%s:5000" % near, "match_domain": ["hap.example"]},
        "sox": {"bind_address": rig.ip(152), "egress_proxy": "socks5://%s:1080" % near, "match_domain": ["sox.example"]},
        "liar": {"bind_address": rig.ip(153), "egress_proxy": "socks5://%s:1081" % near, "match_domain": ["liar.example"],
                 "retry_interval": "1h"},
        "gone": {"bind_address": rig.ip(154), "egress_proxy": "socks5://%s:1082" % near, "match_domain": ["gone.example"],
                 "retry_interval": "1s", "max_retry_interval": "1s"},
        "far": {"bind_address": "192.0.2.77", "egress_proxy": "proxy://%s:5001" % near, "match_domain": ["far.example"],
                "retry_interval": "1h"},
        "default": {"bind_address": rig.ip(100)}}
    p["rules"] = []
    return p


def good(tap, rig):
    near = rig.ip(200)
    e = through(tap, rig, "hap", "d0.example", rig.ip(151), True, near + ":5000")
    tap.equal((e["peer"], e["mx"], "tls" in e), (rig.ip(11), "mx0.example", False), "the peer is the MX host, not the proxy")
    e = through(tap, rig, "hap", "d1.example", rig.ip(151), True, near + ":5000")
    tap.ok(e.get("tls", {}).get("version", "").startswith("TLS"), "TLS within PROXY v2", e)
    hand_over(rig, "x@sox.example", "s@d0.example", 2)
    e = event(rig, "s@d0.example")
    tap.equal((e["event"], e["source"], e.get("claimed"), e.get("proxy")),
              ("delivery", rig.ip(152), None, near + ":1080"), "sox to d0.example: what the event says")
    hand_over(rig, "x@sox.example", "s@d1.example", 3)
    e = event(rig, "s@d1.example")
    tap.equal((e["event"], e["source"], e.get("tls", {}).get("version", "")[:3]), ("delivery", rig.ip(152), "TLS"),
              "TLS within SOCKS5")
    tap.equal([m["peer"] for m in rig.seen() if m["sender"] == "x@sox.example"], [rig.ip(152)] * 2, "what the MX hosts saw")


def bad(tap, rig):
    near = rig.ip(200)
    hand_over(rig, "x@liar.example", "l@d0.example", 4)
    e = event(rig, "l@d0.example")
    tap.equal((e["event"], e["enhanced"]), ("deferral", "4.3.5"), "a proxy that takes another address")
    tap.ok("connected from %s instead of %s" % (rig.ip(152), rig.ip(153)) in e["reply"], "is told apart", e)
    tap.equal([m for m in rig.seen() if m["sender"] == "x@liar.example"], [], "and nothing is sent")
    hand_over(rig, "x@far.example", "f@d0.example", 5)
    e = event(rig, "f@d0.example")
    tap.equal((e["event"], e["enhanced"]), ("deferral", "4.3.5"), "a proxy that is not there")
    tap.ok("egress proxy %s:5001 of binding far cannot be reached" % near in e["reply"], "is named", e)
    tap.equal(e.get("proxy"), near + ":5001", "and a key of the event")
    down = [d for d in rig.events("source_down") if d["binding"] == "far"]
    tap.equal([(d["source"], "cannot be reached" in d["reason"]) for d in down], [("192.0.2.77", True)], "source_down, once")
    hand_over(rig, "x@far.example", "second@d2.example", 6)

    def waiting():
        rows = rig.bindpost_json("messages", "--binding", "far")["items"]
        ids = [r["id"] for r in rows if "second@d2.example" in str(r)]
        return ids and "cannot be reached" in rig.bindpost("message", ids[0]).stdout and ids
    tap.ok(wait_for("the second to wait", waiting), "message ID says why the next one waits")
    tap.equal([x for x in rig.events("deferral") if x["recipient"] == "second@d2.example"], [], "at no cost")
    # the MX host behind a good proxy: its own failure, the next MX host at once
    hand_over(rig, "x@sox.example", "next@two.example", 7)
    e = event(rig, "next@two.example")
    tap.equal((e["event"], e["mx"], e["attempt"]), ("delivery", "mx2.example", 1), "SOCKS5 code 5: the next MX host at once")


def comes_back(tap, rig):
    hand_over(rig, "x@gone.example", "g@d0.example", 8)
    e = event(rig, "g@d0.example")
    tap.equal((e["event"], e["enhanced"]), ("deferral", "4.3.5"), "a proxy that is down for a while")
    start_dante(rig, "dante-gone", 1082, rig.ip(154))
    wait_for("its mail", lambda: [x for x in rig.events("delivery") if x["recipient"] == "g@d0.example"], 90)
    tap.equal([m["peer"] for m in rig.seen() if m["sender"] == "x@gone.example"], [rig.ip(154)], "and comes back by itself")
    tap.equal(len([x for x in rig.events("source_up") if x["binding"] == "gone"]), 1, "source_up")


def body(tap, rig):
    rig.mx("mx0.example", 11)
    ca = Authority(rig.path("ca"))
    rig.mx("mx1.example", 12, "cert=" + ca.issue("mx1", "mx1.example"))
    rig.mx("mx2.example", 13)
    for i in range(3):
        rig.record("d%d.example. MX 10 mx%d.example." % (i, i))
    rig.record("closed.example. A %s" % rig.ip(99))
    rig.record("two.example. MX 5 closed.example.")
    rig.record("two.example. MX 10 mx2.example.")
    rig.start_dns()
    rig.start_mx()
    start_haproxy(rig)
    start_dante(rig, "dante", 1080, rig.ip(152))
    start_dante(rig, "dante-liar", 1081, rig.ip(152))
    rig.write_config(policy(rig))
    rig.start_deliveryd()
    good(tap, rig)
    bad(tap, rig)
    comes_back(tap, rig)
    tap.equal(rig.stop("deliveryd"), 0, "deliveryd stops in good order")


netns.enter()  # where HAProxy may take any address
run(body)
