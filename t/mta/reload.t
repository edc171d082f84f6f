#!/usr/bin/env python3
"""Reload in three steps behind a real Postfix: what deliveryd still knows between them, the removal of bindings that
have mail, key rotation, options that need a restart."""
import copy
import http.client
import json
import os
import signal
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from mta import message, run, standard_domains, standard_policy, wait_for  # noqa: E402

OLD_KEY, NEW_KEY = "11" * 32, "22" * 32


class Control(http.client.HTTPConnection):
    """One request to a daemon's control socket, as `bindpost reload` makes them."""

    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def step(rig, name, force=False, milter=False):
    control = Control(rig.sock("milter-control.sock" if milter else "control.sock"))
    control.request("POST", "/v1/reload?step=%s%s" % (name, "&force=1" if force else ""))
    reply = control.getresponse()
    answer = json.loads(reply.read())
    control.close()
    return reply.status, answer


def write_key(rig, *keys):
    path = rig.path("etc", "stamp.key")
    with open(path + ".new", "w", encoding="ascii") as f:
        f.write("".join(k + "\n" for k in keys))
    os.chmod(path + ".new", 0o600)
    os.rename(path + ".new", path)


def write(rig, policy, **more):
    process = {"stamp": {"key_file": "stamp.key"}}
    process.update(more)
    rig.write_config(copy.deepcopy(policy), **process)


def peer_of(rig, recipient):
    rows = [r for r in rig.seen() if recipient in r["recipients"]]
    return rows[0]["peer"] if rows else None


def send(rig, name, customer=None):
    """To NAME@d1.example; of a customer by header, else by the domain acme claims."""
    extra = "X-Customer: %s\r\n" % customer if customer else ""
    sender = "x@y.example" if customer else "news@acme.example"
    rig.send(sender, ["%s@d1.example" % name], message(1, sender, name + "@d1.example", extra))
    return "%s@d1.example" % name


def arrives(rig, name):
    wait_for("%s to arrive" % name, lambda: peer_of(rig, name))
    return peer_of(rig, name)


def with_delta(rig, policy):
    policy = copy.deepcopy(policy)
    policy["bindings"]["delta"] = {"bind_address": rig.ip(104), "ehlo_hostname": "delta.mta.example"}
    policy["rules"].insert(0, {"name": "delta", "when": "header:X-Customer == 'delta'", "bind": "delta"})
    policy["rules"].insert(1, {"name": "delta-d2", "when": "mailfrom_domain == 'y.example' AND rcptto_domain == 'd2.example'",
                               "bind": "delta"})
    return policy


def added(tap, rig, without, full):
    write(rig, full)
    answer = rig.bindpost_json("reload")
    tap.equal((answer["added"], answer["removed"], answer["changed"]), (["delta"], [], []), "the answer lists what is new")
    tap.equal((answer["rules_added"], answer["rules_removed"]), (["delta", "delta-d2"], []), "and the rules")
    tap.equal(arrives(rig, send(rig, "a1", "delta")), rig.ip(104), "a binding added is used without a restart")
    text = rig.bindpost("reload").stdout
    tap.equal(text, "reloaded\n", "nothing changed: nothing is listed")


def between_the_steps(tap, rig, without, full):
    """The milter still stamps by the old policy and key."""
    write(rig, without)
    write_key(rig, NEW_KEY)
    status, answer = step(rig, "take")
    tap.equal((status, answer["removed"], answer["rules_removed"]), (200, ["delta"], ["delta", "delta-d2"]),
              "deliveryd takes a policy without delta, and another key")
    tap.equal(arrives(rig, send(rig, "b1", "delta")), rig.ip(104),
              "mail the milter stamps for it with the old key is taken, and leaves from its address")
    rig.send("x@y.example", ["b2@d2.example", "b2@d3.example"], message(2, "x@y.example", "b2@d2.example"))
    tap.equal((arrives(rig, "b2@d2.example"), arrives(rig, "b2@d3.example")), (rig.ip(104), rig.ip(100)),
              "so is a rule on recipients that only the previous policy has")
    tap.equal(rig.events("bad_stamp", "stale_rule"), [], "nothing is bad or stale")
    status, answer = step(rig, "all", milter=True)
    tap.equal(status, 200, "then the milter takes it")
    tap.equal(arrives(rig, send(rig, "b3", "delta")), rig.ip(100), "and nothing is stamped for delta any more")
    status, answer = step(rig, "drop")
    tap.equal((status, answer["ok"]), (200, True), "then deliveryd drops it")
    wait_for("its connection to end", lambda: "delta" not in [b["binding"] for b in rig.bindpost_json("bindings")["items"]])
    tap.ok(True, "it is no longer listed")


def forgotten(tap, rig, without, full):
    """After "drop" the old key is one nobody knows: strict, as an accident must not move mail."""
    write_key(rig, OLD_KEY)
    before = rig.tail("milter", 1000).count("reloaded")
    rig.procs["milter"].send_signal(signal.SIGHUP)
    wait_for("the milter to sign with it", lambda: rig.tail("milter", 1000).count("reloaded") > before)
    name = send(rig, "c1", "bravo")
    wait_for("bad_stamp", lambda: rig.events("bad_stamp"))
    tap.equal((rig.events("bad_stamp")[0]["reason"], peer_of(rig, name)), ("bad_mac", None),
              "a key that is in no file is a bad stamp, and the mail stays with Postfix")
    write_key(rig, NEW_KEY, OLD_KEY)
    tap.equal(rig.bindpost("reload").returncode, 0, "with both keys in the file")
    rig.postqueue_flush()
    tap.equal(arrives(rig, name), rig.ip(102), "it is taken")


