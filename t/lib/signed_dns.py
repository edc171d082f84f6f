"""signed_dns - zones on loopback, signed, unsigned and broken, behind a validating unbound

`sec.test` is signed; `ins.sec.test` is delegated from it without DS, so it is not; `bogus.test` and the owners given to
break() are signed as far as the anchors and DS records say, and are not; everything else under `test` is plain.
"""
import os
import subprocess

HEAD = "$ORIGIN %s.\n$TTL 60\n@ SOA ns admin 1 3600 600 86400 5\n@ NS ns\nns A 127.0.0.1\n"


class SignedDns:
    def __init__(self, rig):
        self.rig = rig
        self.zones = {"sec.test": [], "half.test": [], "bogus.test": [], "ins.sec.test": [], "plain.test": []}
        self.zones["sec.test"] = ["ins NS ns.ins", "ns.ins A 127.0.0.1"]
        self.spoiled = []

    def add(self, zone, *records):
        self.zones[zone] += records

    def spoil(self, zone, before, after):
        """In the signed zone, behind its signatures' back."""
        self.spoiled.append((zone, before, after))

    def write(self, zone):
        with open(self.rig.path(zone), "w", encoding="ascii") as f:
            f.write(HEAD % zone + "".join(r + "\n" for r in self.zones[zone]))

    def run(self, *argv):
        return subprocess.run(argv, cwd=self.rig.dir, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    def sign(self, zone):
        """Its anchor; the signed zone stands beside it."""
        keys = [self.run("ldns-keygen", "-a", "ECDSAP256SHA256", *flags, zone) for flags in ([], ["-k"])]
        self.run("ldns-signzone", zone, *keys)
        with open(self.rig.path(zone + ".signed"), encoding="ascii") as f:
            text = f.read()
        for where, before, after in self.spoiled:
            if where == zone:
                assert before in text, (before, text)
                text = text.replace(before, after)
        with open(self.rig.path(zone + ".signed"), "w", encoding="ascii") as f:
            f.write(text)
        with open(self.rig.path(keys[1] + ".key"), encoding="ascii") as f:
            return f.read()

    def start(self):
        rig = self.rig
        for zone in self.zones:
            self.write(zone)
        anchors = self.sign("sec.test")
        anchors += anchors.replace("sec.test.", "bogus.test.") + self.sign("half.test")
        with open(rig.path("anchors"), "w", encoding="ascii") as f:
            f.write(anchors)
        conf = ["server:", " interface: %s@%d" % rig.dns, " do-daemonize: no", ' username: ""', ' chroot: ""',
                ' directory: "%s"' % rig.dir, ' pidfile: ""', " use-syslog: no", " access-control: 127.0.0.0/8 allow",
                " num-threads: 1", " do-ip6: no", " do-not-query-localhost: no", ' local-zone: "test." transparent',
                " outgoing-interface: 127.0.0.1", ' module-config: "validator iterator"',
                ' trust-anchor-file: "%s"' % rig.path("anchors")]
        for zone in self.zones:
            path = zone + ".signed" if os.path.exists(rig.path(zone + ".signed")) else zone
            conf += ["auth-zone:", ' name: "%s."' % zone, ' zonefile: "%s"' % path, " for-downstream: no",
                     " for-upstream: yes", " fallback-enabled: no"]
        conf += ["remote-control:", " control-enable: no"]
        with open(rig.path("unbound.conf"), "w", encoding="ascii") as f:
            f.write("\n".join(conf) + "\n")
        from rig import port_open  # only here: it needs a rig
        rig.start("unbound", ["/usr/sbin/unbound", "-d", "-c", rig.path("unbound.conf")], lambda: port_open(*rig.dns))
