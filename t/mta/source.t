#!/usr/bin/env python3
"""Source addresses as the kernel has them, in a network namespace: an address and an AnyIP range that go and come back, ways
that are missing or forbidden, and more connections from one address than it has ports. Mail comes straight to deliveryd."""
import os
import smtplib
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import netns  # noqa: E402
from mta import message, run, standard_domains, wait_for  # noqa: E402

ONE, ANY = "198.51.100.1", "192.0.2.77"
PORTS = 20


def hand_over(rig, sender, recipients):
    with smtplib.LMTP(rig.ip(24), 2424) as handoff:
        for i, recipient in enumerate(recipients):
            handoff.sendmail(sender, [recipient], message(i, sender, recipient))


def events(rig, recipient, *types):
    return [e for e in rig.events(*types) if e.get("recipient") == recipient]


def event(rig, recipient, kind):
    wait_for("%s of %s" % (kind, recipient), lambda: events(rig, recipient, kind), 60)
    return events(rig, recipient, kind)[-1]


def goes_and_comes_back(tap, rig, binding, source, change):
    sender, first, second, third = "x@%s.example" % binding, *("%s%d@d0.example" % (binding, i) for i in range(3))
    hand_over(rig, sender, ["%s@d0.example" % binding])
    tap.equal(event(rig, "%s@d0.example" % binding, "delivery")["source"], source, binding + ": leaves from its address")
    wait_for("its session to end", lambda: not rig.bindpost_json("connections")["items"], 60)
    change(False)
    hand_over(rig, sender, [first])
    e = event(rig, first, "deferral")
    tap.equal((e["enhanced"], e["state"], e["class"]), ("4.3.5", "connect", "transient"), binding + ": gone, and mail waits")
    hand_over(rig, sender, [second, third])

    def held():
        rows = rig.bindpost_json("messages", "--binding", binding)["items"]
        return [r for r in rows if second in str(r)] if any(third in str(r) for r in rows) else None
    row = wait_for("the next to be there", held)[0]
    tap.ok("source" in rig.bindpost("message", row["id"]).stdout, binding + ": message ID says why the next one waits",
           rig.bindpost("message", row["id"]).stdout)
    tap.equal(events(rig, second, "deferral") + events(rig, third, "deferral"), [], binding + ": which met nothing")
    down = [d for d in rig.events("source_down") if d["binding"] == binding]
    tap.equal([d["source"] for d in down], [source], binding + ": source_down, once")
    wait_for("both to be held", lambda: rig.bindpost_json("bindings", binding)["items"][0]["held"] >= 2)
    change(True)
    sources = [event(rig, r, "delivery")["source"] for r in (first, second, third)]
    tap.equal(sources, [source] * 3, binding + ": comes back by itself")
    tap.equal(len([u for u in rig.events("source_up") if u["binding"] == binding]), 1, binding + ": source_up")
    tap.equal({m["peer"] for m in rig.seen() if m["sender"] == sender}, {source}, binding + ": as the MX host saw it")


def no_way(tap, rig):
    hand_over(rig, "x@one.example", ["a@away.example", "a@forbidden.example"])
    e = event(rig, "a@away.example", "deferral")
    tap.ok("no route for binding one from %s to 203.0.113.5:2525" % ONE in e["reply"], "ENETUNREACH", e)
    e = event(rig, "a@forbidden.example", "deferral")
    tap.ok("for binding one from %s to 203.0.114.5:2525 forbidden" % ONE in e["reply"], "EACCES", e)
    tap.equal([d for d in rig.events("source_down") if d["binding"] == "one"][1:], [], "neither is the source's fault")


def ports(tap, rig):
    netns.port_range(20000, 20000 + PORTS - 1)
    for i in range(1, 4):
        rig.mx_option("mx%d.example" % i, "hold=15000")
    hand_over(rig, "x@many.example", ["p%d@d%d.example" % (n, n % 3 + 1) for n in range(300)])

    def most_open():
        now = most = 0
        for row in rig.seen(None):
            if row["peer"] == "198.51.100.2":
                now += {"connect": 1, "disconnect": -1}.get(row["event"], 0)
                most = max(most, now)
        return most
    wait_for("more connections at once than ports", lambda: most_open() > 2 * PORTS, 60)
    tap.ok(True, "more connections at once from one address than it has ports")
    peaks = {row["host"]: row["peak"] for row in rig.seen("connect") if row["peer"] == "198.51.100.2"}
    tap.ok(all(n <= PORTS for n in peaks.values()), "and to each MX host at most as many", peaks)

    def told():
        return [e for e in rig.events("deferral") if "no free local port for binding many from 198.51.100.2 to " in e["reply"]]
    tap.equal(wait_for("port exhaustion to be told", told)[0]["enhanced"], "4.3.0", "port exhaustion, with binding and source")
    tap.equal([d for d in rig.events("source_down") if d["binding"] == "many"], [], "is not the source's fault")
    for i in range(1, 4):
        rig.mx_option("mx%d.example" % i, None)


def body(tap, rig):
    standard_domains(rig, 4)
    rig.record("away.example. A 203.0.113.5")
    rig.record("forbidden.example. A 203.0.114.5")
    rig.start_dns()
    rig.start_mx()
    bindings = {"one": ONE, "range": ANY, "many": "198.51.100.2", "default": rig.ip(100)}
    rig.write_config({
        "global": {"remote_smtp_port": rig.mx_port, "prohibited_hosts": [], "retry_interval": "5s", "idle_timeout": 0,
                   "connection_allocation_aggressiveness": "high"},
        "bindings": {name: {"bind_address": a, **({"match_domain": [name + ".example"]} if name != "default" else {})}
                     for name, a in bindings.items()}})
    rig.start_deliveryd()
    goes_and_comes_back(tap, rig, "one", ONE, lambda on: netns.ip("addr", "add" if on else "del", ONE + "/32", "dev", "lo"))
    goes_and_comes_back(tap, rig, "range", ANY, lambda on: netns.ip("route", "add" if on else "del", "local", "192.0.2.0/24",
                                                                     "dev", "lo"))
    no_way(tap, rig)
    ports(tap, rig)
    tap.equal(rig.stop("deliveryd"), 0, "deliveryd stops in good order")


netns.enter()
netns.ip("addr", "add", ONE + "/32", "dev", "lo")
netns.ip("addr", "add", "198.51.100.2/32", "dev", "lo")
netns.ip("route", "add", "local", "192.0.2.0/24", "dev", "lo")
netns.ip("route", "add", "prohibit", "203.0.114.0/24")
run(body)
