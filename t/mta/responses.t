#!/usr/bin/env python3
"""What replies change (response_rules, retry_source), mail that goes elsewhere by command (rebind --policy, reroute), curfew."""
import copy
import os
import smtplib
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from mta import message, run, standard_domains, standard_policy, wait_for  # noqa: E402


def hand_over(rig, *recipients, sender="news@acme.example"):
    with smtplib.LMTP(rig.ip(24), 2424, timeout=30) as client:
        for i, recipient in enumerate(recipients):
            refused = client.sendmail(sender, [recipient], message(i, sender, recipient))
            assert not refused, refused


def peers(rig, recipient):
    return [r["peer"].split(":")[0] for r in rig.seen() if recipient in r["recipients"]]


def arrives(rig, recipient):
    wait_for("%s to arrive" % recipient, lambda: peers(rig, recipient), 60)
    return peers(rig, recipient)


def events_of(rig, kind, n):
    wait_for("%d events %s" % (n, kind), lambda: len(rig.events(kind)) >= n, 60)
    return rig.events(kind)


def suspended(tap, rig):
    rig.mx_option("mx0.example", "rcpt=550 5.7.1 Your IP is blocked here")
    hand_over(rig, "a@d0.example")
    event = events_of(rig, "suspend", 1)[0]
    tap.equal((event["binding"], event["domain"], event["rule"], event["reason"]),
              ("acme", "d0.example", "blocked", "response rule"), "a reply suspends the binding for the domain")
    tap.equal(rig.events("bounce"), [], "and the mail that met it is kept")
    rows = rig.bindpost_json("rules")["items"]
    tap.equal([(r["binding"], r["domain"], r["rule"], r["action"], r["reply"]) for r in rows],
              [("acme", "d0.example", "blocked", "suspend 1h", "550 5.7.1 Your IP is blocked here")], "bindpost rules lists it")
    rig.mx_option("mx0.example", None)
    hand_over(rig, "b@d0.example")
    hand_over(rig, "c@d1.example")
    hand_over(rig, "d@d0.example", sender="x@coyote.example")
    arrives(rig, "c@d1.example")
    arrives(rig, "d@d0.example")
    tap.equal(rig.stop("deliveryd"), 0, "a restart")
    rig.start_deliveryd()
    tap.equal(len(rig.bindpost_json("rules")["items"]), 1, "does not end it")
    tap.equal(sorted(m["state"] for m in rig.bindpost_json("messages", "--domain", "d0.example")["items"])[-1], "held",
              "what waits is held")
    tap.equal(peers(rig, "b@d0.example"), [], "nothing was sent meanwhile")
    tap.equal(rig.bindpost("resume", "acme", "--domain", "d0.example").returncode, 0, "resume undoes it")
    arrives(rig, "a@d0.example")
    arrives(rig, "b@d0.example")
    tap.equal(rig.bindpost_json("rules")["items"], [], "and nothing is listed any more")


def reduced(tap, rig):
    rig.mx_option("mx1.example", "banner=421 4.7.0 Too many connections from you")
    hand_over(rig, "e@d1.example")
    event = events_of(rig, "throttle", 1)[0]
    tap.equal((event["binding"], event["next_hop"], event["rule"]), ("acme", "d1.example", "many"), "connections are reduced")
    queue = [q for q in rig.bindpost_json("queues")["items"] if q["next_hop"] == "d1.example"]
    tap.equal(len(queue), 1, "the mail waits")
    tap.ok("many" in rig.bindpost("rules").stdout, "rules for people")
    rig.mx_option("mx1.example", None)
    arrives(rig, "e@d1.example")
    tap.equal(rig.bindpost("resume", "acme").returncode, 0, "resume of the binding ends it")
    tap.equal(rig.bindpost("resume", "acme", check=False).returncode, 1, "once")


def elsewhere(tap, rig):
    rig.mx_option("mx2.example", "rcpt=451 4.7.1 not from this address,times=1")
    hand_over(rig, "f@d2.example", sender="x@pool.example")
    tap.equal(len(arrives(rig, "f@d2.example")), 1, "retry_elsewhere: delivered")
    delivery = [e for e in rig.events("delivery") if e["recipient"] == "f@d2.example"][0]
    tap.equal((delivery["attempt"], delivery["group"]), (1, "pool"), "in the first attempt, by the group")
    rig.mx_option("mx3.example", "rcpt=451 4.7.1 later,times=1")
    hand_over(rig, "g@d3.example", sender="x@pool.example")
    arrives(rig, "g@d3.example")
    wait_for("its event", lambda: [e for e in rig.events("delivery") if e["recipient"] == "g@d3.example"])
    tried = [e for e in rig.events("deferral", "delivery") if e["recipient"] == "g@d3.example"]
    tap.equal(len({e["binding"] for e in tried}), 2, "retry_source next: the other member")
    tap.equal(tried[-1]["source"], {"p1": rig.ip(104), "p2": rig.ip(105)}.get(tried[-1]["binding"], tried[-1]["source"]),
              "from its own address")


