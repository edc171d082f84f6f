#!/usr/bin/python3
"""dns.t - our resolver against a real one: unbound, plain and validating, on loopback"""
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from rig import Rig, port_open  # noqa: E402

ZONE = """\
$ORIGIN signed.test.
$TTL 300
@ SOA ns admin 1 3600 600 86400 60
@ NS ns
ns A 192.0.2.53
@ MX 10 mx1
@ MX 20 mx2
mx1 A 192.0.2.1
mx1 AAAA 2001:db8::1
mx2 A 192.0.2.2
_25._tcp.mx1 TLSA 3 1 1 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
alias CNAME mx1
"""
PLAIN = [
    "plain.test. 120 MX 10 mx.plain.test.", "mx.plain.test. A 192.0.2.9", "null.test. MX 0 .",
    "alias.plain.test. CNAME mx.plain.test.", "odd.test. MX 10 a\\000b.odd.test.", "odd.test. MX 20 mx.plain.test.",
] + ["big.plain.test. AAAA 2001:db8::%x" % i for i in range(1, 91)]

n_tests = 0
n_failed = 0


def ok(condition, what, got=""):
    global n_tests, n_failed
    n_tests += 1
    print("%sok %d - %s" % ("" if condition else "not ", n_tests, what))
    if not condition:
        n_failed += 1
        print("# got: %s" % got)
    sys.stdout.flush()


def sign(rig):
    """A key-signing and zone-signing key, the signed zone, and the anchor that vouches for it."""
    with open(rig.path("signed.test"), "w", encoding="ascii") as f:
        f.write(ZONE)
    keys = [subprocess.run(["ldns-keygen", "-a", "ECDSAP256SHA256"] + flags + ["signed.test"], cwd=rig.dir, check=True,
                           capture_output=True, text=True, timeout=60).stdout.strip() for flags in ([], ["-k"])]
    subprocess.run(["ldns-signzone", "signed.test"] + keys, cwd=rig.dir, check=True, timeout=60)
    with open(rig.path("bogus.test"), "w", encoding="ascii") as f:  # not signed, but an anchor says it should be
        f.write(ZONE.replace("signed.test", "bogus.test"))
    with open(rig.path(keys[1] + ".key"), encoding="ascii") as f:
        anchor = f.read()
    with open(rig.path("anchors"), "w", encoding="ascii") as f:
        f.write(anchor + anchor.replace("signed.test.", "bogus.test."))


def start_unbound(rig, name, address, extra):
    conf = ["server:", " interface: %s@5353" % address, " do-daemonize: no", ' username: ""', ' chroot: ""',
            ' directory: "%s"' % rig.dir, ' pidfile: ""', " use-syslog: no", " access-control: 127.0.0.0/8 allow",
            " num-threads: 1", " do-ip6: no", " do-not-query-localhost: no", ' local-zone: "test." transparent',
            " outgoing-interface: 127.0.0.1"] + extra
    conf += ["remote-control:", " control-enable: no"]
    with open(rig.path(name + ".conf"), "w", encoding="ascii") as f:
        f.write("\n".join(conf) + "\n")
    rig.start(name, ["/usr/sbin/unbound", "-d", "-c", rig.path(name + ".conf")], lambda: port_open(address, 5353))


def ask(server, name, *types):
    run = subprocess.run([os.path.join(os.environ["builddir"], "t/lib/dns_ask"), server, name] + list(types),
                         capture_output=True, text=True, timeout=60)
    return dict(line.split(" ", 1) for line in run.stdout.splitlines()) if run.returncode == 0 else {"": run.stderr}


def main():
    with tempfile.TemporaryDirectory(prefix="bindpost-dns-") as folder, Rig(folder) as rig:
        sign(rig)
        server = rig.ip(53)
        extra = [' local-zone: "%s" static' % z for z in ("plain.test.", "null.test.", "odd.test.")]
        extra += [" local-data: '%s'" % r for r in PLAIN]
        extra += [' module-config: "validator iterator"', ' trust-anchor-file: "%s"' % rig.path("anchors")]
        for zone, path in (("signed.test.", "signed.test.signed"), ("bogus.test.", "bogus.test")):
            extra += ["auth-zone:", ' name: "%s"' % zone, ' zonefile: "%s"' % path, " for-downstream: no",
                      " for-upstream: yes", " fallback-enabled: no"]
        start_unbound(rig, "unbound", server, extra)
        server += ":5353"
        dead = rig.ip(54) + ":5353"

        got = ask(server, "Plain.Test", "MX", "A", "AAAA")
        ok(got.get("MX") == "ANSWER ad=0 ttl=120 name=plain.test n=1 10:mx.plain.test", "MX", got)
        ok(got.get("A", "").startswith("NODATA") and got.get("AAAA", "").startswith("NODATA"), "no data", got)
        got = ask(server, "nothing.plain.test", "MX")
        ok(got.get("MX", "").startswith("NXDOMAIN"), "NXDOMAIN", got)
        got = ask(server, "null.test", "MX")
        ok(got.get("MX", "").endswith("n=1 0:."), "null MX", got)
        got = ask(server, "odd.test", "MX")
        ok(got.get("MX", "").endswith("n=1 20:mx.plain.test"), "a host with NUL in its name is left out", got)
        got = ask(server, "alias.plain.test", "A")
        ok("name=mx.plain.test n=1 192.0.2.9" in got.get("A", ""), "CNAME in local data", got)
        got = ask(server, "big.plain.test", "AAAA")
        ok(" n=90 " in got.get("AAAA", "") + " ", "90 addresses, which need TCP", got)
        got = ask(server, "signed.test", "MX")
        ok(got.get("MX", "").startswith("ANSWER ad=1") and " n=2 " in got["MX"], "a signed MX is authentic", got)
        got = ask(server, "mx1.signed.test", "A", "AAAA")
        ok(all(got.get(t, "").startswith("ANSWER ad=1") for t in ("A", "AAAA")), "signed addresses", got)
        got = ask(server, "_25._tcp.mx1.signed.test", "TLSA")
        ok(got.get("TLSA", "").startswith("ANSWER ad=1") and got["TLSA"].endswith("n=1 35 bytes"), "TLSA", got)
        got = ask(server, "alias.signed.test", "A")
        ok(got.get("A", "").startswith("ANSWER ad=1 ") and "name=mx1.signed.test" in got["A"], "signed alias", got)
        got = ask(server, "mx1.signed.test", "MX")
        ttl = re.match(r"NODATA ad=1 ttl=(\d+) ", got.get("MX", ""))
        ok(ttl and 30 <= int(ttl.group(1)) <= 60, "signed denial, TTL of the SOA's minimum", got)
        got = ask(server, "bogus.test", "MX")
        ok(got.get("MX", "").startswith("FAILED") and "SERVFAIL from %s" % server in got["MX"], "a signature that is missing is a failure", got)
        got = ask(dead + "," + server, "plain.test", "MX")
        ok(got.get("MX", "").startswith("ANSWER"), "the second server, as nobody listens at the first", got)
    print("1..%d" % n_tests)
    return 1 if n_failed else 0


sys.exit(main())
