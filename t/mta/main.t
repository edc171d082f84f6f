#!/usr/bin/env python3
"""The main job: 300 messages of three customers and an unknown sender to 10 domains, through real Postfix."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from mta import message, run, standard_domains, standard_policy, wait_for, without_trace  # noqa: E402

SENDERS = [("news@acme.example", "", "acme", 101), ("x@list.example", "X-Customer: bravo\r\n", "bravo", 102),
           ("m@sub.coyote.example", "", "coyote", 103), ("who@unknown.example", "", "default", 100)]
FORGED = ["X-Binding: acme\r\n", "x-binding: acme\r\nX-BINDING: bravo\r\n", "X-Binding:\r\n acme\r\n",
          "X-Other: 1\r\nX-Binding: group:shared\r\n\tfolded\r\nX-Last: 2\r\n", "X-Binding: nonsense; b=1\r\n"]


def body(tap, rig):
    standard_domains(rig)
    rig.write_config(standard_policy(rig))
    rig.start_dns()
    rig.start_mx(save=True)
    rig.start_milter()
    rig.start_deliveryd()
    rig.start_postfix()

    sent = {}
    with rig.client() as client:
        for i in range(300):
            sender, headers, binding, last = SENDERS[i % 4]
            recipient = "u%d@d%d.example" % (i, i % 10)
            text = message(i, sender, recipient, headers)
            sent[recipient] = (text, binding, rig.ip(last), sender)
            client.sendmail(sender, [recipient], text, mail_options=["BODY=8BITMIME"])
    wait_for("300 deliveries", lambda: len(rig.seen()) >= 300, 60)
    rows = rig.seen()
    tap.equal(sorted(r["recipients"][0] for r in rows), sorted(sent), "each message arrives once")
    tap.equal([r for r in rows if r["peer"] != sent[r["recipients"][0]][2]], [],
              "each from its binding's address, as the MX host saw it")
    tap.equal([r["ehlo"] for r in rows if r["ehlo"].split(".")[0] not in (sent[r["recipients"][0]][1], "mta1")], [],
              "each with its binding's EHLO name")
    tap.equal([r for r in rows if r["sender"] != sent[r["recipients"][0]][3]], [], "envelope senders are kept")
    tap.equal([r for r in rows if r["bare"]], [], "no bare CR or LF leaves")
    wrong = []
    for row in rows:
        with open(rig.path("mx", "saved", row["file"]), "rb") as f:
            got = without_trace(f.read(), 2)  # ours and Postfix's
        if got != sent[row["recipients"][0]][0]:
            wrong.append((row["recipients"], got[:300]))
    tap.equal(wrong, [], "byte for byte as accepted, less the stamp, plus trace headers")
    # the log wakes every 50 ms: events come after what they tell
    wait_for("the events", lambda: len(rig.events("delivery")) >= 300 and len(rig.events("reception")) >= 300)
    events = rig.events("delivery")
    tap.equal(len(events), 300, "one delivery event each")
    tap.equal([e for e in events if e["source"] != sent[e["recipient"]][2] or e["binding"] != sent[e["recipient"]][1]],
              [], "events tell binding and source as they were")
    tap.equal(len(rig.events("reception")), 300, "one reception event each")
    tap.equal({e["rule"] for e in events if e["binding"] == "acme"}, {"match_domain"}, "events tell the rule")

    before = len(rig.seen())
    for i, headers in enumerate(FORGED):
        rig.send("cheat@unknown.example", ["f%d@d1.example" % i], message(1000 + i, "cheat@unknown.example", "f", headers))
    wait_for("forged", lambda: len(rig.seen()) >= before + len(FORGED))
    forged = rig.seen()[before:]
    tap.equal({r["peer"] for r in forged}, {rig.ip(100)}, "a forged X-Binding never decides anything")
    tap.equal({r["x_binding"] for r in forged}, {None}, "and never reaches the MX host")

    before = len(rig.seen())
    rig.send("", ["bounce@d2.example"], message(2000, "mailer-daemon@front.example", "bounce@d2.example"))
    wait_for("null sender", lambda: len(rig.seen()) > before)
    tap.equal((rig.seen()[-1]["sender"], rig.seen()[-1]["peer"]), ("", rig.ip(100)),
              "the null reverse-path that no rule claims goes to default")

    before = len(rig.seen())
    rig.sendmail("cron@acme.example", ["local@d3.example"], b"Subject: local\n\nfrom the sendmail command\n")
    wait_for("sendmail command", lambda: len(rig.seen()) > before)
    tap.equal(rig.seen()[-1]["peer"], rig.ip(101), "mail of the sendmail command is bound too")

    before = len(rig.seen())
    rig.send("news@acme.example", ["m%d@d%d.example" % (i, i % 4) for i in range(40)],
             message(3000, "news@acme.example", "many"))
    wait_for("40 recipients", lambda: sum(len(r["recipients"]) for r in rig.seen()[before:]) >= 40)
    many = rig.seen()[before:]
    tap.equal(len([x for r in many for x in r["recipients"]]), 40, "40 recipients in 4 domains get it once each")
    tap.ok(len(many) <= 8, "in one transaction per domain, as far as Postfix left them together", len(many))

    wait_for("the queues to empty", lambda: rig.bindpost_json("summary").get("active", 1) == 0)
    tap.equal(rig.bindpost_json("messages")["items"], [], "nothing is left in the queue")
    tap.equal(rig.postqueue(), [], "nor in Postfix's")
    tap.equal(rig.stop("deliveryd"), 0, "deliveryd stops in good order")
    tap.equal(rig.stop("milter"), 0, "and so does the milter")


run(body)
