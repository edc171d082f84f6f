#!/usr/bin/env python3
"""With real Postfixes on both sides: DSN parameters from end to end, BDAT, XCLIENT to a gateway of our own."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from mta import message, run, standard_domains, standard_policy, wait_for  # noqa: E402

SENDER = "boss@back.example"


def submit(rig, number, recipient, mail=(), rcpt=()):
    with rig.client() as client:
        client.ehlo("client.example")
        code, said = client.mail(SENDER, list(mail))
        assert code == 250, said
        code, said = client.rcpt(recipient, list(rcpt))
        assert code == 250, said
        code, said = client.data(message(number, SENDER, recipient))
        assert code == 250, said


def reports(rig):
    """What came back to the sender: from whom, and the text."""
    found = []
    for row in rig.seen():
        if row["sender"] == "" and row["recipients"] == [SENDER]:
            with open(rig.path("mx", "saved", row["file"]), "rb") as f:
                found.append(f.read().decode("utf-8", "replace"))
    return found


def about(rig, recipient):
    return [text for text in reports(rig) if "Final-Recipient: rfc822; %s" % recipient in text]


def no_dsn_there(tap, rig):
    """The MX host does not offer DSN."""
    submit(rig, 1, "good@d0.example", ["ENVID=one+2B1", "RET=HDRS"], ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;first@else.example"])
    text = wait_for("the report of success", lambda: about(rig, "good@d0.example"))[0]
    for part in ("Subject: Successful mail delivery report", "Action: relayed", "Original-Envelope-Id: one+1",
                 "Original-Recipient: rfc822; first@else.example", "Reporting-MTA: dns; mta1.bindpost.example"):
        tap.ok(part in text, "success is told: " + part, text)
    rig.mx_option("mx1.example", "rcpt=550 5.1.1 no such user")
    submit(rig, 2, "never@d1.example", (), ["NOTIFY=NEVER"])
    submit(rig, 3, "success@d1.example", (), ["NOTIFY=SUCCESS"])
    submit(rig, 4, "plain@d1.example")
    submit(rig, 5, "failure@d1.example", ["RET=FULL"], ["NOTIFY=FAILURE"])
    wait_for("the bounces", lambda: len(rig.events("bounce")) >= 4)
    wait_for("the reports", lambda: about(rig, "plain@d1.example") and about(rig, "failure@d1.example"))
    tap.ok("message/rfc822" in about(rig, "failure@d1.example")[0], "RET=FULL: the message itself comes back")
    tap.ok("Original-Recipient: rfc822; plain@d1.example" in about(rig, "plain@d1.example")[0],
           "the ORCPT that Postfix adds is in the report")
    submit(rig, 6, "last@d1.example", (), ["NOTIFY=FAILURE"])
    wait_for("one more", lambda: about(rig, "last@d1.example"))
    tap.equal((about(rig, "never@d1.example"), about(rig, "success@d1.example")), ([], []), "NOTIFY=NEVER, and without FAILURE: none")


def log_lines(rig, pattern):
    with open(rig.path("log", "postfix.log"), encoding="utf-8", errors="replace") as f:
        return [line for line in f if re.search(pattern, line)]


def gateway(tap, rig):
    """A Postfix of our own that takes XCLIENT, and does DSN and CHUNKING."""
    submit(rig, 10, "user@inside.example", ["ENVID=ten"], ["NOTIFY=SUCCESS"])
    done = wait_for("delivery to the gateway", lambda: [e for e in rig.events("delivery") if e["recipient"] == "user@inside.example"])
    tap.equal(done[0]["code"], 250, "the gateway took it")
    session = wait_for("the gateway's session to end", lambda: log_lines(rig, "gateway/smtpd.* disconnect from .*xclient="))[-1]
    for word in ("xclient=", "bdat=1"):
        tap.ok(word in session, "the gateway's session had " + word, session)
    tap.ok("data=" not in session, "and no DATA", session)
    tap.ok(log_lines(rig, r"gateway/smtpd.*client=.*\[127\.0\.0\.1\]"), "it logs the first client, not us",
           "".join(log_lines(rig, "gateway/smtpd")))
    tap.ok(about(rig, "user@inside.example") or wait_for("the gateway's report", lambda: about(rig, "user@inside.example")),
           "the report of success is the gateway's business")
    tap.ok("Reporting-MTA: dns; front.bindpost.example" in about(rig, "user@inside.example")[0], "and it makes it",
           about(rig, "user@inside.example")[0])
    tap.equal(len(about(rig, "user@inside.example")), 1, "once")


def body(tap, rig):
    standard_domains(rig, 4)
    rig.record("back.example. MX 10 mx3.example.")
    policy = standard_policy(rig, domains={"inside.example": {
        "gateway": "%s:%d" % (rig.ip(61), 2526), "xclient": "required", "tls": "no"}})
    rig.write_config(policy)
    rig.start_dns()
    rig.start_mx(save=True)
    rig.start_milter()
    rig.start_deliveryd()
    rig.start_postfix([
        "%s:2526 inet n - n - - smtpd -o syslog_name=gateway -o smtpd_authorized_xclient_hosts=127.0.0.0/8"
        " -o smtpd_milters= -o content_filter=discard:end" % rig.ip(61)])
    no_dsn_there(tap, rig)
    gateway(tap, rig)


run(body)
