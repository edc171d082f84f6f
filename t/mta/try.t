#!/usr/bin/env python3
"""contrib/try as its users run it: what it shows, and that it stops all it started, however it ends."""
import os
import re
import select
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from mta import Tap  # noqa: E402
import rig as rigs  # noqa: E402

BUILD = os.environ.get("builddir") or rigs.TOP


class Try:
    """One contrib/try in a session of its own, as on a terminal: what the terminal would send goes to all of it."""

    def __init__(self, *args):
        self.proc = subprocess.Popen([os.path.join(rigs.TOP, "contrib/try"), *args], stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, start_new_session=True,
                                     env={**os.environ, "BINDPOST_BUILD": BUILD})
        self.output = ""
        self.folder = None

    def read(self, until=None, seconds=300):
        """Until the text is there, or to the end"""
        end = time.monotonic() + seconds
        while until is None or until not in self.output:
            if not select.select([self.proc.stdout], [], [], max(0, end - time.monotonic()))[0]:
                raise rigs.RigError("waited %d s for %r of contrib/try, which said:\n%s" % (seconds, until, self.output))
            more = os.read(self.proc.stdout.fileno(), 65536)
            if not more:
                break
            self.output += more.decode("utf-8", "replace")
        found = re.search(r" in (/\S*bindpost-try-\w+)", self.output)
        self.folder = found and found.group(1)
        return self.output

    def signal(self, number):
        os.killpg(self.proc.pid, number)

    def wait(self):
        return self.proc.wait(120)

    def left(self):
        """What is still there of it"""
        lines = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout.splitlines()
        return [line for line in lines if self.folder in line] + ([self.folder] if os.path.exists(self.folder) else [])


def table(tap, what, output):
    rows = re.findall(r"^(\d+) +(\S+) +(smtp|sendmail) +(\S+) +(\S+) +(\S+) +(\S+) +(\S+)$", output, re.M)
    tap.equal([r for r in rows if r[7] != "delivered"] or len(rows), 10, what + ": 10 messages, all delivered")
    pairs = {(row[3], row[4].split(".")[3], row[5].split(".")[0]) for row in rows}
    want = {("acme", "101", "acme"), ("bravo", "102", "bravo"), ("default", "100", "mta1")}
    shared = {("shared1", "111", "shared1"), ("shared2", "112", "shared2")}
    tap.ok(want <= pairs <= want | shared, what + ": each binding from its address with its name", pairs)


def at_once(tap):
    both = [Try(), Try()]
    for number, each in enumerate(both, 1):
        table(tap, "two at once, %d" % number, each.read())
        tap.equal((each.wait(), each.left()), (0, []), "%d leaves nothing" % number)
        tap.ok("Next:" in each.output, "and says what to do next")


def kept(tap):
    it = Try("--keep")
    it.read("bindpost reload")
    send = subprocess.run([os.path.join(it.folder, "send"), "me@mailer.example", "you@corp.example", "X-Customer: bravo"],
                          capture_output=True, text=True, timeout=60)
    tap.equal((send.returncode, send.stderr), (0, ""), "--keep: ./send sends")
    log = os.path.join(it.folder, "mx/log")
    rigs.wait_for("it", lambda: '"you@corp.example"' in open(log, encoding="utf-8").read())
    for args in (["summary"], ["queues"], ["check"], ["reload"]):
        done = subprocess.run([os.path.join(it.folder, "bindpost"), *args], capture_output=True, text=True, timeout=60)
        tap.equal(done.returncode, 0, "--keep: ./bindpost " + args[0])
    it.signal(signal.SIGINT)
    it.read()
    tap.equal((it.wait(), it.left()), (0, []), "Ctrl-C: all is stopped, the folder is gone")

    it = Try("--keep")
    it.read("bindpost reload")
    it.proc.send_signal(signal.SIGTERM)
    it.signal(signal.SIGINT)
    it.read()
    code = it.wait()
    tap.ok(code in (0, 128 + signal.SIGTERM) and it.left() == [], "SIGTERM and Ctrl-C at once: the same", code, *it.left())

    it = Try("--keep")
    it.read("bindpost reload")
    it.proc.stdout.close()
    it.signal(signal.SIGHUP)
    tap.equal((it.wait(), it.left()), (128 + signal.SIGHUP, []), "the terminal goes away: the same")

    it = Try()
    it.read("Starting")
    it.signal(signal.SIGINT)
    it.read()
    tap.equal((it.wait(), it.left()), (130, []), "Ctrl-C while it starts: the same")


def main():
    tap = Tap()
    try:
        at_once(tap)
        kept(tap)
    except rigs.RigError as e:
        tap.ok(False, "runs to its end", e)
    print("1..%d" % tap.n)
    return 1 if tap.failed else 0


sys.exit(main())
