#!/usr/bin/env python3
"""SIGKILL in mid-run, deliveryd down, a bad reload, an address that is not on this machine, a silent DNS server."""
import json
import os
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from mta import message, run, standard_domains, standard_policy, wait_for  # noqa: E402


def send_many(rig, prefix, n):
    names = []
    with rig.client() as client:
        for i in range(n):
            names.append("%s%d@d%d.example" % (prefix, i, i % 4))
            client.sendmail("news@acme.example", [names[-1]], message(i, "news@acme.example", names[-1]))
    return names


def arrivals(rig):
    count = {}
    for row in rig.seen():
        for name in row["recipients"]:
            count[name] = count.get(name, 0) + 1
    return count


def killed(tap, rig):
    for name in ("mx0.example", "mx1.example", "mx2.example", "mx3.example"):
        rig.mx_option(name, "hold=20")
    names = send_many(rig, "k", 150)
    kills = 0
    for _ in range(3):
        wait_for("some arrivals", lambda: len(arrivals(rig)) >= 30 * (kills + 1))
        proc = rig.procs.pop("deliveryd")
        proc.send_signal(signal.SIGKILL)
        proc.wait()
        rig.start_deliveryd()
        kills += 1
    more = send_many(rig, "m", 50)
    rig.postqueue_flush()
    wait_for("everything", lambda: all(n in arrivals(rig) for n in names + more), 60)
    count = arrivals(rig)
    tap.equal([n for n in names + more if n not in count], [], "killed three times in mid-run: nothing is lost")
    repeats = sum(c - 1 for c in count.values())
    # design 8: at most 1,000 results that were not committed plus the open sessions; here far fewer are under way
    tap.ok(repeats <= kills * (4 * 32 + 20), "repeats (%d) stay within the bound" % repeats)
    for name in ("mx0.example", "mx1.example", "mx2.example", "mx3.example"):
        rig.mx_option(name, None)


def down(tap, rig):
    rig.stop("deliveryd")
    names = send_many(rig, "p", 10)
    wait_for("Postfix to hold them", lambda: len(rig.postqueue()) == 10)
    tap.ok(True, "deliveryd down: Postfix keeps its mail")
    rig.start_deliveryd()
    rig.postqueue_flush()
    wait_for("hand-over", lambda: all(n in arrivals(rig) for n in names), 60)
    tap.equal([arrivals(rig)[n] for n in names], [1] * 10, "and hands it over after, once each")


def bad_reload(tap, rig):
    good = dict(rig.policy)
    bad = json.loads(json.dumps(good))
    bad["bindings"]["acme"]["bind_address"] = "192.0.2.300"
    bad["bindings"]["acme"]["max_outbund_connections"] = 1
    with open(rig.path("etc", "policy.json"), "w", encoding="utf-8") as f:
        json.dump(bad, f)
    answer = rig.bindpost("reload", check=False)
    tap.equal(answer.returncode, 1, "a bad reload is refused")
    tap.ok('policy.json: bindings.acme.bind_address: "192.0.2.300" is not an IP address' in answer.stderr,
           "with file, path and reason", answer.stderr)
    tap.ok("max_outbund_connections" in answer.stderr, "all errors at once", answer.stderr)
    check = rig.bindpost("check", rig.config, check=False)
    tap.equal(check.returncode, 1, "check says so too")
    rig.procs["milter"].send_signal(signal.SIGHUP)
    rig.procs["deliveryd"].send_signal(signal.SIGHUP)
    wait_for("SIGHUP to be refused", lambda: "refused" in rig.tail("deliveryd"))
    rig.send("news@acme.example", ["r@d1.example"], message(1, "news@acme.example", "r@d1.example"))
    wait_for("mail after it", lambda: "r@d1.example" in arrivals(rig))
    row = [r for r in rig.seen() if r["recipients"] == ["r@d1.example"]][0]
    tap.equal(row["peer"], rig.ip(101), "the old configuration stays in force")
    good["bindings"]["acme"]["bind_address"] = rig.ip(105)
    rig.write_config(good)
    answer = rig.bindpost("reload", check=False)
    tap.equal((answer.returncode, "acme" in answer.stdout), (0, True), "a good reload says what changed")
    rig.send("news@acme.example", ["s@d1.example"], message(2, "news@acme.example", "s@d1.example"))
    wait_for("mail after it", lambda: "s@d1.example" in arrivals(rig))
    row = [r for r in rig.seen() if r["recipients"] == ["s@d1.example"]][0]
    tap.equal(row["peer"], rig.ip(105), "and mail leaves from the new address without a restart")


def source(tap, rig):
    policy = json.loads(json.dumps(rig.policy))
    policy["bindings"]["bravo"]["bind_address"] = "192.0.2.77"
    rig.write_config(policy)
    tap.equal(rig.bindpost("reload", check=False).returncode, 0, "an address that is not on this machine is no error")
    before = len(rig.seen(None))
    rig.send("x@y.example", ["w@d2.example"], message(3, "x@y.example", "w@d2.example", "X-Customer: bravo\r\n"))
    wait_for("source_down", lambda: rig.events("source_down"))
    down_event = rig.events("source_down")[0]
    tap.ok("is not on this machine; its mail waits" in rig.tail("deliveryd", 100), "and the journal says so", rig.tail("deliveryd"))
    tap.equal((down_event["binding"], down_event["source"]), ("bravo", "192.0.2.77"), "the event says which and why")
    rig.send("news@acme.example", ["v@d2.example"], message(4, "news@acme.example", "v@d2.example"))
    wait_for("others", lambda: "v@d2.example" in arrivals(rig))
    new = [r for r in rig.seen(None)[before:] if r["event"] in ("connect", "message")]
    tap.equal([r for r in new if r["peer"] != rig.ip(105)], [], "nothing leaves from another address")
    tap.ok("w@d2.example" not in arrivals(rig), "the mail waits")
    policy["bindings"]["bravo"]["bind_address"] = rig.ip(102)
    rig.write_config(policy)
    rig.bindpost("reload")
    wait_for("it goes out", lambda: "w@d2.example" in arrivals(rig))
    row = [r for r in rig.seen() if r["recipients"] == ["w@d2.example"]][0]
    tap.equal(row["peer"], rig.ip(102), "and leaves once the binding has an address again")


def silent_dns(tap, rig):
    rig.stop("unbound")
    mute = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    mute.bind(rig.dns)
    rig.send("news@acme.example", ["q@d9.example"], message(5, "news@acme.example", "q@d9.example"))
    wait_for("a deferral", lambda: [e for e in rig.events("deferral") if e["recipient"] == "q@d9.example"], 60)
    event = [e for e in rig.events("deferral") if e["recipient"] == "q@d9.example"][0]
    tap.equal((event["state"], event["enhanced"]), ("resolve", "4.4.3"), "a silent DNS server: mail waits, the event says why")
    tap.equal([e for e in rig.events("bounce") if e["recipient"] == "q@d9.example"], [], "and never bounces")
    mute.close()
    rig.start_dns()
    wait_for("it to go out", lambda: "q@d9.example" in arrivals(rig), 60)
    tap.ok(True, "delivered when DNS is back")


def body(tap, rig):
    standard_domains(rig, 4)
    rig.record("d9.example. MX 10 mx1.example.")
    rig.write_config(standard_policy(rig))
    rig.start_dns()
    rig.start_mx()
    rig.start_milter()
    rig.start_deliveryd()
    rig.start_postfix()
    killed(tap, rig)
    down(tap, rig)
    bad_reload(tap, rig)
    source(tap, rig)
    silent_dns(tap, rig)


run(body)
