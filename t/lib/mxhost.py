#!/usr/bin/env python3
"""mxhost - MX hosts on loopback that remember what they saw.

usage: mxhost.py --log FILE [--save DIR] [--control DIR] NAME=ADDR:PORT[,option...] ...

Each host accepts SMTP and writes one JSON line per event to FILE:
  {"host", "event": "connect"|"message"|"disconnect"|"refused", "peer", "ehlo", "sender", "recipients", "size",
   "sha256", "open", "peak", "file"}
`peer` is the source address the host saw, `open` the connections open at that moment from that source.

options of a host, separated by commas:
  lmtp            LMTP: LHLO, one reply per recipient after the data
  hold=MS         waits that long before the reply to the end of data
  rcpt=CODE TEXT  the reply to each RCPT           (also mail=, data=, dot=, banner=, ehlo=)
  times=N         the replies above hold for the first N commands of their kind, then all is well
  cert=FILE       offers STARTTLS with this certificate, its chain and its key, in one PEM file
  requiretls      offers REQUIRETLS, under TLS
  refuse          accepts connections and closes them at once
Control while it runs: the host re-reads options from DIR/NAME.opt (if --control DIR is given) at each connection.

Used by contrib/try and t/mta; what misbehaves on purpose in protocol detail is t/lib/scripted_mx.
"""
import argparse
import asyncio
import collections
import hashlib
import json
import os
import ssl
import sys
import time
import weakref


class Host:
    def __init__(self, spec, server):
        name, rest = spec.split("=", 1)
        parts = rest.split(",")
        self.name = name
        addr = parts[0]
        self.ip, port = addr.rsplit(":", 1)
        self.ip = self.ip.strip("[]")
        self.port = int(port)
        self.server = server
        self.base = parts[1:]
        self.open = collections.Counter()
        self.peak = collections.Counter()
        self.used = collections.Counter()
        self.options = self.parse(self.base)
        self.control_text = None
        self.contexts, self.named = {}, weakref.WeakKeyDictionary()

    def tls_context(self, pem):
        """One for all connections, so that they can be resumed"""
        if pem not in self.contexts:
            context = self.contexts[pem] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
            context.sni_callback = lambda tls, name, _: self.named.__setitem__(tls, name)
        return self.contexts[pem]

    @staticmethod
    def parse(words):
        options = {}
        for word in words:
            if word:
                key, _, value = word.partition("=")
                options[key] = value
        return options

    def refresh(self):
        if not self.server.control:
            return
        path = os.path.join(self.server.control, self.name + ".opt")
        try:
            with open(path, encoding="ascii") as f:
                text = f.read().strip()
        except FileNotFoundError:
            text = None
        if text != self.control_text:
            self.control_text = text
            self.used.clear()
            self.options = self.parse(self.base if text is None else text.split(","))

    def reply(self, kind, default):
        """The scripted reply for a command of this kind, or the good one."""
        text = self.options.get(kind)
        if text is None:
            return default
        self.used[kind] += 1
        if "times" in self.options and self.used[kind] > int(self.options["times"]):
            return default
        return text.encode()

    def log(self, event, peer, **more):
        row = {"time": round(time.time(), 6), "host": self.name, "event": event, "peer": peer,
               "open": self.open[peer], "peak": self.peak[peer]}
        row.update(more)
        self.server.write(row)

    async def serve(self, reader, writer):
        peer = writer.get_extra_info("peername")[0]
        self.refresh()
        if "refuse" in self.options:
            self.log("refused", peer)
            writer.close()
            return
        self.open[peer] += 1
        self.peak[peer] = max(self.peak[peer], self.open[peer])
        self.log("connect", peer)
        try:
            await Session(self, reader, writer, peer).run()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self.open[peer] -= 1
            self.log("disconnect", peer)
            writer.close()


