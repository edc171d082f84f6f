"""The demonstration behind contrib/try: starts the rig, sends mail, prints what the MX hosts saw."""
import os
import shutil
import signal
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "t", "lib"))
import rig as rigs  # noqa: E402


def policy(rig):
    return {
        "global": {"remote_smtp_port": rig.mx_port, "prohibited_hosts": [], "retry_interval": "5s"},
        "bindings": {
            "acme": {"bind_address": rig.ip(101), "ehlo_hostname": "acme.mta.example",
                     "match_domain": ["acme.example"]},
            "bravo": {"bind_address": rig.ip(102), "ehlo_hostname": "bravo.mta.example"},
            "default": {"bind_address": rig.ip(100), "ehlo_hostname": "mta1.example"},
        },
        "binding_groups": {"shared": {"bindings": {
            "shared1": {"bind_address": rig.ip(111), "ehlo_hostname": "shared1.mta.example"},
            "shared2": {"bind_address": rig.ip(112), "ehlo_hostname": "shared2.mta.example"}}}},
        "rules": [
            {"name": "bravo", "when": "header:X-Customer == 'bravo'", "bind": "bravo"},
            {"name": "small-senders", "when": "mailfrom =~ '@shop[0-9]+\\.example$'", "bind": ["shared1", "shared2"]},
        ],
    }


# (envelope sender, recipient, extra header, how it is submitted)
MAIL = [
    ("news@acme.example", "ann@big.example", "", "smtp"),
    ("news@acme.example", "bob@corp.example", "", "smtp"),
    ("billing@acme.example", "cy@big.example", "", "sendmail"),
    ("noreply@mailer.example", "dee@big.example", "X-Customer: bravo\r\n", "smtp"),
    ("noreply@mailer.example", "eve@corp.example", "X-Customer: bravo\r\n", "sendmail"),
    ("hello@shop1.example", "fay@big.example", "", "smtp"),
    ("hello@shop2.example", "gus@corp.example", "", "smtp"),
    ("hello@shop3.example", "hal@big.example", "", "sendmail"),
    ("someone@unknown.example", "ida@big.example", "", "smtp"),
    ("cheat@unknown.example", "joe@corp.example", "X-Binding: acme\r\n", "smtp"),
]


def set_up(rig):
    rig.mx("mx1.big.example", 11)
    rig.mx("mx2.big.example", 12)
    rig.mx("mail.corp.example", 13)
    rig.record("big.example. MX 10 mx1.big.example.")
    rig.record("big.example. MX 10 mx2.big.example.")
    rig.record("corp.example. MX 10 mail.corp.example.")
    rig.write_config(policy(rig))
    rig.start_dns()
    rig.start_mx()
    rig.start_milter()
    rig.start_deliveryd()
    rig.start_postfix()


def submit(rig):
    for number, (sender, recipient, extra, how) in enumerate(MAIL, 1):
        text = ("From: <%s>\r\nTo: <%s>\r\nSubject: message %d\r\n%s\r\nHello.\r\n" %
                (sender, recipient, number, extra))
        if how == "smtp":
            rig.send(sender, [recipient], text)
        else:
            rig.sendmail(sender, [recipient], text.replace("\r\n", "\n").encode())


def ends(rig):
    """The last event of each recipient that says how it went."""
    rows = {}
    for event in rig.events("delivery", "deferral", "bounce", "expiration"):
        rows[event["recipient"]] = event
    return rows


def show(rig):
    seen = {row["recipients"][0]: row for row in rig.seen()}
    events = ends(rig)
    words = {"delivery": "delivered", "deferral": "deferred", "bounce": "bounced", "expiration": "expired"}
    form = "%-3s %-23s %-8s %-8s %-16s %-19s %-17s %s"
    print(form % ("#", "ENVELOPE SENDER", "BY", "BINDING", "SOURCE ADDRESS *", "EHLO NAME *", "MX HOST", "STATE"))
    for number, (sender, recipient, _, how) in enumerate(MAIL, 1):
        saw, event = seen.get(recipient, {}), events.get(recipient, {})
        print(form % (number, sender, how, event.get("binding", "-"), saw.get("peer", "-"), saw.get("ehlo", "-"),
                      saw.get("host", "-"), words.get(event.get("event"), "waiting")))
    print("* as the MX host saw it\n")
    wrong = [r for r in seen if events.get(r, {}).get("source") != seen[r]["peer"]]
    return len(seen) == len(MAIL) and not wrong


COMMANDS = {
    "bindpost": """exec '%(program)s' -c '%(config)s' "$@"\n""",
    "send": """# send FROM TO [HEADER]: one message, by SMTP through Postfix
printf '%%s\\r\\n' "From: <$1>" "To: <$2>" "Subject: a test" ${3:+"$3"} "" "Hello." |
	exec curl -sS "smtp://%(smtp)s" --mail-from "$1" --mail-rcpt "$2" -T -
""",
}


def write_commands(rig):
    words = {"program": rig.program("bindpost"), "config": rig.config, "smtp": "%s:%d" % rig.smtp}
    for name, text in COMMANDS.items():
        with open(rig.path(name), "w", encoding="ascii") as f:
            f.write("#!/bin/sh\n" + text % words)
        os.chmod(rig.path(name), 0o755)


def tell_keep(rig):
    print("""Everything keeps running until Ctrl-C, which stops it and removes the folder. In another terminal:

  cd %s

  ./send news@acme.example you@big.example             mail through the Postfix in front
  ./send me@mailer.example you@corp.example 'X-Customer: bravo'
  tail -f mx/log                                       what the MX hosts see
  tail -f log/events.jsonl                             what deliveryd says: one event a line
  ./bindpost summary                                   also: bindings, queues, messages, message ID, connections

One MX host says no: mail is deferred, and delivered once it takes mail again
  echo 'rcpt=451 4.7.1 later' > control/mail.corp.example.opt
  rm control/mail.corp.example.opt

Change etc/policy.json, then
  ./bindpost check && ./bindpost reload
""" % rig.dir, flush=True)


def tell_next():
    print("""Next:
  contrib/try --keep          the same, left running for you to play with
  README                      four lines for your own Postfix; etc/ has configurations to start from
  ./t/run                     all tests
""")


def run(rig, keep):
    print("Starting DNS, 3 MX hosts, bindpost-milter, deliveryd and Postfix in %s" % rig.dir, flush=True)
    set_up(rig)
    print("Sending %d messages of three customers and unknown senders through Postfix\n" % len(MAIL), flush=True)
    submit(rig)
    rigs.wait_for("all mail to arrive", lambda: len(ends(rig)) >= len(MAIL) and len(rig.seen()) >= len(MAIL))
    good = show(rig)
    if keep:
        write_commands(rig)
        tell_keep(rig)
        while True:
            signal.pause()
    if good:
        tell_next()
    return 0 if good else 1


def main():
    keep = "--keep" in sys.argv[1:]
    folder = tempfile.mkdtemp(prefix="bindpost-try-")
    rig = rigs.Rig(folder)
    rigs.end_on_signals()
    try:
        return run(rig, keep)
    except KeyboardInterrupt:
        return 0 if keep else 130
    except rigs.RigError as error:
        print("contrib/try: %s\nThe logs stay in %s" % (error, rig.path("log")), file=sys.stderr)
        folder = None
        return 1
    finally:
        with rigs.signals_ignored():
            rig.close()
            if folder:
                shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
