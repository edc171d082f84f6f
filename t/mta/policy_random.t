#!/usr/bin/env python3
"""Random policies: what `bindpost explain` answers, where a real Postfix's mail leaves, and what deliveryd makes of mail
without a stamp, is what t/lib/policy_model.py says.

SEED=n makes other policies, POLICIES=n more of them.
"""
import json
import os
import random
import re
import smtplib
import socket
import subprocess
import sys

src = os.path.abspath(os.environ.get("srcdir") or os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(src, "t/lib"))
import mta  # noqa: E402
from policy_model import BODY_LIMIT, Message, Policy, address  # noqa: E402

SEED = int(os.environ.get("SEED", "20261120"))
POLICIES = int(os.environ.get("POLICIES", "150"))
MESSAGES = 4
LIVE_POLICIES, LIVE_MESSAGES = int(os.environ.get("LIVE", "6")), 20
ADDRESS = {name: 101 + i for i, name in enumerate(["a", "b", "c", "default", "p1", "p2"])}


class Difference(Exception):
    pass


def differ(what, got, want, *context):
    raise Difference("\n".join(["%s: got %r, want %r" % (what, got, want), *map(str, context)]))


def check_stamp(text, opened, front):
    """opened, front: as Policy.in_front() gives them; the targets are those that were chosen"""
    target, rule, priority = front
    want = "X-Binding: %s; b=%s(; s=[0-9a-f]{8})?" % (re.escape(target), re.escape(rule)) + ("; p=" + priority if priority else "")
    if opened:
        want += "; r=" + ",".join("%s/%s/%s(/[0-9a-f]{8})?" % (re.escape(r.name), r.digest, re.escape(t)) for r, t in opened)
    if not re.fullmatch(want, re.sub(r"[\r\n\t ]+", " ", text).replace(", ", ",")):
        differ("stamp", text, want)


def check_answer(policy, message, answer, sticky):
    """One answer of explain --json against the model. sticky: value of a sticky field -> target, within one policy"""
    facts = message.facts()
    opened, (targets, name, priority) = policy.in_front(facts)
    front = answer["decision"]
    got = [o["rule"] for o in front["open"]]
    if got != [r.name for r, _ in opened]:
        differ("open rules", got, [r.name for r, _ in opened])
    if (front["rule"], front["priority"]) != (name, priority) or front["target"] not in targets:
        differ("in front", (front["target"], front["rule"], front["priority"]), (targets, name, priority))
    chosen = [(r, o["target"]) for (r, _), o in zip(opened, front["open"])]
    for (r, choices), (_, target) in zip(opened, chosen):
        if target not in choices:
            differ("target of open " + r.name, target, choices)
    refused = name == "default" and policy.default_binding == "none" and facts["mailfrom"] != ""
    if bool(front["reply"]) != (refused and not opened):
        differ("reply in front", front["reply"], "451" if refused and not opened else None)
    if not front["reply"]:
        check_stamp(answer["stamp"], chosen, (front["target"], name, priority))
    for recipient, a in zip(message.recipients, answer["recipients"]):
        want = policy.decide(facts, recipient)
        if want is None:
            if not a["reply"] and not front["reply"]:
                differ("reply for " + recipient, a["reply"], "451")
        elif (a["rule"], a["priority"]) != want[1:] or a["target"] not in want[0] or a["reply"]:
            differ("for " + recipient, (a["target"], a["rule"], a["priority"], a["reply"]), want)
    by_name = {r.name: r for r in policy.rules}
    for rule, target in [(r.name, t) for r, t in chosen] + [(front["rule"], front["target"])]:
        field = by_name[rule].sticky if rule in by_name else None
        value = sticky_value(field, facts) if field else None
        if value is not None and sticky.setdefault((rule, value), target) != target:
            differ("sticky choice of %s for %r" % (rule, value), target, sticky[rule, value])


def sticky_value(field, facts):
    if field.startswith("header:"):
        return facts["headers"].get(field[7:].lower(), [None])[0]
    return facts.get(field)


