#!/usr/bin/env python3
"""unix_http.py SOCKET METHOD PATH STATUS: one request over a Unix socket; exit 0 if the answer has that status"""
import http.client
import socket
import sys


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self.path)


def main():
    connection = Connection(sys.argv[1])
    connection.request(sys.argv[2], sys.argv[3], headers={"Content-Length": "0"} if sys.argv[2] == "POST" else {})
    answer = connection.getresponse()
    body = answer.read().decode()
    if answer.status != int(sys.argv[4]):
        print(answer.status, body)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
