#!/usr/bin/env python3
"""The operator's commands on a running deliveryd: suspend, flush, delay, hold, release, fail, delete; their traces."""
import http.client
import json
import os
import smtplib
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from mta import message, run, standard_domains, standard_policy, wait_for  # noqa: E402

LATER = "rcpt=451 4.7.1 come back later"


def hand_over(rig, *recipients, sender="news@acme.example"):
    with smtplib.LMTP(rig.ip(24), 2424, timeout=30) as client:
        for i, recipient in enumerate(recipients):
            refused = client.sendmail(sender, [recipient], message(i, sender, recipient))
            assert not refused, refused


def arrived(rig):
    return sorted(name for row in rig.seen() for name in row["recipients"])


def rows(rig, *args):
    return rig.bindpost_json("messages", *args)["items"]


def states(rig):
    return {m["recipient"][0]: m["state"] for m in rows(rig)}


def post(rig, path, form=""):
    s = socket.socket(socket.AF_UNIX)
    s.connect(rig.sock("control.sock"))
    c = http.client.HTTPConnection("localhost")
    c.sock = s
    c.request("POST", path, form)
    answer = c.getresponse()
    value = (answer.status, json.loads(answer.read()))
    c.close()
    return value


def suspend(tap, rig):
    answer = rig.bindpost_json("suspend", "acme")
    tap.equal((answer["binding"], answer["state"]), ("acme", "suspended"), "suspend says what it did")
    hand_over(rig, "s1@d0.example", "s2@d1.example")
    hand_over(rig, "other@d0.example", sender="x@coyote.example")
    wait_for("the other binding's", lambda: "other@d0.example" in arrived(rig))
    tap.equal(states(rig), {"s1@d0.example": "held", "s2@d1.example": "held"}, "mail of a suspended binding is taken and held")
    row = rig.bindpost_json("bindings", "acme")["items"][0]
    tap.equal((row["state"], row["held"], row["received"]), ("suspended", 2, 2), "bindings says so")
    tap.equal([q["reason"] for q in rig.bindpost_json("queues")["items"] if q["binding"] == "acme"], ["suspended"] * 2,
              "queues says why they wait")
    tap.equal(rig.stop("deliveryd"), 0, "a restart")
    rig.start_deliveryd()
    time.sleep(0.5)
    tap.equal(states(rig), {"s1@d0.example": "held", "s2@d1.example": "held"}, "does not end the suspension")
    tap.equal(rig.bindpost("resume", "acme").returncode, 0, "resume")
    wait_for("the mail", lambda: {"s1@d0.example", "s2@d1.example"} <= set(arrived(rig)))
    tap.equal(rig.bindpost("resume", "acme", check=False).returncode, 1, "what is not suspended is not resumed: exit 1")
    tap.equal(rig.bindpost("suspend", "nobody", check=False).returncode, 1, "an unknown binding: exit 1")
    rig.bindpost("suspend", "acme", "--domain", "D1.example", "--for", "2s")
    hand_over(rig, "now@d0.example", "soon@d1.example")
    wait_for("the other domain", lambda: "now@d0.example" in arrived(rig))
    tap.equal(states(rig).get("soon@d1.example"), "held", "suspended to one domain alone")
    wait_for("its end", lambda: "soon@d1.example" in arrived(rig))
    wait_for("its event", lambda: len(rig.events("suspend", "resume")) == 4)
    events = rig.events("suspend", "resume")
    tap.equal([(e["event"], e["binding"], e.get("domain")) for e in events],
              [("suspend", "acme", None), ("resume", "acme", None), ("suspend", "acme", "d1.example"),
               ("resume", "acme", "d1.example")], "suspend and resume are told, --for ends by itself")
    tap.ok(events[0]["who"].startswith("root (uid 0)"), "with who did it", events[0])


def deferred(tap, rig):
    """Five that wait for d2's MX host."""
    rig.mx_option("mx2.example", LATER)
    names = ["a%d@d2.example" % i for i in range(4)]
    hand_over(rig, *names)
    hand_over(rig, "b@d2.example", sender="x@coyote.example")
    wait_for("deferrals", lambda: len([s for s in states(rig).values() if s == "deferred"]) == 5)
    first = rows(rig)[0]
    tap.equal((first["code"], first["enhanced"], first["recipients"]), (451, "4.7.1", 1), "messages tells the last reply")
    tap.ok("come back later" in first["reply"], "with its text", first)
    return names


