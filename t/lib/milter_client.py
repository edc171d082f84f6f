"""milter_client - the MTA's side of the milter protocol, byte by byte

For what miltertest cannot show: reply codes, indexes of deleted headers, packets that are large, late or broken.
"""
import socket
import struct

ADDHDRS, CHGHDRS, SETSYMLIST = 0x1, 0x10, 0x100
ALL_ACTIONS = 0x1ff
ALL_STEPS = 0x1fffff
NOCONNECT, NOHELO, NOBODY, NR_HDR, SKIP = 0x1, 0x2, 0x10, 0x80, 0x400
NR_CONN, NR_HELO, NR_BODY, LEADSPC = 0x1000, 0x2000, 0x80000, 0x100000
FINAL = b"acdrty"


class Client:
    def __init__(self, path, version=6, actions=ALL_ACTIONS, steps=ALL_STEPS, negotiate=True):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(path)
        self.steps = self.actions = 0
        self.macros = {}
        if negotiate:
            self.negotiate(version, actions, steps)

    def negotiate(self, version, actions, steps):
        self.send(b"O", struct.pack(">III", version, actions, steps))
        command, data = self.read()
        assert command == b"O", command
        _, self.actions, self.steps = struct.unpack(">III", data[:12])
        data = data[12:]
        while data:
            (stage,) = struct.unpack(">I", data[:4])
            text, data = data[4:].split(b"\0", 1)
            self.macros[stage] = text.decode().split()

    def send(self, command, data=b""):
        self.socket.sendall(struct.pack(">I", len(data) + 1) + command + data)

    def read(self):
        size = struct.unpack(">I", self.bytes(4))[0]
        packet = self.bytes(size)
        return packet[:1], packet[1:]

    def bytes(self, n):
        out = b""
        while len(out) < n:
            more = self.socket.recv(n - len(out))
            if not more:
                raise EOFError("the milter has closed")
            out += more
        return out

    def macro(self, command, **values):
        data = command + b"".join(k.encode() + b"\0" + v.encode() + b"\0" for k, v in values.items())
        self.send(b"D", data)

    def connect(self, host="client.example", ip="192.0.2.200", port=1234):
        if self.steps & NOCONNECT:
            return None
        family = b"U" if ip is None else b"6" if ":" in ip else b"4"
        data = host.encode() + b"\0" + family
        if ip is not None:
            data += struct.pack(">H", port) + ip.encode() + b"\0"
        self.send(b"C", data)
        return None if self.steps & NR_CONN else self.read()

    def helo(self, name="client.example"):
        if self.steps & NOHELO:
            return None
        self.send(b"H", name.encode() + b"\0")
        return None if self.steps & NR_HELO else self.read()

    def mail(self, sender="<s@example.com>"):
        self.send(b"M", sender.encode() + b"\0")
        return self.read()

    def header(self, name, value):
        space = b" " if self.steps & LEADSPC else b""
        name, value = (x if isinstance(x, bytes) else x.encode() for x in (name, value))
        self.send(b"L", name + b"\0" + space + value + b"\0")
        return None if self.steps & NR_HDR else self.read()

    def body(self, data):
        if self.steps & NOBODY:
            return None
        self.send(b"B", data)
        return None if self.steps & NR_BODY else self.read()

    def end(self):
        """The changes asked for, in order, and the final reply."""
        self.send(b"E")
        changes = []
        while True:
            command, data = self.read()
            if command in FINAL:
                return changes, (command, data)
            if command == b"i":
                name, value = data[4:].split(b"\0")[:2]
                changes.append(("insert", struct.unpack(">I", data[:4])[0], name, value))
            elif command == b"m":
                name, value = data[4:].split(b"\0")[:2]
                changes.append(("change", struct.unpack(">I", data[:4])[0], name, value))
            else:
                changes.append((command, data))

    def message(self, headers=(("Subject", "test"),), body=b"text\r\n", sender="<s@example.com>"):
        reply = self.mail(sender)
        assert reply[0] == b"c", reply
        for name, value in headers:
            self.header(name, value)
        self.body(body)
        return self.end()

    def close(self):
        self.socket.close()
