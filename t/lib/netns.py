"""netns - a network of the test's own: empty but for lo, for this process and what it starts, gone with them; needs root"""
import ctypes
import os
import subprocess

CLONE_NEWNET = 0x40000000


def ip(*args):
    """The ip command (iproute2)."""
    subprocess.run(["ip", *args], check=True, capture_output=True, timeout=30)


def enter():
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "a network namespace of its own: %s (run as root)" % os.strerror(ctypes.get_errno()))
    ip("link", "set", "lo", "up")


def port_range(low, high):
    with open("/proc/sys/net/ipv4/ip_local_port_range", "w", encoding="ascii") as f:
        f.write("%d %d" % (low, high))
