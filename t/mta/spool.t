#!/usr/bin/env python3
"""A stopped daemon's spool: checked, exported, imported, also damaged; and the operators' view while it runs."""
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import smtplib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig as rigs  # noqa: E402
from mta import run, standard_domains, standard_policy, wait_for  # noqa: E402

PAGE = os.path.join(rigs.HERE, "..", "..", "deliveryd", "spool", "bindpost-spool.7")


def hand_over(rig, recipients, raw, sender="news@acme.example"):
    with smtplib.LMTP(rig.ip(24), 2424, timeout=60) as client:
        client.docmd("LHLO front.example")
        for line in ["MAIL FROM:<%s>" % sender] + ["RCPT TO:<%s>" % r for r in recipients]:
            assert client.docmd(line)[0] == 250, line
        assert client.docmd("DATA")[0] == 354
        client.send(raw.replace(b"\n.", b"\n..") + b".\r\n")
        for _ in recipients:  # one reply each
            assert client.getreply()[0] == 250


def command(rig, *args):
    return subprocess.run([rig.program("bindpost"), "-c", rig.config, *args], capture_output=True, text=True,
                          timeout=100, check=False)


def fill(rig):
    """Small and large, several recipients and domains, dots and 8-bit."""
    big = b"".join(b"%07d %s\r\n" % (i, b"x" * 60) for i in range(10000))
    for i in range(30):
        body = big if i % 10 == 3 else b".dot\r\n\xe4\xf6\xfc %d\r\n" % i * (i + 1)
        rcpts = ["jane@d1.example"] if i % 2 else ["u%d@d1.example" % i, "v%d@d1.example" % i, "w@d2.example"]
        hand_over(rig, rcpts, b"X-Binding: %s\r\nSubject: %d\r\n\r\n%s" % (b"acme" if i % 3 else b"coyote", i, body))


def view(rig, sql):
    try:
        with sqlite3.connect("file:%s?mode=ro" % rig.path("spool", "view.db"), uri=True) as db:
            return db.execute(sql).fetchall()
    except sqlite3.Error:  # not there yet
        return None


def examples(tap, rig):
    found = 0
    with open(PAGE, encoding="utf-8") as f:
        page = f.read().replace("\\(dq", '"')
    for line in re.findall(r"^\.Dl (sqlite3 .*)$", page, re.M):
        done = subprocess.run(line, shell=True, cwd=rig.path("spool"), capture_output=True, text=True, timeout=60, check=False)
        found += 1
        tap.ok(done.returncode == 0 and not done.stderr, "the manual's " + line, done)
        if "received <" not in line:
            tap.ok(done.stdout, "which says something")
    tap.ok(found >= 5, "the manual has examples")


def views(tap, rig):
    wait_for("the view", lambda: (view(rig, "SELECT count(*) FROM messages") or [(0,)])[0][0] == 30, 100)
    wait_for("last replies", lambda: view(rig, "SELECT count(*) FROM deliveries WHERE last_reply IS NULL") == [(0,)], 100)
    rows = {row["id"]: row for row in rig.bindpost_json("messages", "--limit", "500")["items"]}
    tap.equal(sorted(i for (i,) in view(rig, "SELECT DISTINCT id FROM deliveries")), sorted(rows), "the view has what `messages` has")
    tap.equal(view(rig, "SELECT sum(deliveries) FROM by_binding"), view(rig, "SELECT count(*) FROM deliveries"), "by binding")
    tap.ok("451" in view(rig, "SELECT last_reply FROM oldest LIMIT 1")[0][0], "the last reply")
    examples(tap, rig)
    held = sqlite3.connect(rig.path("spool", "view.db"), timeout=60, isolation_level=None)
    held.execute("BEGIN EXCLUSIVE")
    hand_over(rig, ["locked@d0.example"], b"Subject: x\r\n\r\nx\r\n")
    wait_for("delivery while somebody holds a lock", lambda: any("locked@d0.example" in r["recipients"] for r in rig.seen()), 60)
    rig.stop("deliveryd")
    rig.start_deliveryd()
    hand_over(rig, ["locked2@d0.example"], b"Subject: x\r\n\r\nx\r\n")
    wait_for("delivery, also after a restart", lambda: any("locked2@d0.example" in r["recipients"] for r in rig.seen()), 60)
    tap.ok(True, "a held lock delays nothing")
    held.execute("ROLLBACK")
    held.close()
    os.unlink(rig.path("spool", "view.db"))
    wait_for("it is made anew", lambda: (view(rig, "SELECT count(*) FROM messages") or [(0,)])[0][0] == 30, 100)
    tap.ok(True, "deleted, it is made anew")


