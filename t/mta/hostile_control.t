#!/usr/bin/env python3
"""Hostile clients of the control socket, the observing one and /metrics: the daemon answers on, and delivers."""
import json
import os
import random
import re
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from hostile import PATIENCE, dotted, hostile, received, short, standard_policy, wait_for  # noqa: E402

END = "\r\n\r\n"
PATHS = ["/v1/top", "/v1/summary", "/v1/queues", "/v1/bindings", "/v1/messages", "/v1/connections", "/v1/status", "/metrics"]


def connect(h, which="control"):
    if which == "metrics":
        return socket.create_connection((h.rig.ip(24), 9125), timeout=PATIENCE)
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(PATIENCE)
    s.connect(h.rig.sock(which + ".sock"))
    return s


def read_all(s):
    """What comes until the other side closes, or nothing more comes for a moment."""
    raw = b""
    try:
        while True:
            more = s.recv(65536)
            if not more:
                break
            raw += more
            if complete(raw):
                break
    except OSError:
        pass
    return raw


def complete(raw):
    head, blank, body = raw.partition(b"\r\n\r\n")
    found = re.search(rb"(?i)content-length: (\d+)", head)
    return blank and found and len(body) >= int(found.group(1))


def ask(h, raw, which="control"):
    """The status of the first answer to these bytes (None: closed without one) and its body."""
    with connect(h, which) as s:
        try:
            s.sendall(raw if isinstance(raw, bytes) else raw.encode("latin-1"))
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        raw = read_all(s)
    found = re.match(rb"HTTP/1\.[01] (\d\d\d) ", raw)
    return (int(found.group(1)) if found else None), raw.partition(b"\r\n\r\n")[2]


