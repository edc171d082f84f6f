"""rig_postfix - the private Postfix of a rig: a copy of Debian's, with configuration, queue and data folders of its own"""
import glob
import grp
import json
import os
import pwd
import shutil
import subprocess

import packages


def set_library_paths(root):
    """Postfix finds its own libraries in the folder it was built for: ours is another one."""
    lib = os.path.join(root, "usr/lib/postfix")
    for name in glob.glob(lib + "/**/*", recursive=True) + glob.glob(root + "/usr/sbin/*"):
        if os.path.isfile(name) and not os.path.islink(name):
            with open(name, "rb") as f:
                elf = f.read(4) == b"\x7fELF"
            if elf:
                subprocess.run(["patchelf", "--set-rpath", lib, name], check=True)


def owner():
    """Postfix wants a user and a group of its own; where it is not installed, two that nothing runs as serve."""
    try:
        pwd.getpwnam("postfix"), grp.getgrnam("postdrop")
        return "postfix", "postdrop"
    except KeyError:
        return "news", "uucp"


class Postfix:
    name = "postfix"

    def __init__(self, rig):
        self.rig = rig
        self.root = packages.unpack("postfix", ["postfix"], set_library_paths)
        self.conf, self.queue_folder = rig.path("postfix/conf"), rig.path("postfix/queue")

    def start(self, master=(), **main):
        """main: settings of main.cf, None leaves one out; master: more lines of master.cf"""
        user, group = owner()
        data = self.rig.path("postfix/data")
        for folder in (self.conf, self.queue_folder, data):
            os.makedirs(folder, exist_ok=True)
        shutil.chown(data, user)
        settings = {**self.settings(user, group, data), **main}
        self.write("main.cf", ["%s = %s" % item for item in settings.items() if item[1] is not None])
        self.write("master.cf", [*self.services(), *master])
        for name in ("postfix-files", "dynamicmaps.cf"):
            self.write(name, [])
        self.make_queue(user, group)
        self.postfix("start")

    def write(self, name, lines):
        with open(os.path.join(self.conf, name), "w", encoding="ascii") as f:
            f.writelines(line + "\n" for line in lines)

    def settings(self, user, group, data):
        rig, root = self.rig, self.root
        return {
            "compatibility_level": "3.6", "queue_directory": self.queue_folder, "data_directory": data,
            "command_directory": root + "/usr/sbin", "daemon_directory": root + "/usr/lib/postfix/sbin",
            "shlib_directory": root + "/usr/lib/postfix", "meta_directory": self.conf, "mail_owner": user,
            "setgid_group": group, "sendmail_path": root + "/usr/sbin/sendmail", "newaliases_path": "/bin/true",
            "mailq_path": "/bin/true", "html_directory": "no", "manpage_directory": "/nonexistent",
            "sample_directory": self.conf, "readme_directory": "no", "myhostname": "front.bindpost.example",
            "mydestination": "", "alias_maps": "", "local_recipient_maps": "", "mynetworks": "127.0.0.0/8",
            "inet_interfaces": "all", "inet_protocols": "ipv4", "maillog_file": rig.path("log", "postfix.log"),
            "maillog_file_prefixes": rig.dir, "smtpd_peername_lookup": "no", "biff": "no",
            "smtpd_client_connection_count_limit": "0", "smtpd_client_event_limit_exceptions": "127.0.0.0/8",
            "minimal_backoff_time": "2s", "maximal_backoff_time": "4s", "queue_run_delay": "2s",
            "smtpd_milters": "unix:" + rig.sock("milter.sock"), "non_smtpd_milters": "unix:" + rig.sock("milter.sock"),
            "default_transport": "lmtp:unix:" + rig.sock("handoff.sock"),
            "lmtp_send_xforward_command": "yes", "lmtp_line_length_limit": "0", "message_strip_characters": "\\0",
            "lmtp_destination_recipient_limit": "1000",
        }

    def services(self):
        return [
            "%s:%d inet n - n - - smtpd" % self.rig.smtp, "pickup unix n - n 1 1 pickup",
            "cleanup unix n - n - 0 cleanup", "qmgr unix n - n 300 1 qmgr", "rewrite unix - - n - - trivial-rewrite",
            "bounce unix - - n - 0 bounce", "defer unix - - n - 0 bounce", "trace unix - - n - 0 bounce",
            "verify unix - - n - 1 verify", "flush unix n - n 1000? 0 flush", "proxymap unix - - n - - proxymap",
            "smtp unix - - n - - smtp", "relay unix - - n - - smtp", "lmtp unix - - n - - lmtp",
            "error unix - - n - - error", "retry unix - - n - - error", "discard unix - - n - - discard",
            "anvil unix - - n - 1 anvil", "scache unix - - n - 1 scache", "postlog unix-dgram n - n - 1 postlogd",
            "showq unix n - n - - showq", "local unix - n n - - local", "virtual unix - n n - - virtual",
            "proxywrite unix - - n - 1 proxymap", "tlsmgr unix - - n 1000? 1 tlsmgr"]

    def make_queue(self, user, group):
        for name in ("active bounce corrupt defer deferred flush hold incoming private saved trace".split()):
            folder = os.path.join(self.queue_folder, name)
            os.makedirs(folder, mode=0o700, exist_ok=True)
            shutil.chown(folder, user)
        for name, mode in (("maildrop", 0o730), ("public", 0o710)):
            folder = os.path.join(self.queue_folder, name)
            os.makedirs(folder, exist_ok=True)
            os.chmod(folder, mode)
            shutil.chown(folder, user, group)
        os.makedirs(os.path.join(self.queue_folder, "pid"), exist_ok=True)

    def tool(self, name, *args, check=True, **how):
        argv = [os.path.join(self.root, "usr/sbin", name), "-C" if name == "sendmail" else "-c", self.conf, *args]
        return subprocess.run(argv, check=check, timeout=60, **how)

    def postfix(self, command, check=True):
        done = self.tool("postfix", command, check=False, text=True, capture_output=True)
        if check and done.returncode:
            raise packages.RigError("postfix %s: %s%s%s" % (command, done.stdout, done.stderr, self.rig.tail("postfix")))
        return done

    def stop(self):
        self.postfix("stop", check=False)

    def queue(self):
        """What it has not handed over, parsed."""
        done = self.tool("postqueue", "-j", text=True, capture_output=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def flush(self):
        self.tool("postqueue", "-f")

    def sendmail(self, sender, recipients, message):
        """Submits with the sendmail command, as local programs do."""
        self.tool("sendmail", "-i", "-f", sender, "--", *recipients, input=message)