def folder(path):
    return {name: open(os.path.join(path, name), "rb").read() for name in sorted(os.listdir(path))
            if os.path.isfile(os.path.join(path, name)) and not name.startswith("view.db")}


def check_and_export(tap, rig, rows, raw):
    refused = command(rig, "spool", "check")
    tap.ok(refused.returncode == 1 and "stop it first" in refused.stderr, "refused while deliveryd runs", refused)
    rig.stop("deliveryd")
    before = folder(rig.path("spool"))
    done = command(rig, "spool", "check")
    tap.ok(done.returncode == 0 and "30 messages" in done.stdout and "sound" in done.stdout, "check: sound", done)
    report = json.loads(command(rig, "spool", "check", "--json").stdout)
    tap.equal((report["ok"], report["messages"], report["damaged_places"], report["bodies"]), (True, 30, 0, []), "check --json")
    done = command(rig, "spool", "export", "--to", rig.path("out"))
    tap.ok(done.returncode == 0 and done.stdout.startswith("30 messages"), "export", done)
    tap.equal(folder(rig.path("spool")), before, "neither changes a byte")
    tap.equal(sorted(n for n in os.listdir(rig.path("out")) if n.endswith(".eml")), sorted(i + ".eml" for i in rows), "one .eml each")
    for i, row in rows.items():
        with open(rig.path("out", i + ".json"), encoding="utf-8") as f:
            envelope = json.load(f)
        with open(rig.path("out", i + ".eml"), "rb") as f:
            text = f.read()
        if text != raw[i] or envelope["sender"] != "news@acme.example" or not envelope["deliveries"][0]["attempts"]:
            tap.ok(False, "%s is as it was" % i, envelope, row)
    tap.ok(True, "bytes and envelopes are as they were")
    again = command(rig, "spool", "export", "--to", rig.path("out"))
    tap.ok(again.returncode == 1 and "File exists" in again.stderr, "nothing is overwritten", again)


def import_it(tap, rig, rows):
    shutil.move(rig.path("spool"), rig.path("spool.old"))
    os.mkdir(rig.path("spool"), 0o700)
    done = command(rig, "spool", "import", rig.path("out"))
    tap.ok(done.returncode == 0 and done.stdout.startswith("30 messages"), "import", done)
    done = command(rig, "spool", "import", rig.path("out"), "--json")
    tap.equal((done.returncode, json.loads(done.stdout)), (0, {"imported": 0, "settings": 0, "there_already": 30, "refused": 0}), "again: all there already")
    command(rig, "spool", "export", "--to", rig.path("out2"))
    a, b = folder(rig.path("out")), folder(rig.path("out2"))
    tap.equal({n: b.get(n) for n in a}, a, "exported again it is the same, byte for byte")
    rig.start_deliveryd()
    tap.equal(sorted({r["id"] for r in rig.bindpost_json("messages", "--limit", "500")["items"]}), sorted(rows), "deliveryd has it under the same ids")
    tap.ok("suspend" in open(rig.path("out2", "settings.json"), encoding="utf-8").read(), "and the suspension of a binding")
    rig.mx_option("mx1.example", None)
    rig.mx_option("mx2.example", None)
    rig.bindpost("flush", "--all")
    wait_for("delivery", lambda: not rig.bindpost_json("messages")["items"], 100)
    got = [r for row in rig.seen() for r in row["recipients"]]
    tap.equal(got.count("jane@d1.example"), 15, "and delivers it, once")
    rig.stop("deliveryd")


