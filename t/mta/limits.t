#!/usr/bin/env python3
"""Throttles, quotas and shared limits on a running deliveryd, as MX hosts and the MTA in front count them."""
import concurrent.futures
import os
import signal
import smtplib
import sys
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from mta import message, run, standard_domains, standard_policy, wait_for  # noqa: E402


def hand_over(rig, recipients, sender):
    """Each in a message of its own; the replies after the data, None = taken"""
    replies = []
    with smtplib.LMTP(rig.ip(24), 2424, timeout=120) as client:
        for i, recipient in enumerate(recipients):
            try:
                refused = client.sendmail(sender, [recipient], message(i, sender, recipient))
                assert not refused, refused
                replies.append(None)
            except smtplib.SMTPDataError as e:
                replies.append((e.smtp_code, e.smtp_error.decode()))
            except smtplib.SMTPRecipientsRefused as e:
                replies.append(list(e.recipients.values())[0])
    return replies


def times(rig, event, last, host=None):
    """When the MX hosts counted it, from that source address"""
    return sorted(r["time"] for r in rig.seen(event) if r["peer"] == rig.ip(last) and (host is None or r["host"] == host))


def most_in_a_window(at, seconds):
    most = first = 0
    for i, t in enumerate(at):
        while t - at[first] > seconds:
            first += 1
        most = max(most, i - first + 1)
    return most


# Windows are looked at a second short of S, for a busy machine: what an MX host writes down may be that late.

def messages(tap, rig):
    hand_over(rig, ["m%d@d%d.example" % (i, i % 4) for i in range(80)], "news@acme.example")
    wait_for("all of them", lambda: len(times(rig, "message", 101)) >= 80, 300)
    tap.ok(most_in_a_window(times(rig, "message", 101), 3) <= 20, "outbound_throttle_messages 20/4: never more",
           most_in_a_window(times(rig, "message", 101), 3))
    hand_over(rig, ["w1@d1.example", "w2@d2.example"], "x@waits.example")
    waiting = wait_for("what holds them back", lambda: [q for q in rig.bindpost_json("queues")["items"]
                                                        if "outbound_throttle_messages" in q.get("reason", "")])
    tap.equal(waiting[0]["reason"], "waiting for outbound_throttle_messages 1/3600 of bindings.waits", "queues says what for")
    tap.ok("next_attempt" in waiting[0], "and until when", waiting[0])
    row = wait_for("bindings", lambda: [b for b in rig.bindpost_json("bindings", "waits")["items"] if "reason" in b])[0]
    tap.equal(row["reason"], "outbound_throttle_messages 1/3600 of bindings.waits", "bindings says it, too")
    events = wait_for("its event", lambda: [e for e in rig.events("throttle") if "bindings.waits" in e["detail"]])
    tap.equal((events[0]["reason"], events[0]["detail"]),
              ("outbound_throttle_messages", "outbound_throttle_messages 1/3600 of bindings.waits"), "an event tells of it")
    tap.equal(rig.events("deferral"), [], "and it costs no attempt")


def connections(tap, rig):
    hand_over(rig, ["c%d@d1.example" % i for i in range(12)], "x@bravo.example")
    wait_for("all of them", lambda: len(times(rig, "message", 102)) >= 12, 300)
    at = times(rig, "connect", 102)
    tap.ok(len(at) >= 12 and most_in_a_window(at, 3) <= 3, "outbound_throttle_connections 3/4: never more",
           len(at), most_in_a_window(at, 3))


def restart(tap, rig):
    hand_over(rig, ["r%d@d4.example" % i for i in range(30)], "x@elsewhere.example")
    for least in (8, 16):
        wait_for("some", lambda: len(times(rig, "message", 100, "mx4.example")) >= least, 300)
        rig.stop("deliveryd", signal.SIGKILL)
        rig.start_deliveryd()
    wait_for("the others", lambda: len({r["recipients"][0] for r in rig.seen() if r["host"] == "mx4.example"}) >= 30, 300)
    at = times(rig, "message", 100, "mx4.example")
    tap.ok(most_in_a_window(at, 11) <= 8, "8/12 on a domain, with two crashes: never more", most_in_a_window(at, 11))


def metric(rig, name):
    text = urllib.request.urlopen("http://%s:9125/metrics" % rig.ip(24), timeout=30).read().decode()
    return [float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + " ")][0]


