#!/usr/bin/env python3
"""SIGTERM with transactions under way: those that can end do, what is past end of data is told and tried again."""
import os
import smtplib
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from mta import message, run, standard_domains, standard_policy, wait_for  # noqa: E402


def hand_over(rig, *recipients):
    """By LMTP, as an MTA in front does."""
    with smtplib.LMTP(rig.ip(24), 2424, timeout=30) as client:
        for i, recipient in enumerate(recipients):
            refused = client.sendmail("news@acme.example", [recipient], message(i, "news@acme.example", recipient))
            assert not refused, refused


def arrivals(rig):
    count = {}
    for row in rig.seen():
        for name in row["recipients"]:
            count[name] = count.get(name, 0) + 1
    return count


def sending(rig):
    return [m["recipient"][0] for m in rig.bindpost_json("messages")["items"] if m["state"] == "sending"]


def stop_with_a_slow_peer(tap, rig):
    rig.mx_option("mx0.example", "hold=3000")
    names = ["slow%d@d0.example" % i for i in range(5)] + ["quick%d@d1.example" % i for i in range(50)]
    hand_over(rig, *names)
    wait_for("the slow ones", lambda: len([n for n in sending(rig) if n.startswith("slow")]) > 0)
    time.sleep(0.3)  # to the end of data
    tap.equal(rig.stop("deliveryd"), 0, "SIGTERM while replies are awaited: exit 0")
    tap.equal(rig.events("uncertain"), [], "nothing is uncertain: there was time for the reply")
    tap.equal(rig.events()[-1]["event"], "stop", "the last event is the stop")
    rig.mx_option("mx0.example", None)
    rig.start_deliveryd()
    wait_for("everything", lambda: all(n in arrivals(rig) for n in names))
    wait_for("the queue to be empty", lambda: rig.bindpost_json("messages")["items"] == [])
    count = arrivals(rig)
    tap.equal([n for n in names if count[n] != 1], [], "each arrives once, before or after the restart")
    tap.equal(len(rig.events("delivery")), len(names), "and is told once")


def stop_at_the_limit(tap, rig):
    rig.mx_option("mx2.example", "hold=60000")
    hand_over(rig, "never@d2.example")
    wait_for("the transaction", lambda: sending(rig) == ["never@d2.example"])
    time.sleep(0.3)
    hand_over(rig, "quick@d1.example")
    wait_for("the other", lambda: "quick@d1.example" in arrivals(rig))
    begin = time.monotonic()
    tap.equal(rig.stop("deliveryd", seconds=20), 0, "SIGTERM with a peer that does not answer the end of data: exit 0")
    took = time.monotonic() - begin
    tap.ok(took < 7, "within stop_timeout", took)
    told = rig.events("uncertain")
    tap.equal([(e["recipient"], e["state"], e["class"]) for e in told], [("never@d2.example", "dot", "uncertain")],
              "the recipient is recorded uncertain")
    rig.mx_option("mx2.example", None)
    rig.start_deliveryd()
    rows = rig.bindpost_json("messages")["items"]
    if rows:
        tap.equal([r["recipient"] for r in rows], [["never@d2.example"]], "it is kept")
    wait_for("the retry", lambda: [e for e in rig.events("delivery") if e["recipient"] == "never@d2.example"])
    tap.ok(True, "and tried again after the restart")
    wait_for("the queue to be empty", lambda: rig.bindpost_json("messages")["items"] == [])
    tap.equal(arrivals(rig)["quick@d1.example"], 1, "what was delivered is not tried again")


def stop_idle(tap, rig):
    begin = time.monotonic()
    tap.equal(rig.stop("deliveryd", seconds=20), 0, "SIGTERM with nothing to do: exit 0")
    tap.ok(time.monotonic() - begin < 3, "at once")


def body(tap, rig):
    standard_domains(rig, 3)
    rig.start_dns()
    rig.start_mx()
    rig.write_config(standard_policy(rig), stop_timeout="5s")
    rig.start_deliveryd()
    stop_with_a_slow_peer(tap, rig)
    stop_at_the_limit(tap, rig)
    stop_idle(tap, rig)


run(body)