def arguments(rnd, folder, message):
    """The message as explain's options: whole, or in parts."""
    options = {"--client": message.client, "--client-name": message.host, "--helo": message.helo, "--auth": message.user,
               "--recv-ip": message.recv_ip, "--recv-port": message.recv_port, "--daemon-name": message.service}
    argv = ["--from", rnd.choice([message.sender, "<%s>" % message.sender])]
    for recipient in message.recipients:
        argv += ["--to", rnd.choice([recipient, "<%s>" % recipient, "<@hop.example:%s>" % recipient])]
    for option, value in options.items():
        if value is not None:
            argv += [option, value]
    whole = rnd.random() < 0.6
    path = os.path.join(folder, "message" if whole else "body")
    unix = whole and rnd.random() < 0.5
    with open(path, "wb") as f:
        f.write((message.head + message.body).replace(b"\r\n", b"\n") if unix else message.head + message.body if whole else message.body)
    if whole:
        return argv + ["--message", path]
    for line in re.split(r"\r\n(?![ \t])", message.head.decode())[:-2]:
        argv += ["--header", line]
    return argv + ["--body-file", path, "--size", str(message.size)]


def explained(t, rig):
    """explain against the model"""
    rnd = random.Random(SEED)
    folder = rig.path("explain")
    os.makedirs(folder)
    config = os.path.join(folder, "bindpost.json")
    with open(config, "w", encoding="ascii") as f:
        json.dump({"hostname": "mta1.example.net", "milter": {"body_limit": BODY_LIMIT}}, f)
    n, differences = 0, []
    for number in range(POLICIES):
        policy, sticky = Policy(rnd, lambda i: "192.0.2.%d" % (i + 1)), {}
        with open(os.path.join(folder, "policy.json"), "w", encoding="utf-8") as f:
            json.dump(policy.json, f, ensure_ascii=rnd.random() < 0.5)
        for _ in range(MESSAGES):
            message = Message(rnd)
            argv = [rig.program("bindpost"), "-c", config, "--json", "explain", *arguments(rnd, folder, message)]
            done = subprocess.run(argv, capture_output=True, timeout=60, check=False)
            n += 1
            try:
                if done.returncode:
                    differ("exit", done.returncode, 0, done.stderr.decode())
                check_answer(policy, message, json.loads(done.stdout), sticky)
            except (Difference, ValueError) as e:
                differences.append("policy %d: %s\n%s\n%r\n%s" % (number, e, argv[5:], message.head + message.body,
                                                                  json.dumps(policy.json)))
    t.ok(not differences, "explain decides %d messages under %d policies as the model does" % (n, POLICIES),
         len(differences), *differences[:int(os.environ.get("SHOW", "3"))])


# --- behind a real Postfix -------------------------------------------------------------------------------------------------

def bindings_of(targets):
    return {b for t in targets for b in (["p1", "p2"] if t == "group:pool" else [t])}