def get(h, path, which="control", method="GET"):
    return ask(h, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: 0%s" % (method, path, END), which)


def answers(tap, h):
    """What the socket promises: JSON, 400 and 404 and 405 that say why."""
    for path in PATHS:
        status, text = get(h, path)
        good = status == 200 and (path == "/metrics" or isinstance(json.loads(text), dict))
        tap.ok(good, "GET %s" % path, status, text[:200])
    for path in ("/v1/queues", "/v1/bindings", "/v1/messages", "/v1/connections"):
        rows = json.loads(get(h, path)[1])
        tap.ok(isinstance(rows["items"], list) and "next" in rows, path + " is a list with items and next", rows)
    bad = [("/", 404), ("", 400), ("/v1", 404), ("/v1/", 404), ("/v1/nothing", 404), ("/v1/summary/", 404), ("/v1/summary/x", 404), ("//v1/summary", 404),
           ("/v1/../v1/summary", 404), ("/V1/SUMMARY", 404), ("/metrics/", 404), ("/v1/messages/", 404), ("/v1/messages/zzz", 400),
           ("/v1/messages/0000000000000000", 404), ("/v1/messages/ffffffffffffffff", 404), ("/v1/messages/" + "f" * 17, 400), ("/v1/messages/" + "f" * 15, 400),
           ("/v1/messages/%00", 400), ("/v1/messages/" + "f" * 16 + "/body", 404), ("/v1/messages/" + "f" * 16 + "/raw?x=1", 400), ("/v1/messages/" + "f" * 16 + "/../body", 404),
           ("/v1/messages/" + "f" * 17 + "/body", 400), ("/v1/messages/body/" + "f" * 16, 400), ("/v1/messages/" + "f" * 16 + "/body%00", 404), ("/v1/messages/" + "f" * 16 + "/" + "x" * 4000, 404), ("/v1/messages/../summary", 400), ("/v1/messages/-000000000000001", 400), ("/v1/summary%00", 404),
           ("/v1/messages?cursor=x", 400), ("/v1/messages?cursor=-1", 400), ("/v1/messages?cursor=", 400), ("/v1/messages?cursor=0x1", 400),
           ("/v1/messages?cursor=1;2", 400), ("/v1/messages?cursor=%001", 400), ("/v1/messages?cursor=99999999999999999999999", 400), ("/v1/messages?limit=0", 400),
           ("/v1/messages?limit=-1", 400), ("/v1/messages?limit=x", 400), ("/v1/messages?limit=1.5", 400), ("/v1/messages?limit=%31x", 400),
           ("/v1/messages?limit=99999999999999999999999", 400), ("/v1/messages?nonsense=1", 400), ("/v1/messages?Limit=1", 400),
           ("/v1/messages?binding=" + "x" * 5000, 400), ("/v1/messages?domain=" + "x" * 5000, 400), ("/v1/messages?cursor=1&cursor=x", 400), ("/v1/messages?=", 400),
           ("/v1/top?limit=0", 400), ("/v1/top?nonsense=1", 400), ("/v1/top/", 404), ("/v1/messages?cursor", 400), ("/v1/messages?&&&", 400), ("/v1/queues?limit=" + "9" * 100, 400)]
    for path, want in bad:
        status, text = get(h, path)
        # a target that is no path at all may also be closed upon
        good = status == want or (path == "" and status in (400, None))
        tap.ok(good and (status is None or path == "" or "error" in json.loads(text)), "GET %.60s: %d" % (path, want), status, text[:200])
    for path in ("/v1/messages?limit=1", "/v1/messages?limit=500", "/v1/messages?limit=100000", "/v1/messages?cursor=0", "/v1/messages?cursor=18446744073709551615",
                 "/v1/queues?cursor=4294967296", "/v1/queues?cursor=4294967295&limit=1", "/v1/bindings?cursor=99999", "/v1/connections?cursor=12345678901",
                 "/v1/messages?binding=acme&domain=d0.example", "/v1/messages?binding=nobody", "/v1/messages?domain=", "/v1/messages?binding=%ff%fe%22%00x",
                 "/v1/queues?domain=%22%5c%0a", "/v1/top?binding=nobody&domain=x&limit=1", "/v1/top?cursor=99", "/v1/messages?"):
        status, text = get(h, path)
        tap.ok(status in (200, 400) and isinstance(json.loads(text), dict), "GET %s is answered" % path, status, text[:200])
    for method in ("POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PATCH", "get", "FOO", "G" * 1000):
        status, _ = get(h, "/v1/summary", method=method)
        tap.ok(status in (400, 405, 501), "%.20s /v1/summary is refused" % method, status)
    for method in ("GET", "PUT", "DELETE"):
        status, _ = get(h, "/v1/reload", method=method)
        tap.ok(status in (405, 501), method + " /v1/reload is refused", status)
    before = len(h.rig.events("reload"))
    for path in ("/v1/reload?step=nonsense", "/v1/reload?step="):
        tap.equal(get(h, path, method="POST")[0], 409, "POST %s is refused" % path)
    for path in ("/v1/reload?force=maybe", "/v1/reload?nonsense=1", "/v1/reload?step=check&step=all"):
        status, text = get(h, path, method="POST")
        tap.equal(status, 400, "POST %s is refused" % path)
    tap.equal(len(h.rig.events("reload")), before, "and none of them reloads")
    tap.equal(get(h, "/v1/reload", "observe", "POST")[0], 403, "the observing socket does not reload")
    tap.equal(get(h, "/v1/summary", "observe")[0], 200, "but it shows")
    tap.equal([get(h, p, "metrics")[0] for p in ("/metrics", "/v1/summary", "/v1/messages", "/")], [200, 404, 404, 404], "/metrics shows nothing else")
    tap.ok(get(h, "/v1/reload", "metrics", "POST")[0] in (403, 404, 405), "nor does anything")
    h.check_up("answers")


BAD_SELECTORS = ["", "all=0", "all=2", "all=", "all", "all=yes", "all=1&all=1", "nonsense=1", "ALL=1", "id=zzz", "id=", "id=" + "f" * 17, "id=%00", "older_than=x", "older_than=0", "older_than=-1",
                 "older_than=99999999999d", "older_than=1d&older_than=2d", "domain=", "domain=a%20b", "domain=a..b", "domain=" + "x" * 300, "domain=%00", "sender=@", "sender=@a%20b", "header=", "header=:x", "header=a%20b:c",
                 "header=%0d%0ax:y", "binding=", "binding=a%20b", "binding=group:", "binding=" + "x" * 65, "binding=%ff", "text=x&all=1", "cursor=1&all=1", "=&all=1", "&".join("id=%016x" % i for i in range(4200)),
                 "&".join("domain=d%d.example" % i for i in range(4200))]
BAD_CHANGES = [("delay", "all=1"), ("delay", "all=1&for=0"), ("delay", "all=1&for=x"), ("delay", "all=1&for=400d"), ("delay", "all=1&for=1h&for=2h"), ("delay", "for=1h"), ("fail", "all=1&code=250"), ("fail", "all=1&code=450"),
               ("fail", "all=1&code=560"), ("fail", "all=1&code=5x0"), ("fail", "all=1&code=55"), ("fail", "all=1&code=5500"), ("fail", "all=1&code="), ("fail", "all=1&enhanced=4.0.0"), ("fail", "all=1&enhanced=5.1"),
               ("fail", "all=1&enhanced=5.1.1.1"), ("fail", "all=1&enhanced=5.9999.1"), ("fail", "all=1&enhanced=5.1.1%0a"), ("fail", "all=1&text="), ("fail", "all=1&text=a%0d%0aSubject:%20x"), ("fail", "all=1&text=%c3%a9"),
               ("fail", "all=1&text=%1b[2J"), ("fail", "all=1&text=" + "x" * 401), ("fail", "all=1&no_dsn=maybe"), ("rebind", "all=1"), ("rebind", "all=1&to="), ("rebind", "all=1&to=a%20b"), ("rebind", "all=1&to=bravo&to=acme"),
               ("rebind", "to=bravo"), ("suspend", ""), ("suspend", "all=1"), ("suspend", "binding=acme&binding=bravo"), ("suspend", "binding=acme&domain=a.example&domain=b.example"), ("suspend", "binding=acme&for=0"),
               ("suspend", "binding=acme&id=0000000000000001"), ("suspend", "binding="), ("resume", ""), ("resume", "binding=acme&for=1h"), ("resume", "binding=acme%00b"), ("flush", "domain=d0.example%00.x"), ("delete", "all=1%00")]
BAD_DNS = [("GET", "lookup", ""), ("GET", "lookup", "name=x"), ("GET", "lookup", "type=MX"), ("GET", "lookup", "name=&type=MX"), ("GET", "lookup", "name=x&type=ANY"), ("GET", "lookup", "name=x&type=mxx"),
           ("GET", "lookup", "name=a%20b&type=MX"), ("GET", "lookup", "name=%0a&type=MX"), ("GET", "lookup", "name=" + "x" * 5000 + "&type=MX"), ("GET", "lookup", "name=x&name=y&type=MX"), ("GET", "stats", "name=x"),
           ("POST", "refresh", ""), ("POST", "refresh", "name=x&type=MX"), ("POST", "refresh", "name=%ff")]


def changes(tap, h):
    """What changes mail: nothing happens unless all of the request is understood."""
    h.rig.mx_option("mx0.example", "mail=451 4.3.0 not now")
    name = h.name("d0.example")
    with h.client(h.unix) as c:
        c.mail("a@b.example", name)
        tap.equal([short(r) for r in c.data(dotted(received(name)))], ["250 2.0.0"], "a message that waits")
    rows = wait_for("it", lambda: json.loads(get(h, "/v1/messages")[1])["items"])
    for kind in ("flush", "delay", "hold", "release", "fail", "delete", "rebind"):
        more = {"delay": "&for=1h", "rebind": "&to=bravo"}.get(kind, "")
        wrong = []
        for text in BAD_SELECTORS:
            if kind == "fail" and text.startswith("text="):
                continue
            for query in (True, False):  # in the query, and in a body as of a form
                raw = text + more if text else more[1:]
                if query and len(raw) > 9000:
                    continue
                body = "" if query else raw
                status, said = ask(h, "POST /v1/%s%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d%s%s" % (
                    kind, "?" + raw if query and raw else "", len(body), END, body))
                # a body that is too long for the socket is refused as such
                if status not in ((400, 413, None) if len(body) > 65536 else (400,)):
                    wrong.append((raw[:60], query, status, said[:100]))
        tap.equal(wrong[:5], [], "%s: %d selections that are none" % (kind, len(BAD_SELECTORS)))
        tap.equal(get(h, "/v1/%s?all=1%s" % (kind, more))[0], 405, kind + " by GET is refused")
        tap.equal(get(h, "/v1/%s?all=1%s" % (kind, more), "observe", "POST")[0], 403, kind + " on the observing socket is refused")
        tap.equal(get(h, "/v1/%s?id=00000000000000ff%s" % (kind, more), method="POST")[0] in (200, 404), True, kind + " of a message that is not there")
    for kind, text in BAD_CHANGES:
        status, said = get(h, "/v1/%s?%s" % (kind, text), method="POST")
        tap.ok(status == 400 and "error" in json.loads(said), "%s %.50s is refused" % (kind, text), status, said[:100])
    for kind, text in (("rebind", "all=1&to=nobody"), ("suspend", "binding=nobody"), ("rebind", "all=1&to=group:nobody")):
        status, said = get(h, "/v1/%s?%s" % (kind, text), method="POST")
        tap.ok(status in (404, 409), "%s %s: there is none" % (kind, text), status, said[:100])
    for method, kind, text in BAD_DNS:
        status, said = get(h, "/v1/dns/%s?%s" % (kind, text), method=method)
        tap.ok(status == 400, "dns %s %.50s is refused" % (kind, text), status, said[:100])
    now = json.loads(get(h, "/v1/messages")[1])["items"]
    tap.equal([(r["id"], r["binding"], r.get("held", False)) for r in now], [(r["id"], r["binding"], r.get("held", False)) for r in rows], "the message is as it was")
    # names that take long to look up, and clients that do not wait for it
    h.dns.evil["silent.bad"] = lambda q: []
    clients = [connect(h) for _ in range(40)]
    for i, s in enumerate(clients):
        s.sendall(("GET /v1/dns/lookup?name=n%d.silent.bad&type=MX HTTP/1.1\r\nHost: x\r\n\r\n" % (i % 7)).encode())
    for s in clients[::2]:
        s.close()
    tap.equal(get(h, "/v1/dns/stats")[0], 200, "beside look-ups under way it answers")
    for s in clients:
        s.close()
    h.rig.mx_option("mx0.example", None)
    get(h, "/v1/flush?all=1", method="POST")
    h.arrived(name)
    h.check_up("changes")


GARBAGE = ["", "\r\n", "\r\n" * 5000, "\n\n\n", "GET", "GET ", "GET /v1/summary", "GET /v1/summary HTTP/1.1", "GET /v1/summary HTTP/1.1\r\n",
           "GET /v1/summary HTTP/1.1\r\nHost", "GET /v1/summary HTTP/9.9" + END, "GET /v1/summary HTTP/x" + END, "GET /v1/summary HTTP/1.1 x" + END,
           "GET  /v1/summary  HTTP/1.1" + END, "GET /v1/summary\0 HTTP/1.1" + END, "GET \0 HTTP/1.1" + END, "\0" * 10000, "\xff" * 10000,
           "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "EHLO x\r\nMAIL FROM:<>\r\n", "GET http://[::1/v1/summary HTTP/1.1" + END,
           "GET http://x/v1/summary HTTP/1.1" + END, "GET * HTTP/1.1" + END, "OPTIONS * HTTP/1.1" + END, "GET /%zz HTTP/1.1" + END, "GET /v1/summary?%zz HTTP/1.1" + END,
           "GET /" + "x" * 100000 + " HTTP/1.1" + END, "GET /v1/summary HTTP/1.1\r\nX: " + "y" * 100000 + END, "GET /v1/summary HTTP/1.1\r\n" + "X: y\r\n" * 20000 + END,
           "GET /v1/summary HTTP/1.1\r\n" + "x" * 100000, "GET /v1/summary HTTP/1.1\r\nno colon here" + END, "GET /v1/summary HTTP/1.1\r\n: x" + END,
           "GET /v1/summary HTTP/1.1\r\n folded" + END, "GET /v1/summary HTTP/1.1\r\nX: a\r\n b\r\n\tc" + END, "GET /v1/summary HTTP/1.1\r\nX\0Y: a" + END,
           "GET /v1/summary HTTP/1.1\r\nContent-Length: -1" + END, "GET /v1/summary HTTP/1.1\r\nContent-Length: x" + END, "GET /v1/summary HTTP/1.1\r\nContent-Length: 18446744073709551616" + END,
           "POST /v1/reload HTTP/1.1\r\nContent-Length: -1" + END, "POST /v1/reload HTTP/1.1\r\nContent-Length: 99999999999" + END,
           "POST /v1/reload HTTP/1.1\r\nContent-Length: 100000" + END + "x" * 100000, "POST /v1/summary HTTP/1.1\r\nContent-Length: 70000" + END + "x" * 70000,
           "POST /v1/reload HTTP/1.1\r\nTransfer-Encoding: chunked" + END + "zz\r\n", "POST /v1/reload HTTP/1.1\r\nTransfer-Encoding: chunked" + END + "ffffffffffffffff\r\nx",
           "POST /v1/reload HTTP/1.1\r\nTransfer-Encoding: chunked" + END + "-1\r\nx\r\n0\r\n\r\n", "POST /v1/reload HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5" + END + "0\r\n\r\n",
           "POST /v1/reload HTTP/1.1\r\nTransfer-Encoding: chunked" + END + "7fffffff\r\n" + "y" * 200000, "POST /v1/summary HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 10" + END,
           "POST /v1/summary HTTP/1.1\r\nExpect: nonsense\r\nContent-Length: 99999999" + END, "GET /v1/summary HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c" + END,
           "PRI * HTTP/2.0" + END + "SM" + END, "GET /v1/summary HTTP/0.9" + END, "GET /v1/summary HTTP/1.0" + END, "GET /v1/summary HTTP/-1.-1" + END, "GET /v1/summary HTTP/1.99999999999" + END]


def garbage(tap, h):
    for which in ("control", "observe", "metrics"):
        for raw in GARBAGE:
            status, _ = ask(h, raw, which)
            good = status is None or 100 <= status < 600
            if which == "control" or not good:
                tap.ok(good, "%s: %.70r: %s" % (which, raw, status))
    tap.equal(get(h, "/v1/summary")[0], 200, "it still answers")
    h.check_up("garbage")
    dice = random.Random(int(os.environ.get("SEED", "1")))
    good = b"GET /v1/messages?binding=acme&limit=3 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    for _ in range(300):  # one request with some bytes changed, cut or doubled
        raw = bytearray(good)
        for _ in range(dice.randrange(1, 6)):
            at = dice.randrange(len(raw))
            what = dice.randrange(3)
            if what == 0:
                raw[at] = dice.randrange(256)
            elif what == 1:
                del raw[at]
            else:
                raw[at:at] = raw[at:at + dice.randrange(20)]
        ask(h, bytes(raw), dice.choice(("control", "observe", "metrics")))
    tap.equal(get(h, "/v1/summary")[0], 200, "and after 300 requests with wrong bytes")
    h.check_up("wrong bytes")


def manners(tap, h):
    """Clients that idle, stall, pipeline or go in the middle of everything."""
    idle = [connect(h, ("control", "observe", "metrics")[i % 3]) for i in range(200)]
    for i, s in enumerate(idle):
        s.sendall((b"", b"GET /v1/summ", b"GET /v1/messages HTTP/1.1\r\nHost: x\r\n", b"POST /v1/reload HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc")[i % 4])
    tap.equal(get(h, "/v1/summary")[0], 200, "beside 200 idle connections it answers")
    tap.equal(h.rig.bindpost("summary", check=False).returncode, 0, "and so does the command")
    h.check_up("200 idle control connections")
    for s in idle:
        s.close()
    request = b"GET /v1/queues HTTP/1.1\r\nHost: x\r\n\r\n"
    with connect(h) as s:
        s.sendall(request * 20)
        s.settimeout(10)
        raw = b""
        try:
            while raw.count(b"HTTP/1.1 200") < 20:
                more = s.recv(65536)
                if not more:
                    break
                raw += more
        except socket.timeout:
            pass
        tap.equal(raw.count(b"HTTP/1.1 200"), 20, "20 requests in one packet get 20 answers")
    with connect(h) as s:
        for i in range(len(request)):
            s.sendall(request[i:i + 1])
        tap.ok(read_all(s).startswith(b"HTTP/1.1 200"), "byte by byte")
    # mail that waits, so that answers have some size: its MX host does not take it
    h.rig.mx_option("mx1.example", "mail=451 4.3.0 not now")
    for i in range(40):
        with h.client(h.unix) as c:
            names = ["w%d_%d_%s@d1.example" % (i, j, "x" * 40) for j in range(20)]
            c.mail("a@b.example", *names)
            c.data(dotted(received(names[0])), 20)
    wait_for("them to be there", lambda: len(json.loads(get(h, "/v1/messages")[1])["items"]) >= 40)
    for i in range(200):  # gone right after asking, or in the middle of the answer
        s = connect(h, ("control", "observe")[i % 2])
        s.sendall(request.replace(b"queues", b"messages") * (1 + i % 3))
        if i % 4 == 1:
            s.recv(100)
        if i % 4 == 2:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        if i % 4 == 3:
            s.shutdown(socket.SHUT_RD)
        s.close()
    slow = [connect(h) for _ in range(20)]
    for s in slow:  # reads nothing of thousands of answers
        s.setblocking(False)
        try:
            while True:
                s.send(request.replace(b"queues", b"messages") * 100)
        except BlockingIOError:
            pass
    tap.equal(get(h, "/v1/summary")[0], 200, "beside clients that ask for thousands of answers and read none it answers")
    h.check_up("rude control clients")
    for s in slow:
        s.close()
    pages, cursor, seen = 0, None, []
    while pages < 100:
        rows = json.loads(get(h, "/v1/messages?limit=7" + ("&cursor=%s" % cursor if cursor is not None else ""))[1])
        seen += [r["id"] for r in rows["items"]]
        pages, cursor = pages + 1, rows["next"]
        tap.ok(len(rows["items"]) <= 7, "a page of at most 7") if len(rows["items"]) > 7 else None
        if cursor is None:
            break
    tap.equal((len(seen), len(set(seen))), (40, 40), "pages of 7 show each of the 40 messages once (%d pages)" % pages)
    raw_bytes(tap, h)
    one = json.loads(get(h, "/v1/messages/" + seen[0])[1])
    tap.equal(one.get("id"), seen[0], "and each by its id")
    h.rig.mx_option("mx1.example", None)
    wait_for("them to leave", lambda: json.loads(get(h, "/v1/messages")[1])["items"] == [], 30)
    tap.ok(True, "all of it leaves when the host takes it")
    h.check_up("all of that")


def raw_bytes(tap, h):
    """Clients that ask for a large message and take none of it, or go; as many as may be, and one more."""
    name = h.name("d1.example")
    text = received(name, body="y" * 70 + "\r\n") + (b"z" * 78 + b"\r\n") * 40000
    with h.client(h.unix) as c:
        c.mail("a@b.example", name)
        tap.equal([short(r) for r in c.data(dotted(text))], ["250 2.0.0"], "a large message that waits")
    mine = wait_for("it", lambda: [r["id"] for r in json.loads(get(h, "/v1/messages")[1])["items"] if r["size"] > 3000000])[0]
    request = ("GET /v1/messages/%s/raw HTTP/1.1\r\nHost: x\r\n\r\n" % mine).encode()
    greedy = [connect(h, ("control", "observe")[i % 2]) for i in range(60)]
    for s in greedy:
        s.sendall(request)
    tap.equal(get(h, "/v1/summary")[0], 200, "beside 60 clients that take nothing of a large message it answers")
    wait_for("a refusal", lambda: get(h, "/v1/messages/%s/body" % mine)[0] == 503)
    tap.ok(True, "past so many that are under way the next is told to come back")
    for i, s in enumerate(greedy):
        if i % 3 == 0:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        s.close()
    wait_for("their end", lambda: get(h, "/v1/messages/%s/headers" % mine)[0] == 200)
    for _ in range(20):
        with connect(h) as s:
            s.sendall(request)
            s.recv(100)
    status, whole = wait_for("room", lambda: (lambda got: got if got[0] == 200 else None)(ask(h, request)))
    tap.ok(status == 200 and whole.endswith(text), "and who takes it gets it whole", status, len(whole))
    status, _ = get(h, "/v1/delete?id=" + mine, method="POST")
    tap.equal(status, 200, "it is deleted")
    for path in ("/body", "/headers", "/raw"):
        wait_for("it to be gone", lambda: get(h, "/v1/messages/" + mine + path)[0] == 404)
    h.check_up("raw bytes")


BAD_TRACES = ["?binding=a%20b", "?binding=", "?binding=" + "x" * 65, "?domain=a..b", "?domain=", "?domain=%0a", "?nonsense=1", "?binding=acme&binding=acme", "?binding=acme%00", "?for=1", "/", "/x"]


def traces(tap, h):
    """Those who look at the dialogue: wrong requests, too many, who go, who take nothing while mail flows."""
    for text in BAD_TRACES:
        status, said = get(h, "/v1/trace" + text)
        tap.ok(status in (400, 404) and "error" in json.loads(said), "GET /v1/trace%.30s is refused" % text, status, said[:100])
    tap.equal(get(h, "/v1/trace", method="POST")[0], 405, "POST of it too")
    tap.equal(get(h, "/v1/trace", "metrics")[0], 404, "/metrics has none")
    request = b"GET /v1/trace HTTP/1.1\r\nHost: x\r\n\r\n"
    many = [connect(h, ("control", "observe")[i % 2]) for i in range(40)]
    for s in many:
        s.sendall(request)
    wait_for("a refusal", lambda: get(h, "/v1/trace?binding=acme")[0] == 503)
    tap.ok(True, "past so many the next is told to come back")
    for i, s in enumerate(many):
        if i % 2:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        s.close()

    def begun():
        s = connect(h)
        s.sendall(request)
        first = b""
        while b"\r\n\r\n" not in first:
            more = s.recv(4096)
            if not more:
                break
            first += more
        if first.startswith(b"HTTP/1.1 200"):
            return s
        s.close()
        return None

    slow = wait_for("room, now that they have gone", begun)
    names = [h.name("d0.example") for _ in range(60)]
    with h.client(h.unix) as c:
        c.say("LHLO x")
        for name in names:  # each with 100 recipients, so that a slow reader loses lines
            tap_said = c.mail("news@acme.example", name, *["x%d.%s" % (i, name) for i in range(99)], hello=None)
            assert tap_said[0] == "2", tap_said
            c.data(dotted(received(name)), 100)
    for name in names:
        h.arrived(name)
    tap.ok(True, "mail flows past who traces and takes nothing")
    tap.equal(get(h, "/v1/summary")[0], 200, "and the socket answers")
    raw = b""
    slow.settimeout(PATIENCE)
    while not re.search(rb'"dropped":\d+.*\}\r?\n', raw):
        more = slow.recv(65536)
        if not more:
            break
        raw += more
    lines = [json.loads(line) for line in raw.splitlines() if line.startswith(b'{"time"') and line.endswith(b"}")]
    tap.ok(any(r.get("dropped", 0) > 0 for r in lines) and len(lines) > 100, "when it reads it gets the first lines, and how many were dropped", len(lines), raw[-300:])
    slow.shutdown(socket.SHUT_WR)
    slow.close()
    h.check_up("traces")


def body(tap, h):
    began = time.monotonic()
    for group in (answers, changes, garbage, manners, traces):
        group(tap, h)
        if os.environ.get("TIMES"):
            print("# %s: %.1f s" % (group.__name__, time.monotonic() - began))


def policy(rig):
    return standard_policy(rig, **{"global": {"max_retry_interval": "2s"}})


hostile(body, policy=policy, process=lambda rig: {"control": {"observe": "unix:%s?mode=0600" % rig.sock("observe.sock")}})
