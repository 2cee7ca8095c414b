#!/usr/bin/env python3
"""Check deploy/ with the tools that read it: the systemd unit, the Kubernetes manifest, the Containerfile, and whether
the times in them agree. A test whose tool is not installed is skipped; exit status 77 if all are."""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
DEPLOY = os.path.join(HERE, "..", "..", "deploy")
LINGER_S = 2  # the default of drain.linger


class Skipped(Exception):
    pass


def seconds(text):
    number, unit = re.fullmatch(r"([0-9.]+)(ms|s|m|h|)", str(text)).groups()
    return float(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "": 1}[unit]


def need(tool):
    if shutil.which(tool) is None:
        raise Skipped(f"{tool} is not installed")


def run(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)


def read(*path):
    with open(os.path.join(DEPLOY, *path), encoding="utf-8") as file:
        return file.read()


def unit_copy(args, folder):
    """The unit with the program that was built, since systemd-analyze complains about a missing program."""
    path = os.path.join(folder, "lastcall.service")
    with open(path, "w", encoding="utf-8") as file:
        file.write(read("systemd", "lastcall.service").replace("/usr/bin/lastcall", args.lastcall))
    return path


def unit_is_valid(args, folder):
    need("systemd-analyze")
    done = run("systemd-analyze", "verify", "--man=no", unit_copy(args, folder))
    if re.search(r"Failed to (connect|create manager)|Operation not permitted|initialize manager", done.stdout):
        raise Skipped("systemd-analyze verify does not work here: " + done.stdout.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout
    # Ignore complaints about other units of this machine.
    assert "lastcall.service" not in done.stdout, done.stdout


def drop_ins_are_valid(args, folder):
    need("systemd-analyze")
    names = sorted(os.listdir(os.path.join(DEPLOY, "systemd", "lastcall.service.d")))
    assert names == ["java.conf", "node.conf"], names
    for name in names:
        text = read("systemd", "lastcall.service.d", name)
        # A just-in-time compiler maps memory that is writable and executable.
        assert "MemoryDenyWriteExecute=no" in text, name
        with tempfile.TemporaryDirectory(dir=folder) as one:
            path = unit_copy(args, one)
            os.mkdir(path + ".d")
            with open(os.path.join(path + ".d", name), "w", encoding="utf-8") as file:
                file.write(text.replace("/usr/bin/lastcall", args.lastcall))
            done = run("systemd-analyze", "verify", "--man=no", path)
        if re.search(r"Failed to (connect|create manager)|Operation not permitted|initialize manager", done.stdout):
            raise Skipped("systemd-analyze verify does not work here: " + done.stdout.strip().splitlines()[-1])
        assert "lastcall.service" not in done.stdout, done.stdout


def reload_checks_first_and_waits(args, folder):
    lines = re.findall(r"^ExecReload=(.*)$", read("systemd", "lastcall.service"), re.M)
    assert len(lines) == 2, lines
    assert lines[0].split()[:2] == ["/usr/bin/lastcall", "-t"], lines
    assert lines[1].startswith("/usr/bin/lastcall reload "), lines
    # RestartPreventExitStatus= does not cover it: systemd would start the unit again and again.
    assert "\nExecStartPre=" not in read("systemd", "lastcall.service")


def unit_is_hardened(args, folder):
    need("systemd-analyze")
    done = run("systemd-analyze", "security", "--offline=true", "--no-pager", unit_copy(args, folder))
    score = re.search(r"exposure level for lastcall.service: ([0-9.]+)", done.stdout)
    if score is None:
        raise Skipped("systemd-analyze security --offline does not work here (systemd 250 and later)")
    print(f"    exposure: {score.group(1)} of 10")
    assert float(score.group(1)) < 4, done.stdout


def unit_waits_long_enough(args, folder):
    unit = read("systemd", "lastcall.service")
    stop = seconds(re.search(r"^TimeoutStopSec=(.*)$", unit, re.M).group(1))
    watchdog = seconds(re.search(r"^WatchdogSec=(.*)$", unit, re.M).group(1))
    shown = run(args.lastcall, "--help").stdout
    deadline = seconds(re.search(r"--deadline DUR.*?default: ([0-9a-z]+)\)", shown, re.S).group(1))
    stall = seconds(re.search(r"--watchdog-stall DUR.*?default: ([0-9a-z]+)\)", shown, re.S).group(1))
    assert stop > deadline + LINGER_S, (stop, deadline)
    assert watchdog > stall, "the log should name a stall before systemd kills the process"


def manifest(args):
    try:
        import yaml
    except ImportError:
        raise Skipped("python3 has no yaml (python3-yaml)") from None
    documents = list(yaml.safe_load_all(read("kubernetes", "lastcall.yaml")))
    kinds = {document["kind"]: document for document in documents}
    return kinds, yaml.safe_load(kinds["ConfigMap"]["data"]["lastcall.conf"])


def manifest_is_whole(args, folder):
    kinds, conf = manifest(args)
    assert set(kinds) == {"ConfigMap", "Deployment", "Service"}, kinds.keys()
    spec = kinds["Deployment"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels
    assert kinds["Service"]["spec"]["selector"] == labels
    front = spec["template"]["spec"]["containers"][0]
    assert front["ports"][0]["containerPort"] == conf["listen"]
    assert kinds["Service"]["spec"]["ports"][0]["targetPort"] == conf["listen"]
    for name in "readinessProbe", "livenessProbe":
        assert front[name]["httpGet"]["path"] in conf["hosts"]["default"]["paths"], name
    volumes = {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in front["volumeMounts"]} <= volumes


def manifest_waits_long_enough(args, folder):
    kinds, conf = manifest(args)
    pod = kinds["Deployment"]["spec"]["template"]["spec"]
    drain = conf["drain"]
    busy = seconds(drain["lame-duck"]) + seconds(drain["deadline"])
    grace = pod["terminationGracePeriodSeconds"]
    assert grace > busy + LINGER_S, (grace, busy)
    assert seconds(drain["grace-budget"]) == grace, "lastcall must check against the grace period of the pod"
    front, app = pod["containers"]
    assert "lifecycle" not in front, "lame-duck replaces a preStop hook"
    sleep = int(app["lifecycle"]["preStop"]["exec"]["command"][1])
    assert busy < sleep < grace, "the application must outlive the requests that it is sent"


def manifest_configuration_is_valid(args, folder):
    kinds, _ = manifest(args)
    path = os.path.join(folder, "lastcall.conf")
    with open(path, "w", encoding="utf-8") as file:
        file.write(kinds["ConfigMap"]["data"]["lastcall.conf"].replace("listen: 8080", "listen: {port: 0}"))
    done = run(args.lastcall, "-t", "-c", path)
    assert done.returncode == 0, done.stdout


def container_copies_every_folder(args, folder):
    with open(os.path.join(DEPLOY, "..", "CMakeLists.txt"), encoding="utf-8") as file:
        built = set(re.findall(r"^\s*add_subdirectory\((\w+)", file.read(), re.M))
    copied = set(re.findall(r"^COPY (\w+) \1$", read("container", "Containerfile"), re.M))
    assert built <= copied, f"the Containerfile does not copy {sorted(built - copied)}"


TESTS = [container_copies_every_folder, unit_is_valid, drop_ins_are_valid, reload_checks_first_and_waits, unit_is_hardened, unit_waits_long_enough,
         manifest_is_whole, manifest_waits_long_enough, manifest_configuration_is_valid]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lastcall", required=True)
    args = parser.parse_args()
    failed = skipped = 0
    for test in TESTS:
        with tempfile.TemporaryDirectory(prefix="lastcall-deploy-") as folder:
            try:
                test(args, folder)
                print(f"ok      {test.__name__}")
            except Skipped as reason:
                skipped += 1
                print(f"skipped {test.__name__}: {reason}")
            except (AssertionError, KeyError, AttributeError, ValueError) as error:
                failed += 1
                print(f"FAILED  {test.__name__}: {type(error).__name__}: {error}")
    return 1 if failed else 77 if skipped == len(TESTS) else 0


if __name__ == "__main__":
    sys.exit(main())
