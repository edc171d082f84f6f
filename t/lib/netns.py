"""netns - a network of the test's own: empty but for lo, for this process and what it starts, gone with them

As root who may do that, or else in a user namespace in which we may.
"""
import ctypes
import os
import subprocess

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000


def ip(*args):
    """The ip command (iproute2)."""
    subprocess.run(["ip", *args], check=True, capture_output=True, timeout=30)


def own_users(uid, gid):
    for name, text in (("setgroups", "deny"), ("uid_map", "0 %d 1" % uid), ("gid_map", "0 %d 1" % gid)):
        with open("/proc/self/" + name, "w", encoding="ascii") as f:
            f.write(text)


def enter():
    unshare = ctypes.CDLL(None, use_errno=True).unshare
    uid, gid = os.getuid(), os.getgid()
    if unshare(CLONE_NEWNET):
        if unshare(CLONE_NEWUSER | CLONE_NEWNET):
            error = ctypes.get_errno()
            raise OSError(error, "a network namespace of its own: %s (run as root)" % os.strerror(error))
        own_users(uid, gid)
    ip("link", "set", "lo", "up")


def port_range(low, high):
    with open("/proc/sys/net/ipv4/ip_local_port_range", "w", encoding="ascii") as f:
        f.write("%d %d" % (low, high))
