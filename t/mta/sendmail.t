#!/usr/bin/env python3
"""Real Sendmail in front, configured by etc/sendmail/bindpost.mc: milter, LMTP to deliveryd, MX hosts."""
import os
import smtplib
import socket
import struct
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from mta import message, run, standard_domains, standard_policy, wait_for, without_trace  # noqa: E402

SENDERS = [("news@acme.example", "", "acme", 101), ("x@list.example", "X-Customer: bravo\r\n", "bravo", 102),
           ("m@sub.coyote.example", "", "coyote", 103), ("who@unknown.example", "", "default", 100)]
FORMS = ["X-Binding: acme", "x-binding: acme", "X-BINDING:acme", "X-Binding : acme", "X-Binding\t: acme",
         "X-Binding:\r\n acme", "X-Binding: group:shared;\r\n\tb=x;\r\n p=high", "x-BINDING: " + "y" * 3000]
PLACES = ["%s\r\n", "X-Other: 1\r\n%s\r\nX-Last: 2\r\n", "%s\r\nX-Other: 1\r\n%s\r\n%s\r\n"]
FACTS = [("ip", "sender_ip in '127.0.0.0/8'"), ("helo", "helo == 'client.test'"), ("auth", "auth_user == 'joe'"),
         ("recv_ip", "recv_ip in '127.0.0.0/8'"), ("recv_port", "recv_port == '2525'"),
         ("daemon", "daemon_name == 'MTA'"), ("size", "size > '200000'"), ("body", "body =~ 'needle'")]
AUTH = """\
define(`confAUTH_MECHANISMS', `PLAIN')dnl
TRUST_AUTH_MECH(`PLAIN')dnl
LOCAL_CONFIG
ESASL_CONF_PATH=%s
divert(0)dnl
"""


