"""rig - a whole mail system in one folder, on loopback, for contrib/try and t/mta

What it starts (and stops, whatever happens): a DNS server (unbound) with test zones, MX hosts (mxhost.py), a private
Postfix or Sendmail with its own configuration, queue and data folders, bindpost-milter and deliveryd. Nothing outside
the folder is touched; the machine's own mail system is neither read nor changed. Needs root (Postfix does).
"""
import contextlib
import json
import os
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import time

from packages import RigError
from rig_postfix import Postfix
from rig_sendmail import Sendmail

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))


def wait_for(what, test, seconds=30, step=0.05):
    """Waits for a condition with a deadline; an event to wait for does not exist across processes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = test()
        if value:
            return value
        time.sleep(step)
    raise RigError("waited %d s for %s" % (seconds, what))


ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_on_signals():
    """Ctrl-C, SIGTERM and a terminal that goes away end us as an exit does: what was started is stopped."""

    def end(number, _):
        for each in ENDING:  # impatience does not cut it short
            signal.signal(each, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    for number in ENDING:
        signal.signal(number, end)


@contextlib.contextmanager
def signals_ignored():
    before = [signal.signal(number, signal.SIG_IGN) for number in ENDING]
    try:
        yield
    finally:
        for number, handler in zip(ENDING, before):
            signal.signal(number, handler)


def port_open(ip, port):
    try:
        with socket.create_connection((ip, port), timeout=1):
            return True
    except OSError:
        return False


def unix_open(path):
    s = socket.socket(socket.AF_UNIX)
    try:
        s.connect(path)
        return True
    except OSError:
        return False
    finally:
        s.close()


def json_lines(path):
    """A log's lines, but for the last if it is still being written, and one that a kill cut short: a start comes after it."""
    try:
        with open(path, "rb") as f:
            lines = f.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    rows = []
    for i, line in enumerate(lines):
        try:
            rows.append(json.loads(line))
        except ValueError as e:
            if b'"event":"start"' not in b"".join(lines[i + 1:i + 2]):
                raise RigError("%s:%d: %s: %r" % (path, i + 1, e, line)) from e
    return rows


