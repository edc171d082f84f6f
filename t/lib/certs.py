"""certs - an authority of the test's own, what it signs, and what TLSA records say of it (by openssl)"""
import hashlib
import os
import subprocess


def openssl(*args, data=None):
    return subprocess.run(["openssl", *args], check=True, capture_output=True, input=data, timeout=60).stdout


class Authority:
    def __init__(self, folder, name="authority"):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.key, self.pem = self.path(name + ".key"), self.path(name + ".pem")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650", "-subj",
                "/CN=" + name, "-keyout", self.key, "-out", self.pem, "-addext", "keyUsage=critical,keyCertSign")

    def path(self, name):
        return os.path.join(self.folder, name)

    def issue(self, name, host, expired=False, chain=True):
        """A PEM file with certificate, chain and key. NAME is the file's, HOST what the certificate is for."""
        key, request, ext, leaf = (self.path(name + end) for end in (".key", ".csr", ".ext", ".crt"))
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=" + host, "-keyout",
                key, "-out", request)
        with open(ext, "w", encoding="ascii") as f:
            f.write("subjectAltName=DNS:%s\nextendedKeyUsage=serverAuth\n" % host)
        openssl("x509", "-req", "-in", request, "-CA", self.pem, "-CAkey", self.key, "-CAcreateserial", "-extfile", ext,
                "-out", leaf, "-days", "-1" if expired else "30")
        whole = self.path(name + ".pem")
        with open(whole, "wb") as f:
            for part in [leaf] + ([self.pem] if chain else []) + [key]:
                with open(part, "rb") as g:
                    f.write(g.read())
        return whole


def der(pem):
    return openssl("x509", "-in", pem, "-outform", "DER")


def key_der(pem):
    return openssl("pkey", "-pubin", "-outform", "DER", data=openssl("x509", "-in", pem, "-pubkey", "-noout"))


def tlsa(pem, usage, selector, matching):
    """'3 1 1 ...' for the first certificate of a PEM file"""
    what = key_der(pem) if selector else der(pem)
    digest = {0: what, 1: hashlib.sha256(what).digest(), 2: hashlib.sha512(what).digest()}[matching]
    return "%d %d %d %s" % (usage, selector, matching, digest.hex())
