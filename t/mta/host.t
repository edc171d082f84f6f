#!/usr/bin/env python3
"""`bindpost check --host` on a machine made for it: a network namespace with addresses, routes and a name server of its own."""
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fake_resolver import FakeResolver, record, wire  # noqa: E402
from mta import Tap  # noqa: E402
from netns import enter, ip  # noqa: E402

PTR = 12
BUILD = os.environ.get("builddir") or os.getcwd()
DNS = ("127.0.0.53", 5300)


def make_machine():
    enter()
    for address in ("192.0.2.20", "192.0.2.21", "192.0.2.22"):
        ip("addr", "add", address + "/32", "dev", "lo")
    ip("addr", "add", "2001:db8::20/128", "dev", "lo", "nodad")
    ip("route", "add", "local", "198.51.100.0/24", "dev", "lo")  # AnyIP
    ip("route", "add", "default", "dev", "lo")
    # a customer's own table, in which somebody forgot the default route; and one that must not go there
    ip("-6", "route", "add", "default", "dev", "lo")
    ip("rule", "add", "from", "192.0.2.21", "lookup", "100")
    ip("route", "add", "unreachable", "default", "table", "100")
    ip("route", "add", "10.10.10.0/24", "dev", "lo", "table", "100")
    ip("rule", "add", "from", "192.0.2.22", "lookup", "101")
    ip("route", "add", "prohibit", "default", "table", "101")


def reverse(address):
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"


def resolver():
    r = FakeResolver(DNS, {"good.example": "192.0.2.20", "other.example": "192.0.2.99"}, {})

    def ptr(*names):
        return lambda q: [q.answer([record(q.name, PTR, wire(n)) for n in names])]
    r.evil[reverse("192.0.2.20")] = ptr("alias.example", "Good.example")
    r.evil[reverse("192.0.2.21")] = ptr("host21.provider.example")
    return r


POLICY = {
    "global": {"server_max_outbound_connections": 100},
    "domains": {"inside.example": {"gateway": "10.10.10.20"}, "far.example": {"routes": ["smtp://203.0.113.5:26", "__mx__"]}},
    "bindings": {
        "good": {"bind_address": ["192.0.2.20", "2001:db8::20"], "ehlo_hostname": "good.example"},
        "lost": {"bind_address": "192.0.2.77", "ehlo_hostname": "none.example"},
        "any": {"bind_address": "198.51.100.7", "ehlo_hostname": "[198.51.100.7]"},
        "stuck": {"bind_address": "192.0.2.21", "ehlo_hostname": "other.example"},
        "away": {"bind_address": "192.0.2.88", "egress_proxy": "socks5://192.0.2.20:1080", "ehlo_hostname": "good.example"},
        "default": {"bind_address": "192.0.2.22", "ehlo_hostname": "good.example"}}}


def check(folder, policy=None, dns=DNS, process=(), **limits):
    process = {"hostname": "mta.example", "policy": ["policy.json"], "dns": {"servers": ["%s:%d" % dns]},
               "control": {"listen": "unix:%s/none.sock" % folder}, **dict(process)}
    for name, value in (("bindpost.json", process), ("policy.json", policy or POLICY)):
        with open(os.path.join(folder, name), "w", encoding="ascii") as f:
            json.dump(value, f)

    def lower():
        if "nofile" in limits:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limits["nofile"], limits["nofile"]))
    argv = [os.path.join(BUILD, "bindpost"), "--json", "check", "--host", os.path.join(folder, "bindpost.json")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, preexec_fn=lower)
    answer = json.loads(done.stdout)
    return done.returncode, answer["errors"], answer["warnings"]


def about(warnings, name):
    return [w.split(": ", 2)[2] for w in warnings if ": bindings.%s: " % name in w and "nothing assigns" not in w]