class Passwords(threading.Thread):
    """What asks for passwords is SASL's library in Sendmail; what answers is a saslauthd: user joe, password secret."""

    def __init__(self, rig):
        super().__init__(daemon=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(rig.path("run", "mux"))
        self.listener.listen()
        with open(rig.path("etc", "Sendmail.conf"), "w", encoding="ascii") as f:
            f.write("pwcheck_method: saslauthd\nsaslauthd_path: %s\nmech_list: plain\n" % rig.path("run", "mux"))
        self.start()

    def run(self):
        while True:
            with self.listener.accept()[0] as conn, conn.makefile("rb") as f:
                user, password, _, _ = [f.read(struct.unpack(">H", f.read(2))[0]) for _ in range(4)]
                answer = b"OK" if (user, password) == (b"joe", b"secret") else b"NO"
                conn.sendall(struct.pack(">H", len(answer)) + answer)


def arrivals(rig, prefix):
    return [row for row in rig.seen() if row["recipients"][0].strip('"').startswith(prefix)]


def saved(rig, row):
    with open(rig.path("mx", "saved", row["file"]), "rb") as f:
        return f.read()


def main_job(tap, rig):
    sent = {}
    with rig.client() as client:
        for i in range(120):
            sender, headers, _, last = SENDERS[i % 4]
            recipient = "Main%d@d%d.example" % (i, i % 10)
            sent[recipient] = (message(i, sender, recipient, headers), rig.ip(last), sender)
            client.sendmail(sender, [recipient], sent[recipient][0], mail_options=["BODY=8BITMIME"])
    wait_for("120 deliveries", lambda: len(arrivals(rig, "Main")) >= 120, 60)
    rows = arrivals(rig, "Main")
    tap.equal(sorted(r["recipients"][0] for r in rows), sorted(sent), "each message arrives once")
    tap.equal([r for r in rows if r["peer"] != sent[r["recipients"][0]][1]], [],
              "each from its binding's address, as the MX host saw it")
    tap.equal([r for r in rows if r["sender"] != sent[r["recipients"][0]][2]], [], "envelope senders are kept")
    tap.equal([r for r in rows if r["bare"] or r["x_binding"]], [], "no bare CR or LF and no stamp leaves")
    wrong = [r["recipients"] for r in rows if without_trace(saved(rig, r), 2) != sent[r["recipients"][0]][0]]
    tap.equal(wrong, [], "byte for byte as accepted, less the stamp, plus trace headers")


def bytes_kept(tap, rig):
    text = message(1, "news@acme.example", "Bytes@d1.example", body="." + "z" * 5000 + "\r\n\r\n..\r\n \r\n\xe9\xff\r\n")
    text = text.replace(b"Subject: ", b"Subject: \xc3\xa9 ")
    rig.send("news@acme.example", ["Bytes@d1.example"], text)
    wait_for("it", lambda: arrivals(rig, "Bytes"))
    tap.equal(without_trace(saved(rig, arrivals(rig, "Bytes")[0]), 2), text, "long lines, dots, 8 bits without BODY=")
    recipient = '"Quoted local"@d1.example'
    rig.send("Strange=+!%x@acme.example", [recipient], message(2, "news@acme.example", "x@d1.example"))
    wait_for("it", lambda: arrivals(rig, "Quoted"))
    row = arrivals(rig, "Quoted")[0]
    tap.equal((row["recipients"], row["sender"], row["peer"]), ([recipient], "Strange=+!%x@acme.example", rig.ip(101)),
              "local parts are kept as they are")


def forged(tap, rig):
    n = 0
    with rig.client() as client:
        for form in FORMS:
            for place in PLACES:
                text = message(n, "cheat@unknown.example", "x", place.replace("%s", form))
                client.sendmail("cheat@unknown.example", ["forged%d@d1.example" % n], text)
                n += 1
    wait_for("forged", lambda: len(arrivals(rig, "forged")) >= n)
    rows = arrivals(rig, "forged")
    tap.equal({r["peer"] for r in rows}, {rig.ip(100)}, "a forged X-Binding never decides anything (%d tried)" % n)
    headers = [saved(rig, r).split(b"\r\n\r\n")[0].lower() for r in rows]
    tap.equal([h for h in headers if b"x-binding" in h], [], "and none reaches the MX host")
    tap.equal(len([h for h in headers if b"x-other: 1" in h]), n - len(FORMS), "what stood beside it does")


def local_and_null(tap, rig):
    rig.send("", ["null@d2.example"], message(2000, "mailer-daemon@front.example", "null@d2.example"))
    wait_for("null sender", lambda: arrivals(rig, "null"))
    row = arrivals(rig, "null")[0]
    tap.equal((row["sender"], row["peer"]), ("", rig.ip(100)), "the null reverse-path goes to default")
    rig.sendmail("cron@acme.example", ["local@d3.example"], b"Subject: local\n\nfrom the sendmail command\n")
    wait_for("sendmail command", lambda: arrivals(rig, "local"))
    tap.equal(arrivals(rig, "local")[0]["peer"], rig.ip(101), "mail of the sendmail command is bound")
    literal = "literal@[%s]" % rig.ip(11)
    rig.send("news@acme.example", [literal], message(2001, "news@acme.example", literal))
    wait_for("address literal", lambda: arrivals(rig, "literal"))
    row = arrivals(rig, "literal")[0]
    tap.equal((row["host"], row["peer"]), ("mx0.example", rig.ip(101)), "an address literal does not go round deliveryd")


def many(tap, rig):
    names = ["many%d@d%d.example" % (i, i % 4) for i in range(400)]
    rig.send("news@acme.example", names, message(3000, "news@acme.example", "many"))
    wait_for("400 recipients", lambda: sum(len(r["recipients"]) for r in arrivals(rig, "many")) >= 400, 60)
    rows = arrivals(rig, "many")
    tap.equal(sorted(x for r in rows for x in r["recipients"]), sorted(names), "400 recipients get it once each")
    wait_for("the log", lambda: len([e for e in rig.events("reception") if e["recipient"].startswith("many")]) >= 400)
    ids = {e["id"] for e in rig.events("reception") if e["recipient"].startswith("many")}
    tap.equal(len(ids), 1, "handed over in one transaction")


def facts(tap, rig):
    def send(name, body="x\r\n", helo="other.test", login=False):
        with rig.client() as c:
            c.ehlo(helo)
            if login:
                c.login("joe", "secret", initial_response_ok=True)
            c.sendmail("x@fact.example", ["fact-%s@d4.example" % name],
                       message(1, "x@fact.example", "x", "X-Fact: %s\r\n" % name.split("-")[-1], body))

    bodies = {"size": ("y" * 990 + "\r\n") * 210, "body": "a needle\r\n"}
    for name, _ in FACTS:
        send(name)
        send("true-" + name, bodies.get(name, "x\r\n"), "client.test", name == "auth")
    wait_for("all", lambda: len(arrivals(rig, "fact-")) == 2 * len(FACTS))
    peers = {r["recipients"][0].split("@")[0][5:]: r["peer"] for r in arrivals(rig, "fact-")}
    for name, test in FACTS:
        always = name in ("ip", "recv_ip", "recv_port", "daemon")
        tap.equal((peers["true-" + name], peers[name]), (rig.ip(102), rig.ip(102 if always else 100)), test)


def down(tap, rig):
    rig.stop("deliveryd")
    names = ["down%d@d%d.example" % (i, i % 4) for i in range(10)]
    for i, name in enumerate(names):
        rig.send("news@acme.example", [name], message(i, "news@acme.example", name))
    # in the background: it tries at once
    wait_for("Sendmail to keep them", lambda: len(rig.postqueue()) == 10)
    tap.equal(arrivals(rig, "down"), [], "deliveryd down: Sendmail keeps its mail")
    rig.start_deliveryd()
    rig.postqueue_flush()
    wait_for("hand-over", lambda: len(arrivals(rig, "down")) >= 10)
    tap.equal(sorted(r["recipients"][0] for r in arrivals(rig, "down")), sorted(names), "and hands it over after, once each")
    tap.equal({r["peer"] for r in arrivals(rig, "down")}, {rig.ip(101)}, "from the address it was bound to")


def refused_without_milter(tap, rig):
    rig.stop("milter")
    try:
        rig.send("news@acme.example", ["lost@d1.example"], message(1, "news@acme.example", "lost@d1.example"))
        code = 250
    except smtplib.SMTPResponseException as e:
        code = e.smtp_code
    tap.ok(400 <= code < 500, "milter down: mail stays at its sender", code)
    rig.start_milter()
    rig.send("news@acme.example", ["found@d1.example"], message(1, "news@acme.example", "found@d1.example"))
    wait_for("it", lambda: arrivals(rig, "found"))
    tap.equal(arrivals(rig, "found")[0]["peer"], rig.ip(101), "and is bound once the milter is back")


def unix_socket(tap, rig):
    rig.stop_front()
    rig.start_sendmail(handoff="FILE " + rig.sock("handoff.sock"))
    rig.send("news@acme.example", ["unix@d1.example", "unix@d2.example"], message(1, "news@acme.example", "unix"))
    wait_for("them", lambda: len(arrivals(rig, "unix")) >= 2)
    tap.equal({r["peer"] for r in arrivals(rig, "unix")}, {rig.ip(101)}, "hand-over by a Unix socket")


def body(tap, rig):
    standard_domains(rig)
    policy = standard_policy(rig)
    policy["rules"] += [{"name": "fact-" + name, "when": "header:X-Fact == '%s' AND %s" % (name, test), "bind": "bravo"}
                        for name, test in FACTS]
    rig.write_config(policy)
    rig.start_dns()
    rig.start_mx(save=True)
    rig.start_milter()
    rig.start_deliveryd()
    Passwords(rig)
    rig.start_sendmail(more=AUTH % rig.path("etc"))
    for part in (main_job, bytes_kept, forged, local_and_null, many, facts, down, refused_without_milter, unix_socket):
        part(tap, rig)
    tap.equal(rig.postqueue(), [], "nothing is left in Sendmail's queue")
    wait_for("the queues to empty", lambda: rig.bindpost_json("summary").get("active", 1) == 0)
    tap.equal(rig.bindpost_json("messages")["items"], [], "nor in deliveryd's")


run(body)
