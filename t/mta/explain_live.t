#!/usr/bin/env python3
"""`bindpost explain --live --id` names the member of a group that each message went by."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from mta import message, run, standard_domains, standard_policy, wait_for  # noqa: E402

N = 24


def send(rig, name, n):
    for i in range(n):
        recipient = "%s%d@d0.example" % (name, i)
        field = "X-Sticky: key%d\r\n" % (i % 5) if i % 2 else ""
        rig.send("x@group.example", [recipient], message(i, "x@group.example", recipient, field))
    wait_for("%s to be delivered" % name, lambda: len(events(rig, name)) >= n)
    return events(rig, name)


def events(rig, name):
    return [e for e in rig.events("delivery") if e["recipient"].startswith(name)]


def explained(rig, name, event):
    i = int(event["recipient"].split("@")[0][len(name):])
    field = ["--header", "X-Sticky: key%d" % (i % 5)] if i % 2 else []
    answer = rig.bindpost_json("explain", "--from", "x@group.example", "--to", event["recipient"], "--id", event["id"], "--live", *field)
    return answer["recipients"][0]["member"]


def body(tap, rig):
    standard_domains(rig, 1)
    policy = standard_policy(rig)
    policy["binding_groups"] = {"pool": {"bindings": {
        "p1": {"bind_address": rig.ip(111)}, "p2": {"bind_address": rig.ip(112), "weight": 2}, "p3": {"bind_address": rig.ip(113)},
        "elsewhere": {"bind_address": "192.0.2.7", "weight": 5},
        "resting": {"bind_address": rig.ip(114), "weight": 5, "domains": {"d0.example": {"suspend_delivery": True}}}}}}
    policy["rules"] = [{"name": "sticky", "when": "header:X-Sticky =~ '.'", "bind": "group:pool", "sticky": "header:X-Sticky"},
                       {"name": "pool", "when": "mailfrom_domain == 'group.example'", "bind": "group:pool"}]
    rig.write_config(policy)
    rig.start_dns()
    rig.start_mx()
    rig.start_milter()
    rig.start_deliveryd()
    rig.start_postfix()
    went = send(rig, "first", N)
    tap.equal([(e["binding"], explained(rig, "first", e)) for e in went if e["binding"] != explained(rig, "first", e)], [],
              "without a member whose address is elsewhere, and one that the configuration suspends for that domain")
    tap.ok(len({e["binding"] for e in went}) > 1, "several members are used", {e["binding"] for e in went})
    rig.bindpost("suspend", "p2", "--domain", "d0.example")
    went = send(rig, "second", N)
    tap.equal([(e["binding"], explained(rig, "second", e)) for e in went if e["binding"] != explained(rig, "second", e)], [],
              "and without one that is suspended by command")
    tap.ok("p2" not in {e["binding"] for e in went}, "which gets no mail")


run(body)
