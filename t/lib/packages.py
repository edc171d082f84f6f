"""packages - private copies of Debian packages that are not installed, since they would replace this machine's MTA

They are downloaded and unpacked once into a cache folder ($BINDPOST_CACHE, else /var/tmp/bindpost-test-packages), which
any number of tests may ask for at the same time.
"""
import contextlib
import fcntl
import glob
import os
import shutil
import stat
import subprocess
import tempfile


class RigError(Exception):
    """Setting up failed; the text says what and where to look."""


def cache_folder():
    """Ours alone: what lies in it is run as root."""
    folder = os.environ.get("BINDPOST_CACHE", "/var/tmp/bindpost-test-packages")
    os.makedirs(folder, mode=0o755, exist_ok=True)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise RigError("%s belongs to somebody else or others may write to it: set BINDPOST_CACHE" % folder)
    return folder


@contextlib.contextmanager
def locked(path):
    with open(path, "w", encoding="ascii") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def download(names, folder):
    # apt downloads as its own user unless the folder is not writable for it: then it says so, and does it anyway
    argv = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3", "download", *names]
    done = subprocess.run(argv, cwd=folder, text=True, capture_output=True, timeout=600, check=False)
    if done.returncode:  # lists older than the archive name files that are gone; a bare machine has none
        subprocess.run(["apt-get", "-qq", "update"], capture_output=True, timeout=600, check=False)
        done = subprocess.run(argv, cwd=folder, text=True, capture_output=True, timeout=600, check=False)
    if done.returncode:
        raise RigError("%s: %s" % (" ".join(argv), done.stderr.strip()))


def unpack(name, packages, finish=None):
    """The packages unpacked over each other; finish(folder) may change what needs it. Returns the folder."""
    cache = cache_folder()
    root = os.path.join(cache, name)
    with locked(os.path.join(cache, name + ".lock")):
        if os.path.exists(os.path.join(root, "complete")):
            return root
        shutil.rmtree(root, ignore_errors=True)
        new = tempfile.mkdtemp(prefix=name + ".", dir=cache)
        try:
            os.chmod(new, 0o755)
            download(packages, new)
            for deb in glob.glob(new + "/*.deb"):
                subprocess.run(["dpkg-deb", "-x", deb, new], check=True)
            os.rename(new, root)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        if finish:
            finish(root)
        with open(os.path.join(root, "complete"), "w", encoding="ascii"):
            pass
    return root
