#!/usr/bin/env python3
"""DANE against signed zones behind a validating resolver and real TLS peers: the cases of RFC 7672 as a table."""
import os
import smtplib
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from certs import Authority, tlsa  # noqa: E402
from mta import message, run, standard_policy, wait_for  # noqa: E402
from signed_dns import SignedDns  # noqa: E402

PORT = 2525
WAITS = "4.7.5"  # the event is a deferral, and this its code
CASES = []


class Case:
    """A domain in sec.test with one MX host there, unless told otherwise; the host answers at an address of its own."""

    def __init__(self, name, tlsa_of=(), expect=None, verified=None, cert="host", zone="sec.test", mx_zone="sec.test", alias=None,
                 reply=None, domain_options=None, records=(), sni=None, offers=True, more=None):
        self.number = len(CASES) + 1
        self.name, self.expect, self.verified, self.cert = name, expect, verified, cert
        self.zone, self.mx_zone, self.alias, self.reply = zone, mx_zone, alias, reply
        self.domain = "d%d.%s" % (self.number, zone)
        self.label = "h%d" % self.number
        self.host = "%s.%s" % (self.label, mx_zone)
        self.tlsa_of, self.options, self.records = tlsa_of, domain_options, records
        self.sni, self.offers, self.more = sni, offers, more
        CASES.append(self)


def ee(matching=1, selector=1, of="host"):
    return (of, 3, selector, matching)


def ta(matching=1, selector=0, of="authority"):
    return (of, 2, selector, matching)


OTHER = "00" * 32
Case("3 1 1", [ee()], verified="dane-ee")
Case("3 0 0", [ee(0, 0)], verified="dane-ee")
Case("3 0 2", [ee(2, 0)], verified="dane-ee")
Case("3 1 1, and the certificate has expired", [ee()], verified="dane-ee", cert="expired")
Case("3 1 1, and it is for another name", [ee()], verified="dane-ee", cert="elsewhere")
Case("rollover", [ee(), ee(of="next")], verified="dane-ee")
Case("another key", [ee(of="next")], WAITS, reply="none of the TLSA records")
Case("2 0 1", [ta()], verified="dane-ta")
Case("2 1 1", [ta(selector=1)], verified="dane-ta")
Case("2 0 0, and the authority is not sent", [ta(0)], verified="dane-ta", cert="alone")
Case("2 0 1, and the authority is not sent", [ta()], WAITS, cert="alone")
Case("2 0 1, expired", [ta()], WAITS, cert="expired", reply="expired")
Case("2 0 1, for another name", [ta()], WAITS, cert="elsewhere", reply="not for")
Case("2 0 1, for the domain", [ta()], verified="dane-ta", cert="domain")
Case("2 0 1, for the domain, whose MX is not signed", [ta()], WAITS, cert="domain", zone="plain.test")
Case("2 0 1 of another authority", [ta(of="other")], WAITS)
Case("a strong digest that is wrong beside a right one", [ee(1), (None, "3 1 2 " + OTHER * 2)], WAITS)
Case("a weak digest that is wrong beside a strong one", [ee(2), (None, "3 1 1 " + OTHER)], verified="dane-ee")
Case("PKIX-EE only: TLS, unverified", [("host", 1, 1, 1)], verified="no")
Case("PKIX-TA only: TLS, unverified", [("authority", 0, 0, 1)], verified="no", cert="expired")
Case("a digest too short: TLS, unverified", [(None, "3 1 1 abcd")], verified="no")
Case("an unknown selector: TLS, unverified", [(None, "3 7 1 " + OTHER)], verified="no")
Case("PKIX-EE only, and no STARTTLS", [("host", 1, 1, 1)], "4.7.6", offers=False)
Case("ninety records, one of them right", [(None, "3 1 1 %064x" % i) for i in range(89)] + [ee()], verified="dane-ee")
Case("120 records, all wrong", [(None, "3 1 1 %064x" % i) for i in range(120)], WAITS)
Case("no STARTTLS", [ee()], "4.7.6", offers=False)
Case("a signed denial: no DANE", (), verified="no", cert="expired")
Case("a signed denial, and no STARTTLS", (), offers=False)
Case("a host that is not signed", [ee(of="next")], verified="no", mx_zone="ins.sec.test")
Case("an MX that is not signed", [ee()], verified="dane-ee", zone="plain.test")
Case("an MX that is not signed, and another key", [ee(of="next")], WAITS, zone="plain.test")
Case("an alias, records behind it", [ee()], verified="dane-ee", alias=("a1", "sec.test"), sni="host")
Case("an alias to what is not signed, records at it", [ee()], verified="dane-ee", alias=("a2", "sec.test"), mx_zone="plain.test",
     sni="alias")
