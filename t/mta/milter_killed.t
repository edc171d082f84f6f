#!/usr/bin/env python3
"""The milter is killed, stopped, frozen and reloaded while Postfix and Sendmail take mail: what was accepted arrives once,
from its own binding's address; nothing passes unbound."""
import os
import signal
import smtplib
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from mta import message, run, standard_domains, standard_policy, wait_for  # noqa: E402

SENDERS = [("news@acme.example", "", 101), ("x@list.example", "X-Customer: bravo\r\nX-Binding: acme\r\n", 102),
           ("m@sub.coyote.example", "", 103)]
THREADS, BETWEEN = 4, 25  # mails accepted between two accidents


class Senders:
    """Clients that try again what was not accepted, each mail with a name of its own"""

    def __init__(self, rig, prefix):
        self.rig, self.prefix = rig, prefix
        self.lock = threading.Lock()
        self.sent = {}  # name -> address it must leave from
        self.unsure = set()  # the connection was lost where the reply was due: it may have been taken
        self.refused = self.n = 0
        self.ending, self.failed = False, []
        self.threads = [threading.Thread(target=self.work, args=(i,), daemon=True) for i in range(THREADS)]
        for thread in self.threads:
            thread.start()

    def next(self):
        with self.lock:
            self.n += 1
            return self.n

    def work(self, kind):
        try:
            while not self.ending:
                self.until_accepted(self.next(), kind == 0)
        except Exception as e:  # a thread's own trace would be lost
            self.failed.append(repr(e))

    def until_accepted(self, number, by_command):
        sender, headers, last = SENDERS[number % 3]
        name = "%s%d@d%d.example" % (self.prefix, number, number % 4)
        text = message(number, sender, name, headers, body="x\r\n" * 500)
        while not self.ending:
            try:
                if by_command:
                    self.rig.sendmail(sender, [name], text.replace(b"\r\n", b"\n"))
                else:
                    self.rig.send(sender, [name], text)
                break
            except smtplib.SMTPResponseException as e:
                assert 400 <= e.smtp_code < 500, "%s: %d %r" % (name, e.smtp_code, e.smtp_error)
            except smtplib.SMTPRecipientsRefused as e:
                assert all(400 <= code < 500 for code, _ in e.recipients.values()), e.recipients
            except (smtplib.SMTPServerDisconnected, OSError):
                with self.lock:
                    self.unsure.add(name)
            self.refused += 1
            time.sleep(0.02)  # a client's pause before it tries again
        else:
            return
        with self.lock:
            self.sent[name] = self.rig.ip(last)

    def more(self, n):
        before = len(self.sent)
        wait_for("%d more mails to be accepted" % n, lambda: self.failed or len(self.sent) >= before + n, 180)

    def end(self):
        self.ending = True
        for thread in self.threads:
            thread.join()


def killed(rig):
    proc = rig.procs.pop("milter")
    proc.send_signal(signal.SIGKILL)
    proc.wait()
    rig.start_milter()


def stopped(rig):
    rig.stop("milter")
    rig.start_milter()


def frozen(rig):
    proc = rig.procs["milter"]
    proc.send_signal(signal.SIGSTOP)
    time.sleep(1)  # no condition to wait for: that nothing happens is the point
    proc.send_signal(signal.SIGCONT)


def reloaded(rig):
    rig.bindpost("reload")


def asked_to_reload(rig):
    rig.procs["milter"].send_signal(signal.SIGHUP)


def accidents(tap, rig, prefix):
    senders = Senders(rig, prefix)
    for accident in (killed, stopped, frozen, reloaded, killed, asked_to_reload, stopped, killed):
        senders.more(BETWEEN)
        accident(rig)
    senders.more(BETWEEN)
    senders.end()
    tap.equal(senders.failed, [], "%s: who is refused is told to try again" % prefix)
    print("# %d accepted, %d refused for the time being, %d unsure" % (len(senders.sent), senders.refused, len(senders.unsure)))

    def rows():
        return [r for r in rig.seen() if r["recipients"][0].startswith(prefix)]

    def missing():
        return set(senders.sent) - {r["recipients"][0] for r in rows()}

    def arrived():
        if prefix == "sendmail":  # Postfix tries again by itself
            rig.postqueue_flush()
        return not missing()

    wait_for("all that was accepted", arrived, 180, 0.5)
    names = [r["recipients"][0] for r in rows()]
    tap.equal([n for n in set(names) if names.count(n) > 1 and n not in senders.unsure], [], "all arrives, and once")
    tap.equal([r for r in rows() if r["peer"] != rig.ip(SENDERS[int(r["recipients"][0].split("@")[0][len(prefix):]) % 3][2])], [],
              "each from its own binding's address")
    tap.equal([r for r in rows() if r["x_binding"]], [], "without a stamp")


def body(tap, rig):
    standard_domains(rig, 4)
    rig.write_config(standard_policy(rig))
    rig.start_dns()
    rig.start_mx()
    rig.start_milter()
    rig.start_deliveryd()
    rig.start_postfix()
    accidents(tap, rig, "postfix")
    rig.stop_front()
    rig.start_sendmail()
    accidents(tap, rig, "sendmail")
    tap.equal([e for e in rig.events("bad_stamp")], [], "no stamp was bad")
    tap.equal({e["binding"] for e in rig.events("delivery")}, {"acme", "bravo", "coyote"}, "nothing went by default")


run(body)
