#!/usr/bin/env python3
"""Sick and full disks under the whole daemon: failed sync, failed write, read-only, full, failing reads."""
import os
import smtplib
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig as rigs  # noqa: E402
from mta import message, run, standard_domains, standard_policy, wait_for  # noqa: E402


def build_shim(rig):
    out = rig.path("sick_disk.so")
    source = os.path.join(rigs.HERE, "sick_disk.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", "-o", out, source, "-ldl"], check=True)
    rig.prefix = ["env", "LD_PRELOAD=" + out, "SICK_DISK=" + rig.path("sick"), "SICK_DIR=" + rig.path("spool")]


def make_sick(rig, word):
    if word is None:
        os.unlink(rig.path("sick"))
    else:
        with open(rig.path("sick.new"), "w", encoding="ascii") as f:
            f.write(word)
        os.rename(rig.path("sick.new"), rig.path("sick"))


def lmtp(rig):
    client = smtplib.LMTP(rig.ip(24), 2424, timeout=30)
    client.docmd("LHLO front.example")
    return client


def hand_over(client, number, recipient, size=2000):
    """The reply to one message: (code, enhanced)."""
    for command in ("MAIL FROM:<news@acme.example> SIZE=%d" % size, "RCPT TO:<%s>" % recipient):
        code, text = client.docmd(command)
        if code != 250:
            client.docmd("RSET")
            return code, text.split()[0].decode()
    code, text = client.docmd("DATA")
    if code != 354:
        return code, text.split()[0].decode()
    body = "X-Binding: acme\r\nSubject: %d\r\nMessage-ID: <%d@t.example>\r\n\r\n%s\r\n.\r\n" % (
        number, number, "\r\n".join(["y" * 70] * (size // 72)))
    client.send(body)
    code, text = client.getreply()
    return code, text.split()[0].decode()


def refused_at_mail(client, size):
    code, text = client.docmd("MAIL FROM:<news@acme.example> SIZE=%d" % size)
    client.docmd("RSET")
    return code, text.split()[0].decode()


def arrived(rig):
    return {name for row in rig.seen() for name in row["recipients"]}


def dies_and_comes_back(tap, rig, word, acknowledged):
    """The disk fails under load: writers get 451, the process ends with the reason, nothing acknowledged is lost."""
    client = lmtp(rig)
    base = len(acknowledged) * 1000
    for i in range(20):
        name = "%s%d@d0.example" % (word, base + i)
        if hand_over(client, i, name)[0] == 250:
            acknowledged.add(name)
    make_sick(rig, word)
    code, enhanced = 0, ""
    try:
        code, enhanced = hand_over(client, 99, "lost%s@d0.example" % word)
    except (smtplib.SMTPServerDisconnected, ConnectionError):
        pass
    tap.equal((code, enhanced), (451, "4.3.0"), "%s: the writer gets 451 4.3.0" % word)
    proc = rig.procs["deliveryd"]
    proc.wait(20)
    rig.procs.pop("deliveryd")
    tap.equal(proc.returncode, 1, "%s: the process ends" % word)
    tap.ok("ending" in rig.tail("deliveryd"), "%s: with the reason" % word, rig.tail("deliveryd"))
    make_sick(rig, None)
    rig.start_deliveryd()
    wait_for("what was acknowledged", lambda: acknowledged <= arrived(rig))
    tap.ok(True, "%s: after a restart everything acknowledged is delivered" % word)


def full(tap, rig):
    rig.mx_option("mx1.example", "rcpt=451 4.2.0 later")
    client = lmtp(rig)
    kept = set()
    make_sick(rig, "full")
    last = 250
    for i in range(2000):  # what is pre-written can still be filled: 16 MB segments
        name = "f%d@d1.example" % i
        try:
            last, enhanced = hand_over(client, i, name, 200000)
        except smtplib.SMTPServerDisconnected:
            last, enhanced = 421, ""
            break
        if last == 250:
            kept.add(name)
        else:
            break
    tap.equal((last, enhanced), (452, "4.3.1"), "full: mail is refused with 452 4.3.1 after %d messages" % len(kept))
    tap.equal(rig.procs["deliveryd"].poll(), None, "full: the daemon goes on")
    rig.mx_option("mx1.example", None)
    wait_for("the queue to drain on the full disk", lambda: kept <= arrived(rig), 60)
    tap.ok(True, "full: what is queued drains")
    rig.stop("deliveryd")
    for _ in range(3):
        rig.start_deliveryd()
        rig.stop("deliveryd")
    tap.ok(True, "full: starts again and again")
    rig.start_deliveryd()
    make_sick(rig, None)
    client = lmtp(rig)
    wait_for("acceptance to resume", lambda: hand_over(client, 1, "again@d0.example")[0] == 250)
    tap.ok(True, "full: acceptance resumes by itself")


def min_free(tap, rig):
    rig.stop("deliveryd")
    vfs = os.statvfs(rig.dir)
    rig.write_config(spool={"min_free": vfs.f_bavail * vfs.f_frsize + (1 << 40)})
    rig.start_deliveryd()
    client = lmtp(rig)
    tap.equal(refused_at_mail(client, 100), (452, "4.3.1"), "below min_free: 452 4.3.1 at MAIL")
    code = client.docmd("LHLO again.example")[0]
    tap.equal(code, 250, "and LHLO is answered all the same")
    rig.stop("deliveryd")
    rig.write_config()
    rig.start_deliveryd()


def failing_reads(tap, rig):
    rig.stop("deliveryd")
    rig.write_config(spool={"memory": 0})
    rig.start_deliveryd()
    make_sick(rig, "read")
    client = lmtp(rig)
    hand_over(client, 1, "r@d2.example", 100000)
    wait_for("a deferral", lambda: [e for e in rig.events("deferral") if e["recipient"] == "r@d2.example"])
    tap.ok("r@d2.example" not in arrived(rig), "EIO while a body is read: deferred, nothing half is sent")
    make_sick(rig, None)
    wait_for("delivery", lambda: "r@d2.example" in arrived(rig))
    tap.ok(True, "and delivered when the disk reads again")
    rig.mx_option("mx1.example", "rcpt=451 4.2.0 later")
    client = lmtp(rig)
    tap.equal(hand_over(client, 2, "s@d1.example")[0], 250, "one message is queued")
    rig.stop("deliveryd")
    make_sick(rig, "read")
    try:
        rig.start_deliveryd(10)
        tap.ok(False, "EIO at start ends the process")
    except rigs.RigError as error:
        tap.ok("Input/output error" in str(error), "EIO at start ends the process, naming what", error)
    rig.procs.pop("deliveryd", None)
    make_sick(rig, None)
    rig.mx_option("mx1.example", None)
    rig.start_deliveryd()
    wait_for("it", lambda: "s@d1.example" in arrived(rig))
    tap.ok(True, "and nothing was freed or set aside by it")


def body(tap, rig):
    build_shim(rig)
    standard_domains(rig, 3)
    rig.write_config(standard_policy(rig))
    rig.start_dns()
    rig.start_mx()
    rig.start_deliveryd()
    acknowledged = set()
    for word in ("sync", "write", "readonly"):
        dies_and_comes_back(tap, rig, word, acknowledged)
    full(tap, rig)
    min_free(tap, rig)
    failing_reads(tap, rig)


run(body)
