#!/usr/bin/env python3
"""Runs t/milter/*.milter, each by miltertest with a bindpost-milter of its own: one TAP line for each."""
import glob
import os
import shutil
import subprocess
import sys
import tempfile

src = os.path.abspath(os.environ.get("srcdir") or os.path.join(os.path.dirname(__file__), "..", ".."))
build = os.path.abspath(os.environ.get("builddir") or src)
program = os.path.join(build, "bindpost-milter")


def run(script):
    folder = tempfile.mkdtemp(prefix="milter.")
    try:
        with open(os.path.join(folder, "script"), "w", encoding="utf-8") as out:
            for name in (os.path.join(src, "t/milter/prelude.lua"), script):
                # miltertest says nothing of an error in a script
                out.write("ok, why = pcall(dofile, %r) if not ok then mt.echo(tostring(why)) error(why) end\n" % name)
        # exit status and output tell; a script that hangs is a failure
        done = subprocess.run(["miltertest", "-D", "dir=" + folder, "-D", "program=" + program, "-D", "srcdir=" + src,
                               "-s", os.path.join(folder, "script")], capture_output=True, text=True, timeout=120,
                              errors="replace", check=False)
        return done.returncode == 0, done.stdout + done.stderr
    except subprocess.TimeoutExpired as late:
        return False, "timeout\n" + str(late.stdout)
    finally:
        shutil.rmtree(folder)


def main():
    scripts = sys.argv[1:] or sorted(glob.glob(os.path.join(src, "t/milter/*.milter")))
    failed = 0
    print("1..%d" % len(scripts), flush=True)
    for n, script in enumerate(scripts, 1):
        ok, output = run(script)
        failed += not ok
        print("%sok %d - %s" % ("" if ok else "not ", n, os.path.basename(script)), flush=True)
        if not ok:
            print("".join("# %s\n" % line for line in output.splitlines()), end="", flush=True)
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
