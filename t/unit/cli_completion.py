#!/usr/bin/env python3
"""Bash completion of `bindpost`: commands, options and names, from a configuration of its own; exit codes without a daemon."""
import json
import os
import re
import subprocess
import sys
import tempfile

BUILD = os.environ.get("builddir") or os.getcwd()
SOURCE = os.environ.get("srcdir") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
n = failed = 0


def ok(good, what, *why):
    global n, failed
    n += 1
    failed += not good
    print("%sok %d - %s" % ("" if good else "not ", n, what), flush=True)
    if not good:
        for line in "\n".join(str(w) for w in why).splitlines():
            print("# " + line)


def equal(got, want, what):
    ok(got == want, what, "got  %r" % (got,), "want %r" % (want,))


def write(folder, name, value):
    with open(os.path.join(folder, name), "w", encoding="ascii") as f:
        json.dump(value, f)
    return os.path.join(folder, name)


def complete(*words):
    """What is offered for the last of these words."""
    script = 'COMP_WORDBREAKS=" "; source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _bindpost; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "--norc", "-c", script, os.path.join(SOURCE, "etc", "bash-completion", "bindpost"),
                           os.path.join(BUILD, "bindpost"), *words], text=True, capture_output=True, timeout=60, check=False)
    if done.stderr:
        print("# " + done.stderr.replace("\n", "\n# "))
    return done.stdout.split()


def run(*args):
    return subprocess.run([os.path.join(BUILD, "bindpost"), *args], text=True, capture_output=True, timeout=60, stdin=subprocess.DEVNULL, check=False)


def completion(config):
    commands = re.findall(r"(?m)^  ([a-z]+)\b", run("--help").stdout)
    ok(len(commands) > 20 and set(commands) <= set(complete("")), "every command is offered", commands, complete(""))
    equal(sorted(complete("su")), ["summary", "suspend"], "those that begin so")
    c = ("-c", config)
    equal(sorted(complete(*c, "suspend", "")), ["--domain", "--for", "--json", "acme", "bravo", "default", "group:shared", "shared1"],
          "suspend: names of bindings and groups, options")
    equal(complete(*c, "suspend", "ac"), ["acme"], "a name that begins so")
    equal(complete(*c, "drain", "acme", "--to", "b"), ["bravo"], "--to of drain")
    equal(complete(*c, "hold", "--binding", "group:s"), ["group:shared"], "--binding")
    ok({"--binding", "--older-than", "--dry-run", "--all"} <= set(complete(*c, "hold", "--")), "the selectors", complete(*c, "hold", "--"))
    ok({"--code", "--no-dsn", "--sender"} <= set(complete("fail", "--")), "with a command's own options", complete("fail", "--"))
    equal(complete("messages", "--cu"), ["--cursor"], "options of a list")
    equal(complete("message", "--h"), ["--headers"], "and of a message")
    ok("max_outbound_connections" in complete("config", "eval", "max_out"), "options of the configuration", complete("config", "eval", "max_out"))
    equal(sorted(complete("config", "")), ["--json", "eval", "list"], "config's own words")
    equal(sorted(complete("dns", "")), ["--json", "lookup", "refresh", "stats"], "dns's own words")
    equal(complete("explain", "--rec"), ["--recv-ip", "--recv-port"], "explain")
    equal(complete("--so"), ["--socket"], "what stands before a command")
    equal(complete("messages", "--limit", ""), [], "nothing where only the operator knows")
    equal(complete("nonsense", "--b"), [], "nothing for what is no command")
    equal(complete("-c", "/nonexistent/bindpost.json", "suspend", "ac"), [], "no configuration: no names, no noise")


def listed(config, broken):
    equal(run("-c", config, "config", "list", "bindings").stdout.split(), ["default", "acme", "bravo", "shared1"], "config list bindings")
    equal(json.loads(run("-c", config, "--json", "config", "list", "groups").stdout), ["shared"], "config list groups, as JSON")
    ok({"retry_interval", "handoff.listen"} <= set(run("config", "list", "options").stdout.split()), "config list options")
    ok("acme" in run("-c", broken, "config", "list", "bindings").stdout.split(), "also of files with errors")


def exit_codes(config, broken, folder):
    """Those that need no daemon; t/mta has the others."""
    cases = [((), 2), (("nonsense",), 2), (("--help",), 0), (("-V",), 0), (("check",), 0), (("check", broken), 1), (("check", folder + "/none.json"), 1),
             (("config",), 2), (("config", "list"), 2), (("config", "list", "x"), 2), (("config", "eval", "retry_interval"), 0), (("config", "eval", "none"), 1),
             (("config", "eval", "retry_interval", "--binding", "none"), 1), (("explain",), 2), (("explain", "--from", "a@b.example"), 0),
             (("explain", "--from", "a@b.example", "--to", "a b"), 1), (("stamp",), 2), (("stamp", "--new-key"), 0), (("summary",), 3), (("summary", "x"), 2),
             (("queues",), 3), (("queues", "--limit", "0"), 2), (("messages", "--cursor", "x"), 2), (("message",), 2), (("message", "x"), 2),
             (("message", "0" * 16), 3), (("connections", "--nonsense"), 2), (("bindings",), 3), (("bindings", "none"), 3), (("top",), 3), (("top", "x"), 2), (("trace", "--for", "1s"), 3),
             (("suspend",), 2), (("suspend", "acme"), 3), (("suspend", "acme", "bravo"), 2), (("resume", "acme", "--for", "1h"), 2), (("hold", "x"), 2), (("hold", "--all"), 3),
             (("drain", "acme"), 2), (("drain", "acme", "--to", "bravo"), 3), (("dns",), 2), (("dns", "stats"), 3), (("reload", "x"), 2), (("reload", "--no-milter"), 3), (("reload",), 3),
             (("--socket", "nonsense", "summary"), 2), (("--socket", "unix:" + folder + "/none.sock", "summary"), 3)]
    for args, want in cases:
        done = run("-c", config, *args)
        ok(done.returncode == want and (want == 0 or done.stderr), "bindpost %s: exit %d" % (" ".join(args).replace(folder, "."), want), done)
    done = run("-c", broken, "summary")
    ok(done.returncode in (1, 3) and done.stderr, "with a broken configuration: an error", done)


with tempfile.TemporaryDirectory(prefix="bindpost-completion-") as where:
    good = write(where, "bindpost.json", {"hostname": "mta1.example.net", "control": {"listen": "unix:control.sock"},
                                          "milter": {"control": "unix:milter-control.sock"}})
    policy = {"bindings": {"default": {"bind_address": "127.0.0.1"}, "acme": {"bind_address": "127.0.0.2", "match_domain": ["a.example"]},
                           "bravo": {"bind_address": "127.0.0.3", "match_domain": ["b.example"]}},
              "binding_groups": {"shared": {"bindings": {"shared1": {"bind_address": "127.0.0.4"}}}},
              "rules": [{"when": "size > '1'", "bind": "group:shared"}]}
    write(where, "policy.json", policy)
    policy["bindings"]["bad"] = {"bind_address": "nonsense"}
    write(where, "bad.json", policy)
    bad = write(where, "broken.json", {"hostname": "mta1.example.net", "policy": "bad.json", "control": {"listen": "unix:control.sock"}})
    for part in ((completion, good), (listed, good, bad), (exit_codes, good, bad, where)):
        part[0](*part[1:])
print("1..%d" % n)
sys.exit(1 if failed else 0)