def claim_net(net=None):
    """A /24 on loopback that is ours while the socket lives."""
    nets = [net] if net else ["127.%d.%d" % (64 + n % 128, n // 128 % 250 + 1) for n in range(os.getpid(), os.getpid() + 100)]
    for net in nets:
        claim = socket.socket()
        try:
            claim.bind((net + ".254", 9))
            return net, claim
        except OSError:
            claim.close()
    raise RigError("%s: in use, by another rig?" % nets[0])


class Rig:
    def __init__(self, folder, net=None, build=None, verbose=False):
        """net: the first three octets of the loopback addresses used; by default some that no other rig has."""
        self.dir = folder
        self.net, self.claim = claim_net(net)
        self.build = build or os.environ.get("builddir") or TOP
        self.verbose = verbose
        self.procs = {}
        self.zones = []
        self.mxs = []
        self.front = None  # the MTA in front
        self.process = {}
        self.policy = {}
        self.prefix = []  # e.g. a tool in front of deliveryd
        for sub in ("", "mx", "mx/saved", "control", "log", "run"):
            os.makedirs(os.path.join(folder, sub), exist_ok=True)
        os.chmod(folder, 0o755)

    # --- names ---------------------------------------------------------------------------------------------
    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def ip(self, last):
        return "%s.%d" % (self.net, last)

    @property
    def dns(self):
        return (self.ip(53), 5353)

    @property
    def smtp(self):
        return (self.ip(25), 2525)

    mx_port = 2525

    # --- processes -----------------------------------------------------------------------------------------
    def start(self, name, argv, ready=None, seconds=30):
        # a session of its own: Ctrl-C is for us, who stop all in order; and it ends with us even if we are killed
        argv = ["setpriv", "--pdeathsig", "TERM", "--", *argv]
        with open(self.path("log", name + ".log"), "ab") as log:
            self.procs[name] = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.dir,
                                                start_new_session=True)

        def up():
            if self.procs[name].poll() is not None:
                raise RigError("%s ended with %s at start:\n%s" % (name, self.procs[name].returncode, self.tail(name)))
            return ready()

        if ready:
            wait_for("%s to answer (log/%s.log)" % (name, name), up, seconds)
        return self.procs[name]

    def tail(self, name, lines=15):
        try:
            with open(self.path("log", name + ".log"), encoding="utf-8", errors="replace") as f:
                return "".join(f.readlines()[-lines:])
        except FileNotFoundError:
            return "(no log)"

    def stop(self, name, sig=signal.SIGTERM, seconds=100):
        proc = self.procs.pop(name, None)
        if not proc:
            return None
        if proc.poll() is None:
            proc.send_signal(sig)
            try:
                proc.wait(seconds)
            except subprocess.TimeoutExpired:
                proc.kill()
                proc.wait()
                raise RigError("%s did not stop within %d s" % (name, seconds))
        return proc.returncode

    def close(self):
        """Stops everything that was started; safe to call at any time. A second Ctrl-C does not cut it short."""
        with signals_ignored():
            self.stop_front()
            for name in list(self.procs)[::-1]:
                try:
                    self.stop(name, seconds=20)
                except RigError as e:
                    print("# " + str(e), file=sys.stderr)
            self.claim.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    # --- DNS -------------------------------------------------------------------------------------------------
    def record(self, text):
        """A record as in a zone file: "a.example. MX 10 mx1.a.example." """
        self.zones.append(text)

    def start_dns(self, more=()):
        """more: further lines of unbound's server section"""
        roots = sorted({r.split()[0].rstrip(".").rsplit(".", 1)[-1] for r in self.zones})
        conf = ["server:", " interface: %s@%d" % self.dns, " do-daemonize: no", ' username: ""', ' chroot: ""',
                ' directory: "%s"' % self.dir, ' pidfile: ""', " use-syslog: no", " verbosity: 0",
                ' module-config: "iterator"', " do-not-query-localhost: no", " access-control: 127.0.0.0/8 allow",
                " hide-identity: yes", " num-threads: 1", " do-ip6: no"]
        conf += [' local-zone: "%s." static' % root for root in roots]
        conf += [" local-data: '%s'" % r for r in self.zones]
        conf += [" " + line for line in more]
        conf += ["remote-control:", " control-enable: no"]
        with open(self.path("unbound.conf"), "w", encoding="ascii") as f:
            f.write("\n".join(conf) + "\n")
        unbound = shutil.which("unbound") or "/usr/sbin/unbound"
        self.start("unbound", [unbound, "-d", "-c", self.path("unbound.conf")], lambda: port_open(*self.dns))

    # --- MX hosts ---------------------------------------------------------------------------------------------
    def mx(self, name, last, *options):
        """An MX host NAME on our network's address LAST; its A record comes along."""
        self.mxs.append("%s=%s:%d%s" % (name, self.ip(last), self.mx_port, "".join("," + o for o in options)))
        self.record("%s. A %s" % (name, self.ip(last)))

    def mx_option(self, name, text):
        """Changes a host's options from its next connection on; None: as at start."""
        path = self.path("control", name + ".opt")
        if text is None:
            if os.path.exists(path):
                os.unlink(path)
        else:
            with open(path + ".new", "w", encoding="ascii") as f:
                f.write(text)
            os.rename(path + ".new", path)

    def start_mx(self, save=False):
        argv = [sys.executable, os.path.join(HERE, "mxhost.py"), "--log", self.path("mx", "log"),
                "--control", self.path("control")]
        if save:
            argv += ["--save", self.path("mx", "saved")]
        first = self.mxs[-1].split("=")[1].split(",")[0].rsplit(":", 1)
        self.start("mx", argv + self.mxs, lambda: port_open(first[0], int(first[1])))

    def seen(self, event="message"):
        """What the MX hosts saw, in order."""
        return [row for row in json_lines(self.path("mx", "log")) if event is None or row["event"] == event]

    # --- bindpost ---------------------------------------------------------------------------------------------
    def sock(self, name):
        return self.path("run", name)

    def write_config(self, policy=None, **process):
        if policy is not None:
            self.policy = policy
        base = {
            "hostname": "mta1.bindpost.example", "user": "root", "policy": ["policy.json"],
            "milter": {"listen": "unix:%s?mode=0666" % self.sock("milter.sock"),
                       "control": "unix:%s?mode=0600" % self.sock("milter-control.sock")},
            "handoff": {"listen": ["unix:%s?mode=0666" % self.sock("handoff.sock"),
                                   "inet:%s:2424" % self.ip(24)]},
            "spool": {"path": self.path("spool"), "min_free": "64MB", "segment_size": "16MB"},
            "dns": {"servers": ["%s:%d" % self.dns]},
            "notify": {"via": "inet:%s:%d" % self.smtp},
            "control": {"listen": "unix:%s?mode=0600" % self.sock("control.sock"),
                        "metrics": "inet:%s:9125" % self.ip(24)},
            "log": {"events": self.path("log", "events.jsonl")},
        }
        for section, values in process.items():
            if isinstance(values, dict):
                base.setdefault(section, {}).update(values)
            else:
                base[section] = values
        self.process = base
        os.makedirs(self.path("etc"), exist_ok=True)
        for name, value in (("bindpost.json", base), ("policy.json", self.policy)):
            with open(self.path("etc", name), "w", encoding="utf-8") as f:
                json.dump(value, f, indent=2)

    @property
    def config(self):
        return self.path("etc", "bindpost.json")

    def program(self, name):
        for place in (os.path.join(self.build, name), os.path.join(self.build, "deliveryd", name)):
            if os.path.isfile(place) and os.access(place, os.X_OK):
                return place
        raise RigError("%s is not built in %s" % (name, self.build))

    def start_deliveryd(self, seconds=30):
        return self.start("deliveryd", self.prefix + [self.program("deliveryd"), "-c", self.config],
                          lambda: unix_open(self.sock("handoff.sock")) and self.bindpost_ok(), seconds)

    def bindpost_ok(self):
        return self.bindpost("--json", "summary", check=False).returncode == 0

    def start_milter(self):
        return self.start("milter", [self.program("bindpost-milter"), "-c", self.config],
                          lambda: unix_open(self.sock("milter.sock")))

    def bindpost(self, *args, check=True):
        return subprocess.run([self.program("bindpost"), "-c", self.config, *args], check=check, text=True,
                              capture_output=True, timeout=60)

    def bindpost_json(self, *args):
        return json.loads(self.bindpost("--json", *args).stdout)

    def events(self, *types):
        return [row for row in json_lines(self.path("log", "events.jsonl")) if not types or row["event"] in types]

    # --- the MTA in front -------------------------------------------------------------------------------------------
    def start_front(self, front, *args, **options):
        self.front = front
        front.start(*args, **options)
        wait_for(front.name + " to answer", lambda: port_open(*self.smtp))

    def start_postfix(self, master=(), **main):
        self.start_front(Postfix(self), master, **main)

    def start_sendmail(self, **words):
        self.start_front(Sendmail(self), **words)

    def stop_front(self):
        if self.front:
            self.front.stop()
            self.front = None

    def postqueue(self):
        """What the MTA in front has not handed over."""
        return self.front.queue()

    def postqueue_flush(self):
        self.front.flush()

    def sendmail(self, sender, recipients, message):
        """Submits with the sendmail command, as local programs do."""
        self.front.sendmail(sender, recipients, message)

    def client(self):
        return smtplib.SMTP(*self.smtp, timeout=60)

    def send(self, sender, recipients, message, **options):
        with self.client() as c:
            return c.sendmail(sender, recipients, message, **options)