BAD = [
    ("no object", "[]"), ("no JSON", "{"), ("nothing", "{}"),
    ("no recipients", lambda e: e["deliveries"][0].update(recipients=[])),
    ("no deliveries", lambda e: e.update(deliveries=[])),
    ("no sender", lambda e: e.pop("sender")),
    ("a control character", lambda e: e.update(sender="a\rb@c.example")),
    ("another id", lambda e: e.update(id="0000000000000001")),
    ("a bad id", lambda e: e.update(id="zz")),
    ("a binding that is none", lambda e: e["deliveries"][0].update(binding="a b")),
    ("a time that is none", lambda e: e.update(received="yesterday")),
    ("a negative number", lambda e: e["deliveries"][0].update(attempts=-1)),
    ("an unknown flag", lambda e: e.update(flags=["strange"])),
    ("text for a list", lambda e: e["deliveries"][0].update(recipients="x@y")),
    ("an address in <>", lambda e: e["deliveries"][0]["recipients"][0].update(address="<x@y>")),
    ("a NUL", lambda e: e["deliveries"][0]["recipients"][0].update(address="x\0@y")),
]


def hostile_import(tap, rig, one):
    shutil.rmtree(rig.path("spool"))
    os.mkdir(rig.path("spool"), 0o700)
    with open(rig.path("out", one + ".json"), encoding="utf-8") as f:
        good = f.read()
    for what, change in BAD:
        shutil.rmtree(rig.path("bad"), ignore_errors=True)
        os.mkdir(rig.path("bad"))
        shutil.copy(rig.path("out", one + ".eml"), rig.path("bad"))
        envelope = json.loads(good)
        if callable(change):
            change(envelope)
        with open(rig.path("bad", one + ".json"), "w", encoding="utf-8") as f:
            f.write(change if isinstance(change, str) else json.dumps(envelope))
        done = command(rig, "spool", "import", rig.path("bad"))
        tap.ok(done.returncode == 1 and one in done.stderr and "0 messages" in done.stdout, "import: %s is refused" % what, done)
    for what, text in (("a bare LF", b"Subject: x\n\r\nx\r\n"), ("a bare CR", b"Subject: \rx\r\n\r\nx\r\n"),
                       ("a NUL", b"Subject: \0\r\n\r\n"), ("no end of line", b"Subject: x\r\n\r\nx")):
        with open(rig.path("bad", one + ".json"), "w", encoding="utf-8") as f:
            f.write(good)
        with open(rig.path("bad", one + ".eml"), "wb") as f:
            f.write(text)
        done = command(rig, "spool", "import", rig.path("bad"))
        tap.ok(done.returncode == 1 and one in done.stderr, "import: %s is refused" % what, done)
    rng = random.Random(7)
    for i in range(30):  # any spoiled text ends in a word, never in a crash
        text = bytearray(good.encode())
        for _ in range(1 + rng.randrange(5)):
            text[rng.randrange(len(text))] = rng.randrange(256)
        with open(rig.path("bad", one + ".json"), "wb") as f:
            f.write(text)
        done = command(rig, "spool", "import", rig.path("bad"))
        if done.returncode not in (0, 1):
            tap.ok(False, "import of spoiled text", bytes(text), done)
        shutil.rmtree(rig.path("spool"))
        os.mkdir(rig.path("spool"), 0o700)
    tap.equal(json.loads(command(rig, "spool", "check", "--json").stdout)["messages"], 0, "and an empty spool is empty")


def flip(path, at, n=4):
    with open(path, "r+b") as f:
        f.seek(at)
        was = f.read(n)
        f.seek(at)
        f.write(bytes(b ^ 0x5a for b in was))


def segments_with(path, mark):
    for name in sorted(os.listdir(path)):
        if name.endswith(".seg"):
            with open(os.path.join(path, name), "rb") as f:
                at = f.read().find(mark)
            if at >= 0:
                return os.path.join(path, name), at
    raise AssertionError("no segment has " + repr(mark))