def removal(tap, rig, without, full):
    """A binding that has mail."""
    write(rig, full)
    rig.bindpost("reload")
    rig.mx_option("mx1.example", "rcpt=451 4.7.1 later")
    name = send(rig, "e1", "delta")
    wait_for("a deferral", lambda: [e for e in rig.events("deferral") if e["recipient"] == name])
    write(rig, without)
    answer = rig.bindpost("reload", check=False)
    tap.equal(answer.returncode, 1, "dropping a binding that has mail is refused")
    tap.ok("bindpost drain delta" in answer.stderr and "nothing was changed" in answer.stderr, "naming the remedy",
           answer.stderr)
    seen = len(rig.events("reload"))
    rig.procs["deliveryd"].send_signal(signal.SIGHUP)
    wait_for("SIGHUP to be judged", lambda: len(rig.events("reload")) > seen)
    tap.equal(rig.events("reload")[-1]["reason"], "refused", "so it is on SIGHUP")
    # it comes between the steps: the drop is refused, and until then it goes its old way
    write(rig, full)
    rig.mx_option("mx1.example", None)
    tap.equal(arrives(rig, name), rig.ip(104), "meanwhile it is delivered as before")
    rig.mx_option("mx1.example", "rcpt=451 4.7.1 later")
    write(rig, without)
    wait_for("delta to be empty", lambda: sum(b["active"] + b["deferred"] for b in rig.bindpost_json("bindings", "delta")["items"]) == 0)
    tap.equal(step(rig, "take")[0], 200, "without mail it is taken")
    late = send(rig, "e2", "delta")
    wait_for("a deferral", lambda: [e for e in rig.events("deferral") if e["recipient"] == late])
    step(rig, "all", milter=True)
    status, answer = step(rig, "drop")
    tap.equal((status, len(answer["errors"])), (409, 1), "mail that came before the milter knew stops the drop")
    rig.mx_option("mx1.example", None)
    tap.equal(arrives(rig, late), rig.ip(104), "it still leaves from its binding's address")
    wait_for("drop", lambda: step(rig, "drop")[0] == 200)
    tap.ok(True, "and once it is gone the drop succeeds")


def forced(tap, rig, without, full):
    write(rig, full)
    rig.bindpost("reload")
    rig.mx_option("mx1.example", "rcpt=451 4.7.1 later")
    name = send(rig, "f1", "delta")
    wait_for("a deferral", lambda: [e for e in rig.events("deferral") if e["recipient"] == name])
    write(rig, without)
    tap.equal(rig.bindpost("reload", "--force").returncode, 0, "--force drops it")
    row = [b for b in rig.bindpost_json("bindings")["items"] if b["binding"] == "delta"][0]
    tap.equal((row["state"], row["held"] + row["deferred"], row["active"]), ("removed", 1, 0), "its mail is held under its name")
    rig.mx_option("mx1.example", None)
    rig.stop("deliveryd")
    rig.start_deliveryd()
    row = [b for b in rig.bindpost_json("bindings")["items"] if b["binding"] == "delta"][0]
    tap.equal((row["state"], row["held"] + row["deferred"]), ("removed", 1), "also after a start without the binding")
    tap.equal(peer_of(rig, name), None, "and nothing left from another address")
    gone = copy.deepcopy(without)
    gone["global"]["removed_bindings"] = "default"
    write(rig, gone)
    rig.bindpost("reload")
    tap.equal(arrives(rig, name), rig.ip(100), "removed_bindings default: it goes from the default binding")


def restart(tap, rig, without, full):
    write(rig, without, handoff={"listen": ["unix:%s" % rig.sock("other.sock")], "max_recipients": 5},
          stamp={"header": "X-Other", "key_file": "stamp.key"})
    first = rig.bindpost_json("reload")
    again = rig.bindpost_json("reload")
    tap.equal((sorted(first["restart"]), sorted(again["restart"])), (["handoff.listen", "stamp.header"],) * 2,
              "what needs a restart is named, each time until then")
    log = rig.tail("deliveryd", 1000)
    tap.ok("reload: handoff.listen: keeps its old value until deliveryd is restarted" in log,
           "in the journal too: after a SIGHUP nobody reads an answer", rig.tail("deliveryd"))
    tap.ok("handoff.max_recipients" in first["options"], "what does not is listed with the options", first["options"])
    tap.equal(arrives(rig, send(rig, "g1", "bravo")), rig.ip(102), "both go on with the old header")


def body(tap, rig):
    standard_domains(rig, 4)
    without = standard_policy(rig)
    without["global"]["idle_timeout"] = 0  # MX hosts look at what they are told at each connection
    full = with_delta(rig, without)
    os.makedirs(rig.path("etc"), exist_ok=True)
    write_key(rig, OLD_KEY)
    write(rig, without)
    rig.start_dns()
    rig.start_mx()
    rig.start_milter()
    rig.start_deliveryd()
    rig.start_postfix()
    for part in (added, between_the_steps, forgotten, removal, forced, restart):
        part(tap, rig, without, full)


run(body)
