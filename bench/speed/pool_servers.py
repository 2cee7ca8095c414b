"""The servers of pool.py, and the way of each handler to them. One at a time is started, measured, and stopped."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import peers
from speed_servers import (
    BODY, Broken, Missing, Server, first_match, need_built, need_program, start_bare, start_nginx, write)

SUBJECTS = {
    "bare": "libh2o, inline",
    "inline": "lastcall, inline",
    "place": "lastcall, in place",
    "queue": "lastcall, queue",
    "go": "Go net/http",
    "nginx": "nginx",
    "node": "Node http",
}
SPEAKS_H2 = ("bare", "inline", "place", "queue", "nginx")  # cleartext, with prior knowledge
# Each kind of handler has a path of its own: how long a handler takes is learned for each path.
POOL_PATHS = {"once": "/once?us=0", "burn": "/burn?us=20", "sleep1": "/sleep1?ms=1", "sleep5": "/sleep5?ms=5",
              "rare": "/rare?ms=20&one_in=1000", "never": "/never?ms=0"}
PEER_PATHS = {"once": "/small", "burn": "/burn?us=20", "sleep1": "/slow?ms=1", "sleep5": "/slow?ms=5",
              "rare": "/slow?ms=20&one_in=1000", "never": "/slow?ms=0"}
PATHS = {
    "bare": {"once": "/hello", "burn": "/burn?us=20"},
    "inline": {"once": "/hello"},
    "place": POOL_PATHS,
    "queue": POOL_PATHS,
    "go": PEER_PATHS,
    "nginx": {"once": "/hello"},
    "node": PEER_PATHS,
}
CONF = """\
listen: {{host: 127.0.0.1, port: {port}}}
num-threads: {threads}
user: {user}
admin: {{listen: off}}
pool: {{{pool}}}
hosts:
  default:
    paths:
      /hello: {{handler: hello}}
"""


@dataclass(frozen=True)
class Stand:
    """One process: what it is, and how large its pool. 0 workers: as many as it takes by itself."""

    subject: str
    workers: int = 0
    queue: int = 16384


def conf_of(options, stand, port):
    place = f", {options.directive}: {'auto' if stand.subject == 'place' else 'queue'}"
    if not options.takes_directive:
        place = ""
    pool = f"queue: {stand.queue}" + (f", workers: {stand.workers}" if stand.workers else "")
    text = CONF.format(port=port, threads=options.threads, pool=pool,
                       user="root" if os.geteuid() == 0 else first_match(["id", "-un"], r"(\S+)"))
    if stand.subject in ("place", "queue"):
        for path in POOL_PATHS.values():
            name = path.partition("?")[0]
            handler = "burn" if name in ("/once", "/burn") else "sleep"
            text += f"      {name}: {{handler: {handler}{place}}}\n"
    return text


def learn_directive(options, temp):
    """Sets options.takes_directive. Returns why `place` is skipped, or None."""
    binary = need_built(options.lastcall, "lastcall")
    for options.takes_directive in (True, False):
        conf = write(os.path.join(temp, "place.conf"), conf_of(options, Stand("place"), 0))
        done = subprocess.run([binary, "-t", "-c", conf], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        if done.returncode == 0:
            return None if options.takes_directive else f"lastcall -t refuses it: {said}"
        said = re.sub(r"^.*?\.conf:", "line ", (done.stdout.strip().splitlines() or ["?"])[0])
    raise Broken(f"lastcall -t refuses the configuration: {said}")


def start_lastcall_as(options, temp, stand):
    binary = need_built(options.lastcall, "lastcall")
    port, = peers.free_ports(1)
    conf = write(os.path.join(temp, f"{stand.subject}.conf"), conf_of(options, stand, port))
    return Server(stand.subject, "/hello", first_match([binary, "--version"], r"lastcall (\S+)"),
                  [binary, "--quiet", "-c", conf], port, os.path.join(temp, f"{stand.subject}.out"),
                  options.server_cores)


def start_peer(options, temp, stand):
    """With the adapters of bench/peers."""
    peer = peers.PEERS[stand.subject]
    port, = peers.free_ports(1)
    root = Path(temp, "root")
    site = peers.Site(temp=Path(temp), root=root, port=port, h2_port=0, backend=0, lastcall=Path(options.lastcall),
                      build=Path(options.lastcall).parents[1] / "bench" / "peers")
    program = peers.program_of(peer, site.lastcall)
    launch = peer.launch(program, site)
    env = {**launch.env, "GOMAXPROCS": str(options.threads)}
    return Server(stand.subject, launch.small, peers.version_of(peer, program), launch.argv, port,
                  os.path.join(temp, f"{stand.subject}.out"), options.server_cores, env)


def start(options, temp, stand):
    """Started and answering. The caller stops it."""
    if stand.subject == "bare":
        server = start_bare(options, temp, options.threads, options.server_cores)
    elif stand.subject == "nginx":
        server = start_nginx(options, temp, options.threads, options.server_cores)
        server.path = "/hello"
    elif stand.subject in peers.PEERS:
        server = start_peer(options, temp, stand)
    else:
        server = start_lastcall_as(options, temp, stand)
    try:
        server.wait_until_up(BODY)
    except BaseException:
        server.stop()
        raise
    return server


def missing_subjects(options, temp):
    """name -> why it is not measured."""
    skipped = {name: "asked to" for name in options.skip}
    why = learn_directive(options, temp)
    if why is not None:
        skipped.setdefault("place", why)
    for name, find in (("go", lambda: peers.program_of(peers.PEERS["go"], options.lastcall)),
                       ("node", lambda: peers.program_of(peers.PEERS["node"], options.lastcall)),
                       ("nginx", lambda: need_program("nginx", "nginx-light"))):
        try:
            find()
        except (Missing, peers.Missing) as missing:
            skipped.setdefault(name, str(missing))
    return skipped


__all__ = ["Broken", "Missing", "PATHS", "SPEAKS_H2", "SUBJECTS", "Stand", "missing_subjects", "start"]
