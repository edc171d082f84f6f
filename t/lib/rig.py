"""rig - a whole mail system in one folder, on loopback, for contrib/try and t/mta

What it starts (and stops, whatever happens): a DNS server (unbound) with test zones, MX hosts (mxhost.py), a private
Postfix with its own configuration, queue and data folders, bindpost-milter and deliveryd. Nothing outside the folder
is touched; the machine's own mail system is neither read nor changed. Needs root (Postfix does).
"""
import glob
import grp
import json
import os
import pwd
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))


class RigError(Exception):
    """Setting up failed; the text says what and where to look."""


def wait_for(what, test, seconds=30, step=0.05):
    """Waits for a condition with a deadline; an event to wait for does not exist across processes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = test()
        if value:
            return value
        time.sleep(step)
    raise RigError("waited %d s for %s" % (seconds, what))


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


class Rig:
    def __init__(self, folder, net=None, build=None, verbose=False):
        """net: the second and third octet of the loopback addresses used, so that rigs do not meet."""
        self.dir = folder
        self.net = net or "127.%d.%d" % (64 + os.getpid() % 128, (os.getpid() // 128) % 250 + 1)
        self.build = build or os.environ.get("builddir") or TOP
        self.verbose = verbose
        self.procs = {}
        self.zones = []
        self.mxs = []
        self.postfix_up = False
        self.process = {}
        self.policy = {}
        self.prefix = []  # e.g. a tool in front of deliveryd
        for sub in ("", "mx", "mx/saved", "control", "log", "run"):
            os.makedirs(os.path.join(folder, sub), exist_ok=True)
        os.chmod(folder, 0o755)
        os.chmod(self.path("run"), 0o777)

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
        log = open(self.path("log", name + ".log"), "ab")
        self.procs[name] = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.dir)
        log.close()

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
        """Stops everything that was started; safe to call at any time."""
        if self.postfix_up:
            self.postfix("stop", check=False)
            self.postfix_up = False
        for name in list(self.procs)[::-1]:
            try:
                self.stop(name, seconds=20)
            except RigError as e:
                print("# " + str(e), file=sys.stderr)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    # --- DNS -------------------------------------------------------------------------------------------------
    def record(self, text):
        """A record as in a zone file: "a.example. MX 10 mx1.a.example." """
        self.zones.append(text)

    def start_dns(self):
        roots = sorted({r.split()[0].rstrip(".").rsplit(".", 1)[-1] for r in self.zones})
        conf = ["server:", " interface: %s@%d" % self.dns, " do-daemonize: no", ' username: ""', ' chroot: ""',
                ' directory: "%s"' % self.dir, ' pidfile: ""', " use-syslog: no", " verbosity: 0",
                ' module-config: "iterator"', " do-not-query-localhost: no", " access-control: 127.0.0.0/8 allow",
                " hide-identity: yes", " num-threads: 1", " do-ip6: no"]
        conf += [' local-zone: "%s." static' % root for root in roots]
        conf += [" local-data: '%s'" % r for r in self.zones]
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
        rows = []
        try:
            with open(self.path("mx", "log"), encoding="utf-8") as f:
                for line in f:
                    if line.endswith("\n"):
                        row = json.loads(line)
                        if event is None or row["event"] == event:
                            rows.append(row)
        except FileNotFoundError:
            pass
        return rows

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
        rows = []
        try:
            with open(self.path("log", "events.jsonl"), encoding="utf-8") as f:
                for line in f:
                    if line.endswith("\n"):
                        row = json.loads(line)
                        if not types or row["event"] in types:
                            rows.append(row)
        except FileNotFoundError:
            pass
        return rows

    # --- Postfix ----------------------------------------------------------------------------------------------
    def unpack_postfix(self):
        """A private copy of Debian's Postfix: /usr of the package, in a cache folder. Returns its root."""
        cache = os.environ.get("BINDPOST_CACHE", "/var/tmp/bindpost-test-packages")
        root = os.path.join(cache, "postfix")
        if os.path.exists(os.path.join(root, "complete")):
            return root
        shutil.rmtree(root, ignore_errors=True)
        os.makedirs(root)
        # apt downloads as its own user unless the folder is not writable for it: then it says so, and does it anyway
        subprocess.run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", "postfix"], cwd=root, check=True,
                       stdout=subprocess.DEVNULL)
        deb = glob.glob(os.path.join(root, "postfix_*.deb"))[0]
        subprocess.run(["dpkg-deb", "-x", deb, root], check=True)
        lib = os.path.join(root, "usr/lib/postfix")
        for name in glob.glob(root + "/usr/lib/postfix/**/*", recursive=True) + glob.glob(root + "/usr/sbin/*"):
            if os.path.isfile(name) and not os.path.islink(name):
                with open(name, "rb") as f:
                    elf = f.read(4) == b"\x7fELF"
                if elf:
                    subprocess.run(["patchelf", "--set-rpath", lib, name], check=True)
        with open(os.path.join(root, "complete"), "w", encoding="ascii"):
            pass
        return root

    @staticmethod
    def postfix_owner():
        """Postfix wants a user and a group of its own; where it is not installed, two that nothing runs as serve."""
        try:
            pwd.getpwnam("postfix"), grp.getgrnam("postdrop")
            return "postfix", "postdrop"
        except KeyError:
            return "news", "uucp"

    def start_postfix(self, master=(), **main):
        root = self.unpack_postfix()
        owner, group = self.postfix_owner()
        conf, queue, data = self.path("postfix/conf"), self.path("postfix/queue"), self.path("postfix/data")
        for folder in (conf, queue, data):
            os.makedirs(folder, exist_ok=True)
        shutil.chown(data, owner)
        settings = {
            "compatibility_level": "3.6", "queue_directory": queue, "data_directory": data,
            "command_directory": root + "/usr/sbin", "daemon_directory": root + "/usr/lib/postfix/sbin",
            "shlib_directory": root + "/usr/lib/postfix", "meta_directory": conf, "mail_owner": owner,
            "setgid_group": group, "sendmail_path": root + "/usr/sbin/sendmail", "newaliases_path": "/bin/true",
            "mailq_path": "/bin/true", "html_directory": "no", "manpage_directory": "/nonexistent",
            "sample_directory": conf, "readme_directory": "no", "myhostname": "front.bindpost.example",
            "mydestination": "", "alias_maps": "", "local_recipient_maps": "", "mynetworks": "127.0.0.0/8",
            "inet_interfaces": "all", "inet_protocols": "ipv4", "maillog_file": self.path("log", "postfix.log"),
            "maillog_file_prefixes": self.dir, "smtpd_peername_lookup": "no", "biff": "no",
            "smtpd_client_connection_count_limit": "0", "smtpd_client_event_limit_exceptions": "127.0.0.0/8",
            "minimal_backoff_time": "2s", "maximal_backoff_time": "4s", "queue_run_delay": "2s",
            "smtpd_milters": "unix:" + self.sock("milter.sock"),
            "non_smtpd_milters": "unix:" + self.sock("milter.sock"),
            "default_transport": "lmtp:unix:" + self.sock("handoff.sock"),
            "lmtp_send_xforward_command": "yes", "lmtp_line_length_limit": "0", "message_strip_characters": "\\0",
            "lmtp_destination_recipient_limit": "1000",
        }
        settings.update(main)
        with open(os.path.join(conf, "main.cf"), "w", encoding="ascii") as f:
            f.writelines("%s = %s\n" % item for item in settings.items() if item[1] is not None)
        services = [
            "%s:%d inet n - n - - smtpd" % self.smtp, "pickup unix n - n 1 1 pickup", "cleanup unix n - n - 0 cleanup",
            "qmgr unix n - n 300 1 qmgr", "rewrite unix - - n - - trivial-rewrite", "bounce unix - - n - 0 bounce",
            "defer unix - - n - 0 bounce", "trace unix - - n - 0 bounce", "verify unix - - n - 1 verify",
            "flush unix n - n 1000? 0 flush", "proxymap unix - - n - - proxymap", "smtp unix - - n - - smtp",
            "relay unix - - n - - smtp", "lmtp unix - - n - - lmtp", "error unix - - n - - error",
            "retry unix - - n - - error", "discard unix - - n - - discard", "anvil unix - - n - 1 anvil",
            "scache unix - - n - 1 scache", "postlog unix-dgram n - n - 1 postlogd", "showq unix n - n - - showq",
            "local unix - n n - - local", "virtual unix - n n - - virtual", "proxywrite unix - - n - 1 proxymap",
            "tlsmgr unix - - n 1000? 1 tlsmgr", *master]
        with open(os.path.join(conf, "master.cf"), "w", encoding="ascii") as f:
            f.write("\n".join(services) + "\n")
        for name in ("postfix-files", "dynamicmaps.cf"):
            with open(os.path.join(conf, name), "w", encoding="ascii"):
                pass
        self.make_queue(queue, owner, group)
        self.postfix("start")
        self.postfix_up = True
        wait_for("Postfix", lambda: port_open(*self.smtp))

    @staticmethod
    def make_queue(queue, owner, group):
        for name in ("active bounce corrupt defer deferred flush hold incoming private saved trace".split()):
            os.makedirs(os.path.join(queue, name), mode=0o700, exist_ok=True)
            shutil.chown(os.path.join(queue, name), owner)
        for name, mode in (("maildrop", 0o730), ("public", 0o710)):
            os.makedirs(os.path.join(queue, name), exist_ok=True)
            os.chmod(os.path.join(queue, name), mode)
            shutil.chown(os.path.join(queue, name), owner, group)
        os.makedirs(os.path.join(queue, "pid"), exist_ok=True)

    def postfix_tool(self, name):
        return os.path.join(self.unpack_postfix(), "usr/sbin", name)

    def postfix(self, command, check=True):
        done = subprocess.run([self.postfix_tool("postfix"), "-c", self.path("postfix/conf"), command], check=False,
                              text=True, capture_output=True, timeout=60)
        if check and done.returncode:
            raise RigError("postfix %s: %s%s%s" % (command, done.stdout, done.stderr, self.tail("postfix")))
        return done

    def postqueue(self):
        """Postfix's own queue, parsed."""
        done = subprocess.run([self.postfix_tool("postqueue"), "-c", self.path("postfix/conf"), "-j"], check=True,
                              text=True, capture_output=True, timeout=60)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def postqueue_flush(self):
        subprocess.run([self.postfix_tool("postqueue"), "-c", self.path("postfix/conf"), "-f"], check=True, timeout=60)

    def sendmail(self, sender, recipients, message):
        """Submits with the sendmail command, as local programs do."""
        subprocess.run([self.postfix_tool("sendmail"), "-C", self.path("postfix/conf"), "-i", "-f", sender, "--",
                        *recipients], input=message, check=True, timeout=60)

    def client(self):
        return smtplib.SMTP(*self.smtp, timeout=60)

    def send(self, sender, recipients, message, **options):
        with self.client() as c:
            return c.sendmail(sender, recipients, message, **options)