def moved(tap, rig, policy):
    rig.mx_option("mx4.example", "rcpt=451 4.7.1 later")
    hand_over(rig, "h@d4.example")
    hand_over(rig, "i@d4.example", sender="x@else.example")
    events_of(rig, "reception", 1)
    wait_for("both to wait", lambda: len(rig.bindpost_json("messages", "--domain", "d4.example")["items"]) == 2)
    other = copy.deepcopy(policy)
    other["rules"].insert(0, {"name": "all", "when": "mailfrom_domain == 'acme.example'", "bind": "coyote"})
    other["rules"].insert(1, {"name": "who", "when": "auth_user == 'x' AND mailfrom_domain == 'else.example'", "bind": "coyote"})
    rig.write_config(other)
    tap.equal(rig.bindpost("reload", "--no-milter").returncode, 0, "a reload with other rules")
    dry = rig.bindpost_json("rebind", "--domain", "d4.example", "--policy", "--dry-run")
    tap.equal((dry["matched"], dry["changed"], dry["unknown"]), (1, 0, 1), "rebind --policy --dry-run")
    done = rig.bindpost("rebind", "--domain", "d4.example", "--policy")
    tap.ok("1 moved" in done.stdout and "1 stay" in done.stdout, "rebind --policy", done)
    tap.equal(sorted(m["binding"] for m in rig.bindpost_json("messages", "--domain", "d4.example")["items"]),
              ["coyote", "default"], "one moved, one kept")
    tap.equal(rig.bindpost("rebind", "--domain", "d4.example", "--policy", "--to", "acme", check=False).returncode, 2,
              "not both --policy and --to")
    tap.equal(rig.bindpost("reroute", "--domain", "d4.example", check=False).returncode, 2, "reroute needs --to")
    tap.equal(rig.bindpost_json("reroute", "--domain", "d4.example", "--to", "D5.example", "--dry-run")["matched"], 2,
              "reroute --dry-run")
    tap.equal(rig.bindpost_json("reroute", "--domain", "d4.example", "--to", "D5.example")["changed"], 2, "reroute")
    tap.equal(arrives(rig, "h@d4.example"), [rig.ip(103)], "goes the other domain's way, from the new binding")
    arrives(rig, "i@d4.example")
    hosts = {r["host"] for r in rig.seen() if "h@d4.example" in r["recipients"] or "i@d4.example" in r["recipients"]}
    tap.equal(hosts, {"mx5.example"}, "to its MX host, with its recipients' addresses")
    admin = [(e["reason"], e["count"]) for e in rig.events("admin")]
    tap.ok(("reroute", 2) in admin and ("rebind", 1) in admin, "with admin events", admin)
    event = rig.events("reroute")[0]
    tap.equal((event["domain"], event["count"], event["who"].split(" (")[0]), ("d5.example", 2, "root"), "and one of its own")


def curfew(tap, rig, policy):
    closed = copy.deepcopy(policy)
    closed["bindings"]["bravo"]["curfew"] = {"from": "* * * * *", "to": "0 0 29 2 *", "timezone": "Europe/Berlin"}
    rig.write_config(closed)
    tap.equal(rig.bindpost("reload", "--no-milter").returncode, 0, "a reload with a curfew")
    hand_over(rig, "k@d6.example", sender="x@bravo.example")
    hand_over(rig, "l@d6.example", sender="x@coyote.example")
    arrives(rig, "l@d6.example")
    row = [q for q in rig.bindpost_json("queues")["items"] if q["binding"] == "bravo"][0]
    tap.ok(row["reason"].startswith("curfew until ") and row["held"] == 1, "queues says what the mail waits for", row)
    tap.equal(rig.bindpost_json("bindings", "bravo")["items"][0]["state"], "curfew", "bindings as well")
    value = rig.bindpost_json("config", "eval", "curfew", "--binding", "bravo")["value"]
    tap.equal(value[0]["timezone"], "Europe/Berlin", "config eval")
    rig.write_config(policy)
    tap.equal(rig.bindpost("reload", "--no-milter").returncode, 0, "a reload without it")
    arrives(rig, "k@d6.example")
    tap.equal([e["reason"] for e in rig.events("suspend")][-1], "curfew", "with an event")


def body(tap, rig):
    standard_domains(rig, 7)
    rig.start_dns()
    rig.start_mx()
    policy = standard_policy(rig)
    policy["global"]["response_rules"] = [
        {"name": "blocked", "match": "ip is blocked", "code": "5xx", "then": "suspend 1h"},
        {"name": "many", "match": "too many connections", "code": 421, "then": "reduce_connections 1", "for": "1h"},
        {"name": "address", "match": "not from this address", "then": "retry_elsewhere"}]
    policy["global"]["host_failure_retry"] = "1s"
    policy["binding_groups"] = {"pool": {"retry_source": "next", "bindings": {
        "p1": {"bind_address": rig.ip(104)}, "p2": {"bind_address": rig.ip(105)}}}}
    policy["rules"] += [{"name": "pool", "when": "mailfrom_domain == 'pool.example'", "bind": "group:pool"},
                        {"name": "b", "when": "mailfrom_domain == 'bravo.example'", "bind": "bravo"}]
    rig.write_config(policy)
    rig.start_deliveryd()
    suspended(tap, rig)
    reduced(tap, rig)
    elsewhere(tap, rig)
    moved(tap, rig, policy)
    rig.write_config(policy)
    curfew(tap, rig, policy)


run(body)
