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
            "acme": {"bind_address": rig.ip(101), "ehlo_hostname": "acme.mta.bindpost.example",
                     "match_domain": ["acme.example"]},
            "bravo": {"bind_address": rig.ip(102), "ehlo_hostname": "bravo.mta.bindpost.example"},
            "default": {"bind_address": rig.ip(100), "ehlo_hostname": "mta1.bindpost.example"},
        },
        "binding_groups": {"shared": {"bindings": {
            "shared1": {"bind_address": rig.ip(111), "ehlo_hostname": "shared1.mta.bindpost.example"},
            "shared2": {"bind_address": rig.ip(112), "ehlo_hostname": "shared2.mta.bindpost.example"}}}},
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
    form = "%-3s %-24s %-8s %-8s %-16s %-29s %-18s %s"
    print(form % ("#", "ENVELOPE SENDER", "BY", "BINDING", "SOURCE ADDRESS *", "EHLO NAME *", "MX HOST", "STATE"))
    for number, (sender, recipient, _, how) in enumerate(MAIL, 1):
        saw, event = seen.get(recipient, {}), events.get(recipient, {})
        print(form % (number, sender, how, event.get("binding", "-"), saw.get("peer", "-"), saw.get("ehlo", "-"),
                      saw.get("host", "-"), words.get(event.get("event"), "waiting")))
    print("* as the MX host saw it\n")
    wrong = [r for r in seen if events.get(r, {}).get("source") != seen[r]["peer"]]
    return len(seen) == len(MAIL) and not wrong


def tell_keep(rig):
    run = "%s -c %s" % (rig.program("bindpost"), rig.config)
    print("""Everything keeps running (this terminal; Ctrl-C stops it and removes %s).

Send mail through the Postfix in front:
  swaks --server %s:%d --from news@acme.example --to you@big.example
Look at it:
  %s summary
  %s queues
  tail -f %s | jq -c '{event, binding, source, recipient, reply}'
  tail -f %s            # what the MX hosts saw
Stop the mail at one MX host and watch it being deferred, then delivered:
  echo 'rcpt=451 4.7.1 later' > %s
  rm %s
Change the policy, then: %s check && %s reload
  %s
""" % (rig.dir, *rig.smtp, run, run, rig.path("log", "events.jsonl"), rig.path("mx", "log"),
       rig.path("control", "mail.corp.example.opt"), rig.path("control", "mail.corp.example.opt"), run, run,
       rig.path("etc", "policy.json")))


def tell_next():
    print("""Next:
  contrib/try --keep          the same, left running for you to play with
  README                      four lines for your own Postfix; etc/ has configurations to start from
  ./t/run                     all tests
""")


def main():
    keep = "--keep" in sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = tempfile.mkdtemp(prefix="bindpost-try-")
    rig = rigs.Rig(folder)
    try:
        print("Starting DNS, 3 MX hosts, bindpost-milter, deliveryd, Postfix in %s" % folder)
        set_up(rig)
        print("Sending %d messages of three customers and unknown senders through Postfix\n" % len(MAIL))
        submit(rig)
        rigs.wait_for("all mail to arrive", lambda: len(ends(rig)) >= len(MAIL) and len(rig.seen()) >= len(MAIL))
        good = show(rig)
        if keep:
            tell_keep(rig)
            signal.pause()
        elif good:
            tell_next()
        return 0 if good else 1
    except KeyboardInterrupt:
        print()
        return 0 if keep else 130
    except rigs.RigError as error:
        print("contrib/try: %s\nLogs stay in %s" % (error, rig.path("log")), file=sys.stderr)
        folder = None
        return 1
    finally:
        rig.close()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