class Session:
    def __init__(self, host, reader, writer, peer):
        self.host, self.reader, self.writer, self.peer = host, reader, writer, peer
        self.ehlo = self.sender = self.tls = self.sni = None
        self.params = ""
        self.rcpts = []

    async def say(self, line):
        self.writer.write(line + b"\r\n")
        await self.writer.drain()

    async def run(self):
        await self.say(self.host.reply("banner", b"220 %s ESMTP" % self.host.name.encode()))
        while True:
            line = await self.reader.readline()
            if not line:
                return
            if not line.endswith(b"\r\n"):
                await self.say(b"500 5.5.2 bare line feed")
                return
            verb = line[:4].upper()
            if verb == b"QUIT":
                await self.say(b"221 2.0.0 bye")
                return
            await self.command(verb, line[:-2])

    async def command(self, verb, line):
        if verb in (b"EHLO", b"LHLO", b"HELO"):
            self.ehlo = line[5:].decode("latin-1")
            self.sender, self.rcpts = None, []
            name = self.host.name.encode()
            good = b"250 " + name if verb == b"HELO" else self.offer(name)
            await self.say(self.host.reply("ehlo", good))
        elif verb == b"STAR" and "cert" in self.host.options and not self.tls:
            await self.starttls()
        elif verb == b"MAIL":
            reply = self.host.reply("mail", b"250 2.1.0 ok")
            if reply[:1] == b"2":
                self.sender, self.rcpts = self.path(line), []
                self.params = line[line.rindex(b">") + 1:].decode("latin-1").strip()
            await self.say(reply)
        elif verb == b"RCPT":
            reply = self.host.reply("rcpt", b"250 2.1.5 ok") if self.sender is not None else b"503 5.5.1 MAIL first"
            if reply[:1] == b"2":
                self.rcpts.append(self.path(line))
            await self.say(reply)
        elif verb == b"DATA":
            await self.data()
        elif verb == b"RSET":
            self.sender, self.rcpts = None, []
            await self.say(b"250 2.0.0 ok")
        elif verb == b"NOOP":
            await self.say(b"250 2.0.0 ok")
        else:
            await self.say(b"502 5.5.2 not known here")

    def offer(self, name):
        words = [name, b"PIPELINING", b"SIZE 104857600", b"ENHANCEDSTATUSCODES", b"8BITMIME"]
        if "cert" in self.host.options and not self.tls:
            words.append(b"STARTTLS")
        if "requiretls" in self.host.options and self.tls:
            words.append(b"REQUIRETLS")
        return b"\r\n".join([b"250-" + w for w in words[:-1]] + [b"250 " + words[-1]])

    async def starttls(self):
        await self.say(self.host.reply("starttls", b"220 2.0.0 go"))
        try:
            await self.writer.start_tls(self.host.tls_context(self.host.options["cert"]))
        except ssl.SSLError as e:
            raise ConnectionError(str(e)) from None
        tls = self.writer.get_extra_info("ssl_object")
        self.tls, self.sni = tls.version(), self.host.named.pop(tls, None)
        self.ehlo = self.sender = None

    @staticmethod
    def path(line):
        inner = line[line.index(b"<") + 1:] if b"<" in line else b""
        return inner[:inner.rindex(b">")].decode("utf-8", "replace") if b">" in inner else ""

    async def data(self):
        if not self.rcpts:
            await self.say(b"554 5.5.1 no valid recipients")
            return
        reply = self.host.reply("data", b"354 go ahead")
        await self.say(reply)
        if reply[:1] != b"3":
            return
        raw = bytearray()
        bare = False
        while True:
            line = await self.reader.readline()
            if not line:
                return
            bare = bare or not line.endswith(b"\r\n") or b"\r" in line[:-2]
            if line == b".\r\n":
                break
            raw += line[1:] if line[:1] == b"." else line
        if "hold" in self.host.options:
            await asyncio.sleep(int(self.host.options["hold"]) / 1000)
        reply = self.host.reply("dot", b"250 2.0.0 taken")
        if reply[:1] == b"2":
            digest = hashlib.sha256(raw).hexdigest()
            name = None
            if self.host.server.save:
                name = "%06d" % self.host.server.number()
                with open(os.path.join(self.host.server.save, name), "wb") as f:
                    f.write(raw)
            self.host.log("message", self.peer, ehlo=self.ehlo, sender=self.sender, recipients=self.rcpts,
                          size=len(raw), sha256=digest, bare=bare, file=name, tls=self.tls, sni=self.sni, params=self.params,
                          subject=self.header(raw, b"subject"), message_id=self.header(raw, b"message-id"),
                          x_binding=self.header(raw, b"x-binding"))
        for _ in self.rcpts if "lmtp" in self.host.options else [1]:
            await self.say(reply)
        self.sender, self.rcpts = None, []

    @staticmethod
    def header(raw, name):
        head = bytes(raw.split(b"\r\n\r\n", 1)[0])
        for line in head.split(b"\r\n"):
            if line.lower().startswith(name + b":"):
                return line.split(b":", 1)[1].strip().decode("utf-8", "replace")
        return None


class Server:
    def __init__(self, args):
        self.out = open(args.log, "a", encoding="utf-8", buffering=1)
        self.save, self.control = args.save, args.control
        self.hosts = [Host(spec, self) for spec in args.hosts]
        self.n = 0

    def number(self):
        self.n += 1
        return self.n

    def write(self, row):
        self.out.write(json.dumps(row) + "\n")

    async def run(self):
        for host in self.hosts:
            await asyncio.start_server(host.serve, host.ip, host.port, limit=1 << 22, backlog=1024)
        print("ready", flush=True)
        await asyncio.Event().wait()


def main():
    parser = argparse.ArgumentParser(description="MX hosts on loopback that remember what they saw")
    parser.add_argument("--log", required=True)
    parser.add_argument("--save")
    parser.add_argument("--control")
    parser.add_argument("hosts", nargs="+")
    try:
        asyncio.run(Server(parser.parse_args()).run())
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
