#!/usr/bin/env python3
"""Started as root, both daemons become "user" for good, and all they need then is theirs."""
import os
import pwd
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from mta import message, run, standard_domains, standard_policy, wait_for  # noqa: E402

NOBODY = pwd.getpwnam("nobody")


def status(proc):
    """Of /proc: the four user ids, the four group ids, effective and permitted capabilities, supplementary groups"""
    with open("/proc/%d/status" % proc.pid, encoding="ascii") as f:
        lines = dict(line.rstrip("\n").split(":", 1) for line in f if ":" in line)
    return [set(lines[key].split()) for key in ("Uid", "Gid", "CapEff", "CapPrm", "Groups")]


def delivered(rig, number):
    name = "u%d@d1.example" % number
    rig.send("news@acme.example", [name], message(number, "news@acme.example", name))
    wait_for(name, lambda: any(r["recipients"] == [name] for r in rig.seen()))
    return [r["peer"] for r in rig.seen() if r["recipients"] == [name]]


def body(tap, rig):
    standard_domains(rig, 2)
    folders = {name: rig.path(name) for name in ("spool", "events")}
    rig.write_config(standard_policy(rig), user="nobody", log={"events": rig.path("events", "events.jsonl")})
    rig.start_dns()
    rig.start_mx()
    rig.start_milter()
    rig.start_deliveryd()
    rig.start_postfix()
    want = [{str(NOBODY.pw_uid)}, {str(NOBODY.pw_gid)}, {"0" * 16}, {"0" * 16}, {str(NOBODY.pw_gid)}]
    for name in ("deliveryd", "milter"):
        tap.equal(status(rig.procs[name]), want, name + " is nobody, without capabilities and other groups")
    tap.equal({os.stat(path).st_uid for path in folders.values()}, {NOBODY.pw_uid}, "the folders it made are its own")
    tap.equal(oct(os.stat(folders["spool"]).st_mode & 0o777), "0o700", "nobody else reads the spool")
    tap.equal(delivered(rig, 1), [rig.ip(101)], "mail goes through")
    tap.equal(rig.bindpost("reload", check=False).returncode, 0, "it reads the configuration again")
    tap.equal(delivered(rig, 2), [rig.ip(101)], "and goes on")

    for name, start in (("deliveryd", rig.start_deliveryd), ("milter", rig.start_milter)):
        proc = rig.procs.pop(name)
        proc.send_signal(signal.SIGKILL)
        proc.wait()
        start()
    tap.equal(delivered(rig, 3), [rig.ip(101)], "killed and started again beside the sockets that were left")
    tap.equal(rig.stop("deliveryd"), 0, "it stops in good order")

    os.chmod(rig.path("etc", "policy.json"), 0o600)  # root's: read at the start, not at a reload
    rig.start_deliveryd()
    warning = "policy.json: cannot be read by the user we run as: Permission denied; a reload will fail"
    tap.ok(warning in rig.tail("deliveryd"), "a file that only root can read: said at the start", rig.tail("deliveryd"))
    done = rig.bindpost("check", "--host")
    tap.ok("policy.json: user nobody cannot read it" in done.stderr, "and by check --host", done.stderr)
    done = rig.bindpost("reload", check=False)
    tap.ok(done.returncode == 1 and "user nobody must be able to read it" in done.stderr and "bind_address" not in done.stderr,
           "a reload is refused, and says no more than why", done.returncode, done.stderr)
    os.chmod(rig.path("etc", "policy.json"), 0o644)
    tap.equal(rig.bindpost("reload", check=False).returncode, 0, "readable again, it reloads")
    rig.stop("deliveryd")

    os.chown(folders["spool"], 0, 0)
    done = subprocess.run([rig.program("deliveryd"), "-c", rig.config], capture_output=True, text=True, timeout=60)
    tap.ok(done.returncode == 1 and "spool.path" in done.stderr and "nobody" in done.stderr and "chown" in done.stderr,
           "a spool that belongs to somebody else: it says whose it should be", done.returncode, done.stderr)
    tap.equal(os.stat(folders["spool"]).st_uid, 0, "and leaves it alone")
    rig.write_config(user="no-such-user")
    done = subprocess.run([rig.program("deliveryd"), "-c", rig.config], capture_output=True, text=True, timeout=60)
    tap.ok(done.returncode == 1 and "no-such-user" in done.stderr, "a user that does not exist: it does not start",
           done.returncode, done.stderr)


run(body)