def quota(tap, rig):
    rig.mx_option("mx5.example", "rcpt=451 4.7.1 later")
    replies = hand_over(rig, ["q%d@d5.example" % i for i in range(8)], "x@coyote.example")
    tap.equal([bool(r) for r in replies], [False] * 5 + [True] * 3, "max_queued_messages 5: the others are refused")
    tap.ok(replies[5][0] == 451 and "4.7.1" in str(replies[5][1]), "451 4.7.1", replies[5])
    tap.equal(hand_over(rig, ["ok@d0.example"], "news@acme.example"), [None], "other bindings' mail is taken")
    row = rig.bindpost_json("bindings", "coyote")["items"][0]
    tap.equal(row["refused_by"], "max_queued_messages", "bindings says why")
    event = wait_for("events", lambda: [e for e in rig.events("throttle") if e["reason"] == "max_queued_messages"][2:] and
                     [e for e in rig.events("throttle") if e["reason"] == "max_queued_messages"])
    tap.equal([(e["binding"], e["domain"], e["code"]) for e in event], [("coyote", "d5.example", 451)] * 3, "an event for each")
    tap.equal(metric(rig, 'bindpost_handoff_quota_refused_total{option="max_queued_messages"}'), 3.0, "and they are counted")
    rig.stop("deliveryd")
    rig.start_deliveryd()
    tap.ok(all(hand_over(rig, ["q9@d5.example"], "x@coyote.example")), "after a restart, too")
    rig.mx_option("mx5.example", None)
    rig.bindpost("flush", "--all")
    wait_for("room", lambda: rig.bindpost_json("bindings", "coyote")["items"][0]["queued_bytes"] == 0, 300)
    tap.equal(hand_over(rig, ["q10@d5.example"], "x@coyote.example"), [None], "delivery makes room")
    replies = hand_over(rig, ["i%d@d0.example" % i for i in range(6)], "x@dingo.example")
    tap.equal([bool(r) for r in replies], [False] * 4 + [True] * 2, "inbound_throttle_messages 4/1h")


def flood(tap, rig):
    """Several sessions at once, on several threads of the daemon"""
    rig.mx_option("mx3.example", "rcpt=451 4.7.1 later")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(hand_over, rig, ["f%d-%d@d3.example" % (n, i) for i in range(15)], "x@flood.example")
                for n in range(8)]
        taken = sum(reply is None for job in jobs for reply in job.result())
    tap.ok(0 < taken <= 40, "a flood of 120 by 8 sessions: no more than 40 are taken", taken)
    taken += sum(r is None for r in hand_over(rig, ["f%d@d3.example" % i for i in range(45)], "x@flood.example"))
    tap.equal(taken, 40, "and then as many as there is room for")
    tap.equal(hand_over(rig, ["still@d0.example"], "x@elsewhere.example"), [None], "the others' way in is free")
    rig.bindpost("delete", "--binding", "flood")
    tap.equal(hand_over(rig, ["again@d3.example"], "x@flood.example"), [None], "what is deleted makes room")


def roll_up(tap, rig):
    rig.mx_option("mx6.example", "hold=200")
    rig.bindpost("suspend", "rolled")
    hand_over(rig, ["s%d@%s.example" % (i, "tu"[i % 2]) for i in range(60)], "x@dingo2.example")
    rig.bindpost("resume", "rolled")
    wait_for("all of them", lambda: len(times(rig, "message", 105)) >= 60, 300)
    rows = [r for r in rig.seen(None) if r["peer"] == rig.ip(105)]
    tap.equal(max(r["open"] for r in rows), 2, "rollup mx: two domains share max_outbound_connections 2, and reach it")


def body(tap, rig):
    standard_domains(rig, 7)
    rig.record("t.example. MX 10 mx6.example.")
    rig.record("u.example. MX 10 mx6.example.")
    policy = standard_policy(rig, domains={"d4.example": {"outbound_throttle_messages": "8/12"}})
    bindings = policy["bindings"]
    bindings["acme"]["outbound_throttle_messages"] = "20/4"
    bindings["bravo"].update({"outbound_throttle_connections": "3/4", "max_deliveries_per_connection": 1,
                              "match_domain": ["bravo.example"]})
    bindings["coyote"]["max_queued_messages"] = 5
    bindings["dingo"] = {"bind_address": rig.ip(104), "match_domain": ["dingo.example"],
                         "inbound_throttle_messages": "4/1h"}
    bindings["flood"] = {"bind_address": rig.ip(107), "match_domain": ["flood.example"], "max_queued_messages": 40}
    bindings["waits"] = {"bind_address": rig.ip(106), "match_domain": ["waits.example"],
                         "outbound_throttle_messages": "1/1h"}
    bindings["rolled"] = {"bind_address": rig.ip(105), "match_domain": ["dingo2.example"], "rollup": "mx",
                          "max_outbound_connections": 2}
    rig.write_config(policy)
    rig.start_dns()
    rig.start_mx()
    rig.start_deliveryd()
    messages(tap, rig)
    connections(tap, rig)
    restart(tap, rig)
    quota(tap, rig)
    flood(tap, rig)
    roll_up(tap, rig)


run(body)
