#!/usr/bin/env python3
"""bindpost-api(7): each path of the control socket is in it, and each of its examples does what it says.

An example is a literal block of the page that begins with "$ curl": it is run as it stands, but for the socket's place
and the message's id, against a running deliveryd. An answer in JSON has the keys of the page's, each of the same type,
and no others; where the page has a list with one row, each row of the answer is compared to it. A row of an answer may lack
what the page says is left out where there is nothing to say (MAY_LACK). With SHOW=1 the answers are printed.
"""
import json
import os
import re
import shlex
import smtplib
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from mta import run, standard_policy, wait_for  # noqa: E402

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
PAGE_SOCKET = "/run/bindpost/control.sock"
PAGE_ID = "000660ba5d52bb8b"
MAY_LACK = {"group", "proxy", "limit", "next_attempt", "last_attempt", "code", "enhanced", "reply", "state", "reason", "source_down", "removed", "peer",
            "source", "mx", "until", "domain", "suspended_until", "session", "ms", "binding", "next_hop"}


def page():
    with open(os.path.join(TOP, "deliveryd", "control", "bindpost-api.7"), encoding="utf-8") as f:
        return f.read()


def examples(text):
    """(command, what it answers) of each literal block."""
    for block in re.findall(r"(?m)^\.Bd -literal\n((?:(?!\.Ed).*\n)*)\.Ed$", text):
        block = block.replace("\\e", "\\").replace("\\-", "-").replace("\\&", "")
        lines = block.split("\n")
        if lines[0].startswith("$ curl"):
            command = lines.pop(0)[2:]
            while command.endswith("\\"):
                command = command[:-1] + lines.pop(0).strip()
            yield command, "\n".join(lines)


def kind(value):
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def differences(got, want, where=""):
    """What of an answer is not as the page has it."""
    if want is None or got is None:
        return []
    if kind(got) != kind(want):
        return ["%s: %s in place of %s" % (where, kind(got), kind(want))]
    if isinstance(want, dict) and where.endswith((".cpu_us", ".hand_overs")):
        return []  # by thread, and how many of those there are depends on the machine
    if isinstance(want, dict):
        found = ["%s.%s is not on the page" % (where, key) for key in got if key not in want]
        found += ["%s.%s is missing" % (where, key) for key in want if key not in got and key not in MAY_LACK]
        for key in want:
            if key in got:
                found += differences(got[key], want[key], where + "." + key)
        return found
    if isinstance(want, list) and want:
        return [d for i, item in enumerate(got) for d in differences(item, want[0], "%s[%d]" % (where, i))]
    return []


def check(tap, rig, command, want, ident):
    words = shlex.split(command.replace(PAGE_SOCKET, rig.sock("control.sock")).replace(PAGE_ID, ident))
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    what = " ".join(words[words.index(next(w for w in words if "localhost" in w)):])[:60] if any("localhost" in w for w in words) else command[:60]
    if os.environ.get("SHOW"):
        print("# $ " + command + "\n# " + done.stdout.replace("\n", "\n# "))
    if want.lstrip().startswith("{") and "\n{" not in want.strip():
        try:
            answer, example = json.loads(done.stdout), json.loads(want)
        except ValueError as e:
            return tap.ok(False, what, e, done.stdout, done.stderr, want)
        return tap.equal(differences(answer, example), [], what)
    if want.lstrip().startswith("{"):  # JSON lines: those that come are of the kinds on the page
        kinds = [json.loads(line) for line in want.strip().split("\n")]
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        return tap.equal((bool(rows), [r for r in rows if all(differences(r, k) for k in kinds)]), (True, []), what)
    patterns = [re.escape(line).replace(r"\.\.\.", ".*") for line in want.strip().split("\n")]
    missing = [p for p in patterns if not re.search("(?m)^%s\\s*$" % p, done.stdout)]
    return tap.equal(missing, [], what)


def paths():
    with open(os.path.join(TOP, "deliveryd", "control", "control.c"), encoding="utf-8") as f:
        return re.findall(r'\{EVHTTP_REQ_(GET|POST), CONTROL_\w+, "(/[^"]*)"', f.read())


def body(tap, rig):
    text = page()
    for method, path in paths():
        tap.ok(re.search(r"(?m)^\.It Li %s %s(?= Ns|$)" % (method, re.escape(path)), text), "%s %s is on the page" % (method, path))
    rig.mx("mx.example.com", 11, "rcpt=451 4.7.1 come back later")
    rig.record("example.com. MX 10 mx.example.com.")
    rig.record("example.net. MX 10 mx.example.com.")
    policy = standard_policy(rig)
    policy["global"]["retry_interval"] = "20m"
    policy["global"]["idle_timeout"] = "1h"
    rig.write_config(policy)
    rig.start_dns()
    rig.start_mx()
    rig.start_deliveryd()
    with smtplib.LMTP(rig.ip(24), 2424, timeout=60) as client:
        client.sendmail("news@acme.example", ["bob@example.com"],
                        b"From: <news@acme.example>\r\nTo: <bob@example.com>\r\nSubject: hello\r\n\r\nHello Bob\r\n")
    row = wait_for("it to be deferred", lambda: [m for m in rig.bindpost_json("messages")["items"] if m.get("reply")])[0]
    wait_for("an idle session", lambda: [c for c in rig.bindpost_json("connections")["items"] if c["state"] == "idle"])
    found = list(examples(text))
    tap.ok(len(found) >= 20, "the page has examples", len(found))
    for command, want in found:
        check(tap, rig, command, want, row["id"])
    shown = {url for command, _ in found for url in re.findall(r"http://localhost(/[\w/]*)", command.replace(PAGE_ID, "ID"))}
    tap.equal([p for _, p in paths() if not any(s == p or (p.endswith("/") and s.startswith(p)) for s in shown)], [], "each path has one")


if __name__ == "__main__":
    run(body)
