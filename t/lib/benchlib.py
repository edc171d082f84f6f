"""benchlib - what the measurements in t/bench share: the load generator and its sink, CPU and memory of processes"""
import json
import os
import signal
import subprocess
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def build_load():
    out = os.path.join(tempfile.gettempdir(), "bindpost-mailload-%d" % os.getpid())
    subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-o", out, os.path.join(TOP, "t/bench/mailload.c"), "-lgnutls"], check=True)
    return out


def cpu_of(pids):
    """User and system seconds of processes so far."""
    total = 0
    for pid in pids:
        try:
            with open("/proc/%d/stat" % pid, encoding="ascii") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total / os.sysconf("SC_CLK_TCK")


def children_of(pid):
    pids = [pid]
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, encoding="ascii") as f:
                    if int(f.read().rsplit(")", 1)[1].split()[1]) == pid:
                        pids.append(int(name))
            except (FileNotFoundError, ProcessLookupError):
                pass
    return pids


def memory_of(pid, key):
    """VmRSS, or VmHWM, the most since peak_forget(); bytes"""
    with open("/proc/%d/status" % pid, encoding="ascii") as f:
        for line in f:
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    return 0


def peak_forget(pid):
    with open("/proc/%d/clear_refs" % pid, "w", encoding="ascii") as f:
        f.write("5")


class Sink:
    def __init__(self, load, where, *options):
        # it ends with us, however we end
        self.proc = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", load, "sink", "--listen", where, *options],
                                     stdout=subprocess.PIPE, text=True)
        if self.proc.stdout.readline() != "ready\n":
            raise OSError("the sink did not start: is its port in use?")

    def end(self, messages, seconds=60):
        """To be called when it has got all its mail: asks it what that was."""
        self.proc.send_signal(signal.SIGTERM)
        out = json.loads(self.proc.communicate(timeout=seconds)[0])
        if out["messages"] < messages:
            print("# only %d of %d messages arrived" % (out["messages"], messages), flush=True)
        return out


def control(rig, path):
    return subprocess.run(["curl", "-sf", "--unix-socket", rig.sock("control.sock"), "http://localhost" + path], check=True,
                          capture_output=True, text=True, timeout=30).stdout


def delivered(rig):
    for line in control(rig, "/metrics").splitlines():
        if line.startswith("bindpost_recipients_delivered_total"):
            return float(line.rsplit(" ", 1)[1])
    return 0


def generate(load, to, messages, size, *more):
    done = subprocess.run([load, "gen", "--to", to, "--messages", str(messages), "--size", str(size), *more], check=True,
                          capture_output=True, text=True, timeout=1800)
    return json.loads(done.stdout)