Case("an alias that is not signed", [ee(of="next")], verified="no", alias=("a3", "plain.test"))
Case("a zone that is bogus", [ee()], "4.4.3", zone="bogus.test", reply="MX: SERVFAIL")
Case("a host in a zone that is bogus", [ee()], "4.4.3", mx_zone="bogus.test", reply="SERVFAIL")
Case("TLSA records that are bogus", [ee()], WAITS, mx_zone="half.test", reply="TLSA records of")
Case("TLSA records that are bogus, and another host", [ee()], verified="dane-ee", mx_zone="half.test", more="h1.sec.test")
Case("required", [ee()], verified="dane-ee", domain_options={"dane": "required"})
Case("required, and there are none", (), WAITS, domain_options={"dane": "required"}, reply="DANE is required")
Case("required, and none can be used", [("host", 1, 1, 1)], WAITS, domain_options={"dane": "required"})
Case("required, and nothing is signed", [ee()], WAITS, domain_options={"dane": "required"}, mx_zone="plain.test")
Case("dane: no", [ee(of="next")], verified="no", domain_options={"dane": "no"})
Case("tls: no", [ee(of="next")], domain_options={"tls": "no"})
Case("before tls_verify", [ee()], verified="dane-ee", domain_options={"tls_verify": "host"}, cert="expired")


def certificate(case, authority):
    host = {"elsewhere": "elsewhere.test", "domain": case.domain}.get(case.cert, case.host)
    return authority.issue("c%d" % case.number, host, expired=case.cert == "expired", chain=case.cert != "alone")


def record(of, pem, authorities, spare):
    if of[0] is None:
        return of[1]
    files = {"host": pem, "next": spare, "authority": authorities[0].pem, "other": authorities[1].pem}
    return tlsa(files[of[0]], *of[1:])


def set_up(rig, dns, case, authorities, spare):
    pem = certificate(case, authorities[0])
    rig.mx(case.host, 10 + case.number, *(["cert=" + pem] if case.offers else []))
    mx, owner = case.host, case.host
    dns.add(case.mx_zone, "%s A %s" % (case.label, rig.ip(10 + case.number)))
    if case.alias:
        mx = "%s.%s" % case.alias
        dns.add(case.alias[1], "%s CNAME %s." % (case.alias[0], case.host))
        owner = mx if case.sni == "alias" else owner
    dns.add(case.zone, "d%d MX 10 %s." % (case.number, mx))
    if case.more:
        dns.add(case.zone, "d%d MX 20 %s." % (case.number, case.more))
    for n, of in enumerate(case.tlsa_of):
        text = record(of, pem, authorities, spare)
        zone = next(z for z in sorted(dns.zones, key=len, reverse=True) if owner.endswith("." + z))
        dns.add(zone, "_%d._tcp.%s. TLSA %s" % (PORT, owner, text))
        if case.mx_zone == "half.test" and n == 0:
            dns.spoil("half.test", text[6:], "11" * 32)


def outcomes(rig):
    last = {}
    for e in rig.events("delivery", "deferral", "bounce", "expiration"):
        last.setdefault(e["recipient"], e)
    return last


