"""fake_resolver - a name server in the test's own process: good zones, and answers as bad as a test likes

Names in `addresses` have an A record, names in `exchanges` an MX; all else is NXDOMAIN. A name in `evil` is answered
by its function: evil[name] = f(query) -> a list of datagrams (none: silence); evil_tcp[name] = f(query) -> bytes to
write to the TCP connection before it is closed.
"""
import socket
import struct
import threading

A, CNAME, SOA, MX, AAAA = 1, 5, 6, 15, 28


def wire(name):
    return b"".join(bytes([len(x)]) + x.encode("ascii") for x in name.rstrip(".").split(".") if x) + b"\0"


def record(owner, kind, data, ttl=60, klass=1):
    """A resource record; owner a name or bytes as they are on the wire."""
    owner = wire(owner) if isinstance(owner, str) else owner
    return owner + struct.pack(">HHIH", kind, klass, ttl, len(data)) + data


class Query:
    def __init__(self, raw, peer=None):
        self.raw, self.peer = raw, peer
        self.id = struct.unpack(">H", raw[:2])[0]
        labels, at = [], 12
        while raw[at]:
            labels.append(raw[at + 1:at + 1 + raw[at]].decode("latin-1"))
            at += 1 + raw[at]
        self.name = ".".join(labels).lower()
        self.type = struct.unpack(">H", raw[at + 1:at + 3])[0]
        self.question = raw[12:at + 5]

    def answer(self, answers=(), rcode=0, flags=0x8180, authority=(), additional=(), question=None, ident=None,
               counts=None):
        """A reply: records already in wire form; counts overrides what the header says."""
        question = self.question if question is None else question
        counts = counts or (1 if question else 0, len(answers), len(authority), len(additional))
        head = struct.pack(">HHHHHH", self.id if ident is None else ident, flags | rcode, *counts)
        return head + question + b"".join(list(answers) + list(authority) + list(additional))


class FakeResolver:
    def __init__(self, where, addresses, exchanges):
        self.addresses, self.exchanges = dict(addresses), dict(exchanges)
        self.evil, self.evil_tcp, self.asked = {}, {}, []
        self.closing = False
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(where)
        self.tcp = socket.socket(socket.AF_INET)
        self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.tcp.bind(where)
        self.tcp.listen(64)
        self.threads = [threading.Thread(target=f, daemon=True) for f in (self.serve_udp, self.serve_tcp)]
        for t in self.threads:
            t.start()

    def good(self, q):
        soa = record(q.name.split(".")[-1], SOA, wire("ns.example") + wire("admin.example") + struct.pack(
            ">IIIII", 1, 3600, 600, 86400, 1), ttl=1)
        if q.type == MX and q.name in self.exchanges:
            return q.answer([record(q.name, MX, struct.pack(">H", 10) + wire(self.exchanges[q.name]))])
        if q.type == A and q.name in self.addresses:
            return q.answer([record(q.name, A, socket.inet_aton(self.addresses[q.name]))])
        known = q.name in self.exchanges or q.name in self.addresses
        return q.answer([], 0 if known else 3, authority=[soa])

    def find(self, table, name):
        """Its own function, or that of the longest parent that has one."""
        while name:
            if name in table:
                return table[name]
            name = name.partition(".")[2]
        return None

    def serve_udp(self):
        while not self.closing:
            try:
                raw, peer = self.udp.recvfrom(4096)
                if not raw:  # shut down
                    continue
                q = Query(raw, peer)
                self.asked.append((q.name, q.type))
                evil = self.find(self.evil, q.name)
                for datagram in evil(q) if evil else [self.good(q)]:
                    self.udp.sendto(datagram, peer)
            except OSError:
                if self.closing:
                    return

    def serve_tcp(self):
        while not self.closing:
            try:
                connection, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self.one_tcp, args=(connection,), daemon=True).start()

    def one_tcp(self, connection):
        with connection:
            connection.settimeout(5)
            try:
                raw = b""
                while len(raw) < 2 or len(raw) < 2 + struct.unpack(">H", raw[:2])[0]:
                    more = connection.recv(4096)
                    if not more:
                        return
                    raw += more
                q = Query(raw[2:])
                evil = self.find(self.evil_tcp, q.name)
                good = self.good(q)
                connection.sendall(evil(q) if evil else struct.pack(">H", len(good)) + good)
            except (OSError, IndexError, struct.error):
                pass

    def close(self):
        self.closing = True
        for s in (self.tcp, self.udp):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()
