#!/usr/bin/env python3
"""What the programs tell an operator at night: whose folder it is, who listens where, what a broken file stops."""
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from mta import message, run, standard_domains, standard_policy, wait_for  # noqa: E402

NOBODY = pwd.getpwnam("nobody")


def deliveryd(rig):
    return subprocess.run([rig.program("deliveryd"), "-c", rig.config], text=True, capture_output=True, timeout=30)


def folders(tap, rig):
    """Started as root, with a user of its own to become."""
    os.chmod(rig.dir, 0o777)
    rig.write_config(standard_policy(rig), user="nobody", spool={"path": rig.path("theirs")},
                     log={"events": rig.path("theirlog", "events.jsonl")},
                     handoff={"listen": ["unix:%s?mode=0666" % rig.path("new", "handoff.sock")]})
    for where in ("etc", "run"):
        os.chmod(rig.path(where), 0o755)
    os.mkdir(rig.path("theirs"), 0o700)
    done = deliveryd(rig)
    tap.equal((done.returncode, done.stderr.strip()),
              (1, "deliveryd: error: spool.path: %s: user nobody may not write there; give it the folder and what is in it"
               " (chown -R)" % rig.path("theirs")), "a spool folder of somebody else: whose it must be")
    os.chown(rig.path("theirs"), NOBODY.pw_uid, NOBODY.pw_gid)
    os.rmdir(rig.path("theirlog"))
    os.mkdir(rig.path("theirlog"), 0o755)
    done = deliveryd(rig)
    tap.ok(done.returncode == 1 and "log.events: %s: user nobody may not write there" % rig.path("theirlog") in done.stderr,
           "a log folder of somebody else too", done.stderr)
    os.rmdir(rig.path("theirlog"))
    rig.start("deliveryd", [rig.program("deliveryd"), "-c", rig.config], rig.bindpost_ok)
    made = {name: (os.stat(rig.path(name)).st_uid, stat.S_IMODE(os.stat(rig.path(name)).st_mode))
            for name in ("theirlog", "theirlog/events.jsonl", "new")}
    tap.equal(made, {"theirlog": (NOBODY.pw_uid, 0o750), "theirlog/events.jsonl": (NOBODY.pw_uid, 0o640),
                     "new": (NOBODY.pw_uid, 0o755)}, "what is missing is made: log for its group, folder of a socket")
    wait_for("it to say so", lambda: "deliveryd: ready, version" in rig.tail("deliveryd"))
    rig.stop("deliveryd")
    key = rig.path("etc", "stamp.key")
    rig.bindpost("stamp", "--new-key", key)
    tap.equal((os.stat(key).st_uid, os.stat(key).st_gid, stat.S_IMODE(os.stat(key).st_mode)), (0, NOBODY.pw_gid, 0o640),
              "a new key by root: both daemons can read it, their user cannot change it")


def reachable(tap, rig):
    done = rig.bindpost("summary", check=False)
    tap.ok(done.returncode == 3 and "nobody listens there" in done.stderr, "no daemon: 3, and that nobody listens", done.stderr)
    rig.start_deliveryd()
    os.chmod(rig.sock("control.sock"), 0o600)
    program = shutil.copy(rig.program("bindpost"), rig.path("bindpost"))  # which others may not reach where it was built
    done = subprocess.run([program, "-c", rig.config, "summary"], text=True, capture_output=True, timeout=30,
                          user="nobody", group=NOBODY.pw_gid, extra_groups=[], check=False)
    tap.ok(done.returncode == 3 and "Permission denied: the socket's mode and group" in done.stderr,
           "not allowed: 3, and why", done.stderr)
    for listen, what in (("inet:%s:2424" % rig.ip(24), "Address already in use (`ss -lntp`"),
                         ("inet:192.0.2.99:2424", "the address is not on this machine")):
        config = rig.path("etc", "second.json")
        with open(config, "w", encoding="ascii") as f:
            json.dump({**rig.process, "handoff": {"listen": listen}}, f)
        done = subprocess.run([rig.program("deliveryd"), "-c", config], text=True, capture_output=True, timeout=30, check=False)
        tap.ok(done.returncode == 1 and what in done.stderr, "a second one: " + what, done.stderr)


def broken_file(tap, rig):
    policy = rig.path("etc", "policy.json")
    with open(policy, encoding="ascii") as f:
        good = f.read()
    with open(policy, "w", encoding="ascii") as f:
        f.write('{ "global": ')
    done = rig.bindpost("--json", "summary", check=False)
    tap.ok(done.returncode == 0 and json.loads(done.stdout) and "see `bindpost check`" in done.stderr,
           "a half edited policy: what runs can still be asked", done.stderr)
    os.rename(rig.path("log", "events.jsonl"), rig.path("log", "events.jsonl.1"))
    rig.procs["deliveryd"].send_signal(signal.SIGHUP)
    wait_for("the log to be opened again", lambda: rig.events("reload"))
    tap.equal([e["reason"] for e in rig.events("reload")], ["refused"],
              "SIGHUP of logrotate opens the event log again, though the configuration is refused")
    with open(policy, "w", encoding="ascii") as f:
        f.write(good)


def lists(tap, rig):
    rig.bindpost("suspend", "acme")
    for i in range(5):
        rig.send("news@acme.example", ["l%d@d0.example" % i], message(i, "news@acme.example", "l"))
    wait_for("five messages", lambda: len(rig.bindpost_json("messages")["items"]) == 5)
    seen, cursor, rounds = [], [], 0
    while rounds < 9:
        page = rig.bindpost_json("messages", "--limit", "2", *cursor)
        rounds += 1
        seen += [row["id"] for row in page["items"]]
        if page["next"] is None:
            break
        cursor = ["--cursor", page["next"]]
    tap.equal((len(seen), len(set(seen)), rounds), (5, 5, 3), "--limit tells where to go on, --cursor goes on there")
    text = rig.bindpost("--json", "messages").stdout
    tap.equal([n for n in text.replace("}", ",").split(",") if "00000000" in n and '"delay"' in n], [],
              "seconds are printed as they were measured")
    rig.bindpost("resume", "acme")
    wait_for("their delivery", lambda: len(rig.seen()) == 5)
    tap.equal(rig.bindpost_json("config", "eval", "retry_interval")["value"], "2s", "config eval --json: a value is a value")
    tap.equal(rig.bindpost_json("config", "eval", "remote_smtp_port")["value"], rig.mx_port, "and a number a number")


def body(tap, rig):
    folders(tap, rig)
    standard_domains(rig, 2)
    rig.write_config(standard_policy(rig), handoff={"listen": ["unix:%s?mode=0666" % rig.sock("handoff.sock"),
                                                               "inet:%s:2424" % rig.ip(24)]})
    rig.start_dns()
    rig.start_mx()
    reachable(tap, rig)
    rig.start_milter()
    rig.start_postfix()
    broken_file(tap, rig)
    lists(tap, rig)


if __name__ == "__main__":
    run(body)