def change(tap, rig):
    names = deferred(tap, rig)
    by_name = {m["recipient"][0]: m for m in rows(rig)}
    tap.equal(rig.bindpost("flush", check=False).returncode, 2, "no selector: exit 2")
    tap.equal(rig.bindpost("flush", "--bindign", "acme", check=False).returncode, 2, "a mistyped one: exit 2")
    tap.equal(rig.bindpost("flush", "--id", "xyz", check=False).returncode, 2, "a wrong value: exit 2")
    tap.equal(rig.bindpost("flush", "--domain", "d7.example", check=False).returncode, 1, "nothing matches: exit 1")
    dry = rig.bindpost_json("delete", "--binding", "acme", "--domain", "d2.example", "--dry-run")
    tap.equal((dry["matched"], dry["changed"], len(dry["items"])), (4, 0, 4), "--dry-run shows and changes nothing")
    tap.equal(len(rows(rig)), 5, "indeed")
    tap.equal([rig.bindpost_json("hold", "--dry-run", "--header", h)["matched"] for h in
               ("subject: 0", "To: <a3@d2.example>", "Message-ID")], [2, 1, 5], "--header reads the messages")
    tap.equal(rig.bindpost_json("hold", "--sender", "@acme.example", "--recipient", "a0@d2.example", "--recipient",
                                "a1@D2.example")["changed"], 2, "hold: different selectors AND, repeated ones OR")
    tap.equal(rig.bindpost_json("delay", "--id", by_name["a2@d2.example"]["id"], "--for", "3h")["changed"], 1, "delay by id")
    tap.equal(rig.stop("deliveryd"), 0, "a restart")
    rig.start_deliveryd()
    now = {m["recipient"][0]: m for m in rows(rig)}
    tap.equal([now[n]["state"] for n in names[:2]], ["held", "held"], "does not release")
    tap.ok(now["a2@d2.example"]["next_attempt"] > by_name["a2@d2.example"]["next_attempt"][:13], "nor forget the delay")
    tap.equal((now["a2@d2.example"]["code"], now["a2@d2.example"]["enhanced"]), (451, "4.7.1"), "nor the last reply")
    answer = rig.bindpost_json("fail", "--recipient", "a0@d2.example", "--code", "550", "--enhanced", "5.7.1",
                               "--text", "we do not send this")
    tap.equal(answer["changed"], 1, "fail")
    wait_for("the bounce", lambda: rig.events("bounce"))
    bounce = rig.events("bounce")[0]
    tap.equal((bounce["recipient"], bounce["code"], bounce["enhanced"], bounce["reply"]),
              ("a0@d2.example", 550, "5.7.1", "we do not send this"), "with code and text of one's own")
    wait_for("its DSN", lambda: rig.events("dsn"))
    tap.equal(rig.bindpost_json("fail", "--recipient", "b@d2.example", "--no-dsn")["changed"], 1, "fail --no-dsn")
    wait_for("the bounce", lambda: len(rig.events("bounce")) == 2)
    tap.equal(len(rig.events("dsn")), 1, "makes no DSN")
    tap.equal(rig.bindpost_json("delete", "--recipient", "a1@d2.example")["changed"], 1, "delete")
    tap.equal(sorted(n for n in states(rig) if n.endswith("@d2.example")), ["a2@d2.example", "a3@d2.example"], "the others wait on")
    rig.mx_option("mx2.example", None)
    tap.equal(rig.bindpost_json("flush", "--binding", "acme")["changed"] >= 1, True, "flush")
    wait_for("the mail", lambda: {"a2@d2.example", "a3@d2.example"} <= set(arrived(rig)))
    tap.equal(len([e for e in rig.events("delivery") if e["recipient"] == "a1@d2.example"]), 0, "nothing of what was deleted")
    wait_for("the events", lambda: [e for e in rig.events("admin") if e["reason"] == "flush"])
    admin = [(e["reason"], e["count"]) for e in rig.events("admin") if e["reason"] not in ("suspend", "resume")]
    tap.equal(admin[:5], [("hold", 2), ("delay", 1), ("fail", 1), ("fail", 1), ("delete", 1)], "each leaves one admin event")
    tap.ok(all(e["who"].startswith("root (uid 0)") for e in rig.events("admin")), "naming who")


def held(tap, rig):
    rig.mx_option("mx3.example", "hold=1500,dot=451 4.3.0 not now,times=1")
    hand_over(rig, "h@d3.example")
    wait_for("it is sent", lambda: states(rig).get("h@d3.example") == "sending")
    rig.bindpost("hold", "--recipient", "h@d3.example")
    wait_for("its return", lambda: states(rig).get("h@d3.example") == "held", 20)
    tap.ok(True, "what was being sent is held when it comes back")
    rig.mx_option("mx3.example", None)
    rig.bindpost("release", "--all")
    wait_for("the mail", lambda: "h@d3.example" in arrived(rig))
    tap.equal(rig.bindpost("release", "--all", check=False).returncode, 1, "nothing held: exit 1")


def api(tap, rig):
    tap.equal(post(rig, "/v1/flush")[0], 400, "no selector: 400")
    tap.equal(post(rig, "/v1/flush?all=1&code=550")[0], 400, "a parameter of another kind: 400")
    tap.equal(post(rig, "/v1/suspend?binding=nobody")[0], 404, "an unknown binding: 404")
    tap.equal(post(rig, "/v1/resume?binding=acme")[0], 409, "not suspended: 409")
    status, answer = post(rig, "/v1/flush", "domain=none.example&binding=acme")
    tap.equal((status, answer["matched"]), (200, 0), "parameters may stand in the body")
    tap.equal(post(rig, "/v1/delete?id=" + "0" * 16 + "&all=2")[0], 400, "all is 0 or 1")
    tap.equal(rig.bindpost("bindings", "nobody", check=False).returncode, 1, "bindings of an unknown name: exit 1")
    tap.equal(rig.bindpost_json("bindings", "--binding", "nobody")["items"], [], "as a filter it is an empty list")
    tap.equal(len(rig.bindpost_json("bindings", "default")["items"]), 1, "bindings of a known one")
    total = rig.bindpost_json("summary")
    tap.ok(total["received"] >= 2 and total["spool"]["health"] == "ok" and "last_minute" in total, "summary", total)


def body(tap, rig):
    standard_domains(rig, 4)
    rig.start_dns()
    rig.start_mx()
    rig.write_config(standard_policy(rig, **{"global": {"retry_interval": "1h", "host_failure_retry": "1s"}}))
    rig.start_deliveryd()
    suspend(tap, rig)
    change(tap, rig)
    held(tap, rig)
    api(tap, rig)


run(body)
