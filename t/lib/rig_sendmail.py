"""rig_sendmail - the private Sendmail of a rig: a copy of Debian's, with configuration and queue folders of its own

Its configuration is etc/sendmail/bindpost.mc and what makes it private: addresses, folders, no DNS, no local mail.
"""
import glob
import os
import shutil
import subprocess

import packages

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACKAGES = ["sendmail-bin", "sendmail-base", "sendmail-cf"]

COMMON = """\
divert(0)dnl
define(`_CF_DIR_', `%(cf)s/')dnl
include(`%(cf)s/m4/cf.m4')dnl
VERSIONID(`bindpost test')
OSTYPE(`linux')dnl
define(`confDOMAIN_NAME', `front.bindpost.example')dnl
define(`confPID_FILE', `%(dir)s/%(name)s.pid')dnl
define(`STATUS_FILE', `%(dir)s/statistics')dnl
define(`HELP_FILE', `%(dir)s/helpfile')dnl
define(`confCONTROL_SOCKET_NAME', `')dnl
define(`confSERVICE_SWITCH_FILE', `%(dir)s/service.switch')dnl
define(`confDONT_PROBE_INTERFACES', `true')dnl
define(`confTO_IDENT', `0')dnl
define(`confDONT_BLAME_SENDMAIL', `TrustStickyBit')dnl
"""

MTA = """\
define(`QUEUE_DIR', `%(queue)s')dnl
define(`confHOST_STATUS_DIRECTORY', `%(dir)s/host_status')dnl
define(`confDELIVERY_MODE', `background')dnl
define(`confREJECT_NUL', `true')dnl
undefine(`ALIAS_FILE')dnl
define(`LOCAL_MAILER_PATH', `/bin/false')dnl
define(`LOCAL_SHELL_PATH', `/bin/false')dnl
DAEMON_OPTIONS(`Name=MTA, Family=inet, Addr=%(ip)s, Port=%(port)d')dnl
FEATURE(`no_default_msa')dnl
FEATURE(`nocanonify')dnl
FEATURE(`nouucp', `reject')dnl
FEATURE(`accept_unresolvable_domains')dnl
RELAY_DOMAIN(`127')dnl
define(`BINDPOST_MILTER', `local:%(milter)s')dnl
define(`BINDPOST_HANDOFF', `%(handoff)s')dnl
include(`%(top)s/etc/sendmail/bindpost.mc')dnl
%(more)sMAILER(`local')dnl
MAILER(`smtp')dnl
"""

SUBMIT = """\
define(`MSP_QUEUE_DIR', `%(client_queue)s')dnl
define(`confRUN_AS_USER', `mail:mail')dnl
define(`confTRUSTED_USER', `mail')dnl
define(`RELAY_MAILER_ARGS', `TCP $h %(port)d')dnl
FEATURE(`msp', `[%(ip)s]')dnl
"""


class Sendmail:
    name = "sendmail"

    def __init__(self, rig):
        self.rig = rig
        self.root = packages.unpack("sendmail", PACKAGES, drop_privileges_on_files)
        self.dir = rig.path("sendmail")
        self.program = os.path.join(self.root, "usr/libexec/sendmail/sendmail")
        self.words = {
            "cf": os.path.join(self.root, "usr/share/sendmail/cf"), "dir": self.dir, "top": TOP,
            "queue": rig.path("sendmail/queue"), "client_queue": rig.path("sendmail/client_queue"), "name": "sendmail",
            "ip": rig.smtp[0], "port": rig.smtp[1], "milter": rig.sock("milter.sock"),
            "handoff": "TCP [%s] 2424" % rig.ip(24), "more": ""}

    def start(self, **words):
        """words: what replaces the values above"""
        self.words.update(words)
        for name in ("", "queue", "client_queue", "host_status"):
            os.makedirs(os.path.join(self.dir, name), mode=0o700 if name else 0o755, exist_ok=True)
        shutil.chown(self.words["client_queue"], "mail", "mail")
        with open(os.path.join(self.dir, "service.switch"), "w", encoding="ascii") as f:
            f.write("hosts files\naliases files\n")
        self.configure("sendmail", COMMON + MTA)
        self.configure("submit", COMMON + SUBMIT)
        # it logs by syslog only: its dialogues tell more
        self.rig.start("sendmail", self.argv("-bD", "-X", self.rig.path("log", "sendmail.log")))

    def configure(self, name, text):
        source = os.path.join(self.dir, name + ".mc")
        with open(source, "w", encoding="ascii") as f:
            f.write(text % {**self.words, "name": name})
        with open(os.path.join(self.dir, name + ".cf"), "w", encoding="ascii") as f:
            subprocess.run(["m4", source], stdout=f, check=True, timeout=60)

    def argv(self, *args, conf="sendmail.cf"):
        # it sleeps for a minute on a machine whose name has no domain: here the machine has one, for it alone
        return ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', "front.bindpost.example",
                self.program, "-C" + os.path.join(self.dir, conf), *args]

    def stop(self):
        self.rig.stop("sendmail")

    def queue(self):
        """What it has not handed over: the control files' names"""
        return [os.path.basename(name) for name in glob.glob(self.words["queue"] + "/qf*")]

    def flush(self):
        """What the sendmail command could not hand to the daemon, then what the daemon could not hand over"""
        if os.listdir(self.words["client_queue"]):
            subprocess.run(self.argv("-Ac", "-q", "-v", conf="submit.cf"), check=False, timeout=60, capture_output=True)
        subprocess.run(self.argv("-q", "-v"), check=False, timeout=60, capture_output=True)

    def sendmail(self, sender, recipients, message):
        """Submits with the sendmail command, as local programs do: it hands to the daemon by SMTP."""
        subprocess.run(self.argv("-Ac", "-i", "-f", sender, "--", *recipients, conf="submit.cf"), input=message, check=True,
                       timeout=60)


def drop_privileges_on_files(root):
    """The package's program is setgid: nobody but the caller's own rights are wanted here."""
    os.chmod(os.path.join(root, "usr/libexec/sendmail/sendmail"), 0o755)