def check_delivery(tap, rig, case, e):
    tls = e.get("tls", {})
    got = (e["event"], tls.get("verified"), tls.get("mx_secure"))
    unsigned = False if case.zone == "plain.test" and case.verified else None
    good = tap.equal(got, ("delivery", case.verified, unsigned), case.name)
    if good and case.sni:
        tap.equal(tls["sni"], case.host if case.sni == "host" else "%s.%s" % case.alias, case.name + ": SNI")
    if not good:
        print("# %s" % e)


def check_waiting(tap, rig, case, e):
    tap.ok((e["event"], e.get("enhanced")) == ("deferral", case.expect) and (case.reply or "") in e["reply"], case.name, e)
    tap.equal([m for m in rig.seen() if case.domain in m["recipients"][0]], [], case.name + ": nothing has gone out")


def operators(tap, rig):
    got = rig.bindpost_json("dns", "lookup", "_%d._tcp.h1.sec.test" % PORT, "TLSA")
    tap.ok(got["authentic"] and got["records"][0].startswith("3 1 1 "), "dns lookup shows TLSA records", got)
    stats = rig.bindpost_json("dns", "stats")
    tap.ok(stats["servers"][0]["trust_ad"], "the server is trusted for it", stats)
    tap.equal(rig.bindpost_json("config", "eval", "dane", "--binding", "acme")["value"], "ifavailable", "config eval: the built-in")
    got = rig.bindpost_json("config", "eval", "dane", "--binding", "acme", "--domain", CASES[38].domain)
    tap.equal(got["value"], "required", "config eval of a domain")
    check = rig.bindpost("check", check=False)
    tap.ok(check.returncode == 0 and "dane" in check.stdout + check.stderr, "check warns of tls no", check.stdout, check.stderr)


def again(tap, rig):
    """The second connection resumes, and is judged as the first."""
    wait_for("the connections to be closed", lambda: rig.bindpost_json("summary")["connections"] == 0)
    with smtplib.LMTP(rig.ip(24), 2424) as handoff:
        handoff.sendmail("a@acme.example", ["again@" + CASES[0].domain], message(900, "a@acme.example", "again@" + CASES[0].domain))
    wait_for("its event", lambda: "again@" + CASES[0].domain in outcomes(rig))
    e = outcomes(rig)["again@" + CASES[0].domain]
    tap.equal((e["event"], e.get("tls", {}).get("verified")), ("delivery", "dane-ee"), "a second connection")
    tap.ok(e["tls"]["resumed"], "resumed", e)


def body(tap, rig):
    dns = SignedDns(rig)
    authorities = [Authority(rig.path("certs"), name) for name in ("authority", "other")]
    spare = authorities[0].issue("spare", "spare.test")
    for case in CASES:
        set_up(rig, dns, case, authorities, spare)
    rig.zones = []
    dns.start()
    rig.start_mx()
    policy = standard_policy(rig, domains={c.domain: c.options for c in CASES if c.options})
    policy["global"]["retry_interval"] = "1h"
    rig.write_config(policy, delivery={"threads": 1})  # each thread has tickets of its own
    rig.start_deliveryd()
    with smtplib.LMTP(rig.ip(24), 2424) as handoff:
        for case in CASES:
            to = "x@" + case.domain
            handoff.sendmail("a@acme.example", [to], message(case.number, "a@acme.example", to))
    for case in CASES:
        wait_for("an event of %s (%s)" % (case.domain, case.name), lambda c=case: "x@" + c.domain in outcomes(rig), seconds=300)
    last = outcomes(rig)
    for case in CASES:
        (check_waiting if case.expect else check_delivery)(tap, rig, case, last["x@" + case.domain])
    again(tap, rig)
    operators(tap, rig)
    tap.equal(rig.stop("deliveryd"), 0, "deliveryd stops in good order")


run(body)