class Live:
    """Both daemons and Postfix; each binding has an address of its own, and one MX host sees all mail."""

    def __init__(self, t, rig):
        self.t, self.rig, self.wrong, self.n = t, rig, [], 0
        self.seen = 0  # rows of the MX host that were looked at
        self.expected = {}  # message name -> {final recipient as compared: (targets, rule, priority)}
        self.facts = {}

    def start(self):
        rig = self.rig
        rig.mx("mx.example", 11)
        rig.start_mx(save=True)
        rig.write_config(self.policy_json(Policy(random.Random(SEED), self.ip)), milter={"body_limit": BODY_LIMIT})
        rig.start_milter()
        rig.start_deliveryd()
        with open(rig.path("etc", "virtual"), "w", encoding="ascii") as f:
            f.write("/^via\\.(.*)$/ $1\n")
        rig.start_postfix(virtual_alias_maps="regexp:" + rig.path("etc", "virtual"), milter_default_action="tempfail",
                          smtpd_authorized_xclient_hosts="127.0.0.0/8", milter_macro_daemon_name="smtpd",
                          mynetworks="0.0.0.0/0")

    def ip(self, number):
        return self.rig.ip(101 + number)

    def policy_json(self, policy):
        made = dict(policy.json)
        made["global"] = {**made["global"], "gateway": "%s:%d" % (self.rig.ip(11), self.rig.mx_port), "prohibited_hosts": [],
                          "retry_interval": "2s"}
        return made

    def take(self, policy):
        """A policy in both daemons."""
        self.rig.write_config(self.policy_json(policy), milter={"body_limit": BODY_LIMIT})
        done = self.rig.bindpost("reload", check=False)
        if done.returncode:
            differ("reload", done.stdout + done.stderr, "done", json.dumps(policy.json))

    def expect(self, policy, message, name, refused=()):
        """refused: the recipients that were answered 451"""
        facts = message.facts()
        wanted = {address(r)[0]: policy.decide(facts, r) for r in message.recipients}
        got = {address(r)[0] for r in refused}
        if got != {r for r, want in wanted.items() if want is None}:
            self.wrong.append("%s: refused %s, but the model says %s\n%r" % (name, got, wanted, facts))
        self.facts[name] = {k: v for k, v in facts.items() if v is not None}
        self.expected[name] = {r: want for r, want in wanted.items() if want is not None and r not in got}

    def arrived(self):
        """(message name, recipient, source address, id in deliveryd's queue) of all that the MX host has"""
        for row in self.rig.seen()[self.seen:]:
            self.seen += 1
            with open(self.rig.path("mx", "saved", row["file"]), "rb") as f:
                head = f.read().split(b"\r\n\r\n")[0].decode("latin-1")
            name = re.search(r"(?im)^X-Name:\s*(\S+)", head).group(1)
            ident = re.search(r"\bid ([0-9a-zA-Z]+)", head).group(1)
            if "x-binding" in head.lower():
                self.wrong.append("%s: a stamp reached the MX host" % name)
            for recipient in row["recipients"]:
                yield name, address(recipient)[0], row["peer"], ident

    def check(self, what, policy):
        due = sum(len(w) for w in self.expected.values())
        try:
            mta.wait_for("%d deliveries" % due, lambda: sum(len(r["recipients"]) for r in self.rig.seen()[self.seen:]) >= due,
                         120)
        except mta.rigs.RigError as e:
            self.wrong.append(str(e))
        rows, rules = list(self.arrived()), {}

        def told():
            rules.update({(e["id"], address(e["recipient"])[0]): e["rule"] for e in self.rig.events("delivery")})
            return all((ident, recipient) in rules for _, recipient, _, ident in rows)

        mta.wait_for("the events", told, 120)
        left = {(name, r): want for name, wanted in self.expected.items() for r, want in wanted.items()}
        for name, recipient, peer, ident in rows:
            want = left.pop((name, recipient), None)
            if want is None:
                self.wrong.append("%s for %s: once too often, or it should have been refused" % (name, recipient))
                continue
            sources = {self.rig.ip(ADDRESS[b]) for b in bindings_of(want[0])}
            if peer not in sources or rules.get((ident, recipient)) != want[1]:
                self.wrong.append("%s for %s: from %s by rule %s, model: %r (%s)\n%r" % (
                    name, recipient, peer, rules.get((ident, recipient)), want, sources, self.facts[name]))
        self.wrong += ["%s for %s: did not arrive" % key for key in left]
        self.t.ok(not self.wrong, "%s: %d messages leave as the model says" % (what, self.n), len(self.wrong), *self.wrong[:5],
                  json.dumps(policy.json["rules"]))
        self.wrong, self.n, self.expected, self.facts = [], 0, {}, {}
        self.rig.front.tool("postsuper", "-d", "ALL", capture_output=True)  # what the handoff refused

    # through Postfix and the milter
    def submit(self, rnd, policy, name):
        message = Message(rnd, name, ascii_only=True)
        message.service = "smtpd"
        message.helo = message.helo or "client"
        message.recv_ip = message.recv_ip or "10.9.9.9"
        message.recv_port = message.recv_port or "25"
        message.client = message.client if message.client and ":" not in message.client else "203.0.113.9"
        self.n += 1
        envelope = [rnd.choice(["", "via."]) + r if not r.startswith('"') else r for r in message.recipients]
        refused = ()
        with self.rig.client() as client:
            client.ehlo("rig.example")
            said = {"ADDR": message.client, "NAME": message.host or "[UNAVAILABLE]", "HELO": message.helo,
                    "LOGIN": message.user or "[UNAVAILABLE]", "DESTADDR": message.recv_ip, "DESTPORT": message.recv_port}
            code, text = client.docmd("XCLIENT", " ".join("%s=%s" % item for item in said.items()))
            if code != 220:
                differ("XCLIENT", (code, text), 220)
            client.ehlo(message.helo)
            try:
                client.sendmail(message.sender, envelope, message.head + message.body, mail_options=["BODY=8BITMIME"])
            except smtplib.SMTPDataError as e:
                if e.smtp_code != 451:
                    raise
                refused = message.recipients
        opened, decided = policy.in_front(message.facts())
        if not refused and opened and decided[1] == "default" and policy.default_binding == "none":
            # who no open rule claims is refused at the handoff, and stays with Postfix
            refused = [r for r in message.recipients if policy.decide(message.facts(), r) is None]
        self.expect(policy, message, name, refused)

    # without Postfix or milter: deliveryd asks the rules, with what XFORWARD tells
    def hand_over(self, rnd, policy, name):
        message = Message(rnd, name, ascii_only=True)
        message.user = message.recv_ip = message.recv_port = message.service = None
        if not message.client:  # local submission
            message.host = message.helo = None
        self.n += 1
        said = {"ADDR": message.client and ("IPV6:" if ":" in message.client else "") + message.client, "NAME": message.host,
                "HELO": message.helo}
        told = " ".join("%s=%s" % (k, v or "[UNAVAILABLE]") for k, v in said.items())
        commands = ["LHLO mta.example", "XFORWARD " + told, "MAIL FROM:<%s>" % message.sender]
        commands += ["RCPT TO:<%s>" % r for r in message.recipients] + ["DATA"]
        data = re.sub(rb"(?m)^\.", b"..", message.without_stamp + message.body) + b".\r\n"
        with socket.socket(socket.AF_UNIX) as s, s.makefile("rb") as lines:
            s.settimeout(60)
            s.connect(self.rig.sock("handoff.sock"))

            def reply():
                line = lines.readline()
                while line[3:4] == b"-":
                    line = lines.readline()
                return line.decode().strip()

            reply()
            for command in commands:
                s.sendall(command.encode() + b"\r\n")
                got = reply()
                if got[:1] not in "23":
                    differ(command, got, "250")
            s.sendall(data)
            replies = [reply() for _ in message.recipients]
        refused = [r for r, got in zip(message.recipients, replies) if got.startswith("451 4.7.1")]
        if len(refused) != sum(not got.startswith("250") for got in replies):
            differ("replies", replies, "250 or 451 4.7.1")
        self.expect(policy, message, name, refused)


def live(t, rig):
    rnd = random.Random(SEED)
    run = Live(t, rig)
    run.start()
    for number in range(LIVE_POLICIES):
        policy = Policy(rnd, run.ip)
        run.take(policy)
        for i in range(LIVE_MESSAGES):
            run.submit(rnd, policy, "p%d-%d" % (number, i))
        run.check("policy %d, Postfix and the milter" % number, policy)
        for i in range(LIVE_MESSAGES):
            run.hand_over(rnd, policy, "x%d-%d" % (number, i))
        run.check("policy %d, without a stamp" % number, policy)


def body(t, rig):
    print("# SEED=%d" % SEED, flush=True)
    explained(t, rig)
    live(t, rig)


mta.run(body)
