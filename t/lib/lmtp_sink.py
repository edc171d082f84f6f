"""lmtp_sink - takes what the MTA hands over, in place of deliveryd, and keeps it byte for byte"""
import os
import socket
import threading


class Delivery:
    def __init__(self, sender, recipients, xforward, data):
        self.sender, self.recipients, self.xforward, self.data = sender, recipients, xforward, data

    def header(self):
        return self.data.split(b"\r\n\r\n", 1)[0].decode("latin1") + "\r\n"

    def stamps(self):
        """Everything that could be read as a stamp, unfolded, in order."""
        found, lines = [], self.header().replace("\r\n ", " ").replace("\r\n\t", " ").split("\r\n")
        for line in lines:
            name, colon, value = line.partition(":")
            if colon and name.strip().lower() == "x-binding":
                found.append(" ".join(value.split()))
        return found


class Sink:
    def __init__(self, path):
        self.deliveries = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        os.chmod(path, 0o666)
        self.listener.listen(100)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection, connection.makefile("rb") as lines:
            def say(text):
                connection.sendall(text.encode() + b"\r\n")

            sender, recipients, xforward = None, [], ""
            say("220 sink LMTP")
            for line in lines:
                verb = line[:4].upper()
                if verb == b"LHLO":
                    say("250-sink\r\n250-XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\r\n250-8BITMIME\r\n250 PIPELINING")
                elif verb == b"DATA":
                    say("354 go on")
                    data = b"".join(self.text(lines))
                    self.deliveries.append(Delivery(sender, recipients, xforward, data))
                    for _ in recipients:
                        say("250 2.0.0 taken")
                    recipients = []
                elif verb == b"QUIT":
                    say("221 2.0.0 bye")
                    return
                else:
                    if verb == b"MAIL":
                        sender, recipients = line.decode("latin1").split(":", 1)[1].split()[0], []
                    elif verb == b"RCPT":
                        recipients.append(line.decode("latin1").split(":", 1)[1].split()[0])
                    elif verb == b"XFOR":
                        xforward = line.decode("latin1").strip()
                    say("250 2.0.0 ok")

    @staticmethod
    def text(lines):
        for line in lines:
            if line == b".\r\n":
                return
            yield line[1:] if line.startswith(b".") else line