def what_it_says(tap, folder):
    code, errors, warnings = check(folder)
    tap.equal((code, errors), (0, []), "warnings only")
    tap.equal([w for w in about(warnings, "good") if "192.0.2.20" in w or "Internet" in w], [],
              "nothing of what is as it should be: one of several PTR records will do, in any case")
    tap.ok(any("2001:db8::20" in w and "no PTR" in w for w in about(warnings, "good")), "the other family has none", warnings)
    lost = about(warnings, "lost")
    tap.ok(any(w.startswith("bind_address 192.0.2.77 is not on this machine") for w in lost), "an address that is not here", lost)
    tap.ok(any("none.example has no A record" in w for w in lost), "a name that leads nowhere", lost)
    tap.equal([w for w in about(warnings, "any") if "PTR" not in w], [], "an AnyIP address is here")
    tap.ok(not any("ehlo" in w for w in about(warnings, "any")), "a literal has no name", about(warnings, "any"))
    stuck = about(warnings, "stuck")
    tap.ok(any(w.startswith("no route from 192.0.2.21 to the Internet (IPv4): ") for w in stuck), "no way out by its own table",
           stuck)
    tap.ok(any("no route from 192.0.2.21 to 203.0.113.5: " in w for w in stuck), "to a route", stuck)
    tap.ok(not any("10.10.10.20" in w for w in stuck), "the gateway can be reached", stuck)
    tap.ok(any("PTR record of 192.0.2.21 says host21.provider.example, but ehlo_hostname is other.example" in w for w in stuck),
           "PTR and EHLO differ", stuck)
    tap.ok(any("other.example leads to 192.0.2.99, not to 192.0.2.21" in w for w in stuck), "and do not meet", stuck)
    tap.ok(any("Permission denied" in w for w in about(warnings, "default")), "a way that is forbidden", warnings)
    tap.ok(not any("machine" in w or "route" in w for w in about(warnings, "away")), "an address behind a proxy lives elsewhere",
           warnings)
    tap.ok(not any("descriptors" in w for w in warnings), "descriptors enough")


def limits(tap, folder):
    _, _, warnings = check(folder, nofile=2000)
    few = [w for w in warnings if "descriptors" in w]
    tap.ok(len(few) == 1 and "server_max_outbound_connections (100)" in few[0] and "is 2000" in few[0], "too few descriptors", few)
    began = time.monotonic()
    code, _, warnings = check(folder, dns=("127.0.0.54", 5300))  # nobody listens there
    tap.ok(code == 0 and any("not checked: no name server answers" in w for w in warnings), "no name server", warnings)
    tap.ok(time.monotonic() - began < 100, "said in bounded time")
    many = {"bindings": {"b%d" % i: {"bind_address": "192.0.3.%d" % (i + 1)} for i in range(50)}}
    many["bindings"]["default"] = {"bind_address": "192.0.2.20"}
    _, _, warnings = check(folder, policy=many)
    tap.ok(any("and 30 more bindings' addresses" in w for w in warnings), "many of a kind are counted", warnings[-5:])


def places(tap, folder):
    """What a start needs: the user, the groups, the folders."""
    _, _, warnings = check(folder, process={
        "user": "no-such-user", "spool": {"path": folder + "/none/spool"}, "log": {"events": folder + "/none/log/e.jsonl"},
        "handoff": {"listen": "unix:%s/h.sock?group=no-such-group" % folder}, "milter": {"listen": "unix:/none/at/all/m.sock"}})
    missing = "there is no folder %s for it: make it, or name another"
    for text in ('user: there is no user "no-such-user" on this machine', "spool.path: " + missing % (folder + "/none"),
                 "log.events: " + missing % (folder + "/none"), "milter.listen: " + missing % "/none/at",
                 "handoff.listen: there is no group no-such-group on this machine"):
        tap.ok(any(w.startswith(text) for w in warnings), text, warnings[:8])


def main():
    tap = Tap()
    make_machine()
    with tempfile.TemporaryDirectory(prefix="bindpost-host-") as folder:
        r = resolver()
        what_it_says(tap, folder)
        limits(tap, folder)
        places(tap, folder)
        usage = subprocess.run([os.path.join(BUILD, "bindpost"), "check", "--hosts"], capture_output=True, check=False)
        tap.equal(usage.returncode, 2, "an unknown option")
        r.close()
    print("1..%d" % tap.n)
    return 1 if tap.failed else 0


sys.exit(main())