def damaged(tap, rig):
    spool = rig.path("spool.old")
    seg, at = segments_with(spool, b"Subject: 8\r\n")
    flip(seg, at)
    body = sorted(os.listdir(os.path.join(spool, "bodies")))[0]
    flip(os.path.join(spool, "bodies", body), 70000)
    done = command(rig, "spool", "check", spool)
    tap.ok(done.returncode == 1 and "DAMAGED" in done.stdout and os.path.basename(seg) in done.stderr, "check names the damaged segment", done)
    report = json.loads(command(rig, "spool", "check", "--json", spool).stdout)
    tap.equal((report["ok"], report["unreadable_bodies"], len(report["bodies"])), (False, 2, 2), "and the messages without a body")
    done = command(rig, "spool", "export", "--to", rig.path("out3"), spool)
    tap.ok(done.returncode == 1 and done.stdout.startswith("30 messages"), "export of what can be read", done)
    tap.equal(len([n for n in os.listdir(rig.path("out3")) if n.endswith(".eml")]), 28, "28 of 30 with their bytes")
    os.unlink(os.path.join(spool, "bodies", body))
    tap.equal(json.loads(command(rig, "spool", "check", "--json", spool).stdout)["unreadable_bodies"], 2, "a body file that is gone")
    rng = random.Random(11)
    for _ in range(25):  # anything may be anywhere: always an answer
        names = [n for n in os.listdir(spool) if n.endswith((".seg", ".idx"))]
        name = os.path.join(spool, rng.choice(names))
        flip(name, rng.randrange(min(os.path.getsize(name), 1 << 20)), rng.randrange(1, 64))
        done = command(rig, "spool", "check", "--json", spool)
        if done.returncode != 1 or json.loads(done.stdout)["ok"]:
            tap.ok(False, "check of a damaged spool", done)
    tap.ok(True, "check of ever more damage")


def usage(tap, rig):
    for args, code in ((("spool",), 2), (("spool", "mend"), 2), (("spool", "export"), 2), (("spool", "import"), 2),
                       (("spool", "check", "a", "b"), 2), (("spool", "check", "--to", "x"), 2), (("spool", "check", "--what"), 2),
                       (("spool", "check", rig.path("nowhere")), 1), (("spool", "export", "--to", rig.path("o"), rig.path("nowhere")), 1),
                       (("spool", "import", rig.path("nowhere")), 1)):
        done = command(rig, *args)
        tap.ok(done.returncode == code and done.stderr, "%s: exit %d" % (" ".join(args[:3]), code), done)


def body(tap, rig):
    standard_domains(rig, 3)
    policy = standard_policy(rig)
    policy["global"]["retry_interval"] = "1h"
    rig.write_config(policy, spool={"path": rig.path("spool"), "min_free": "1MB", "segment_size": "4MB"})
    rig.start_dns()
    rig.start_mx()
    rig.mx_option("mx1.example", "rcpt=451 4.2.0 later")
    rig.mx_option("mx2.example", "rcpt=451 4.2.0 later")
    rig.start_deliveryd()
    fill(rig)
    rows = wait_for("30 messages, tried", lambda: (lambda items: {r["id"]: r for r in items} if len({r["id"] for r in items}) == 30
                                                  and all(r.get("attempts", r.get("attempt")) for r in items) else None)(
                                                      rig.bindpost_json("messages", "--limit", "500")["items"]), 100)
    rig.bindpost("suspend", "bravo")
    raw = {i: subprocess.run([rig.program("bindpost"), "-c", rig.config, "message", i, "--headers", "--body"],
                             capture_output=True, timeout=60, check=True).stdout for i in rows}
    views(tap, rig)
    check_and_export(tap, rig, rows, raw)
    import_it(tap, rig, rows)
    hostile_import(tap, rig, sorted(rows)[0])
    damaged(tap, rig)
    usage(tap, rig)


run(body)
