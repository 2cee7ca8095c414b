#!/usr/bin/env python3
"""The servers that drain.py stops: how each is started, stopped gracefully, and asked.

Every adapter listens on free loopback ports, keeps its files in a directory of its own, writes no access
log, and has two threads or processes where that can be chosen. Timeouts stay as the packages have them:
they are part of how a server stops. Servers without handlers pass slow requests, POST and uploads on to
a backend (a lastcall that is not stopped), the way they are used.

    peers.py             which servers are here, and their versions
    peers.py --install   install what is missing, with apt-get; no service is started
"""

from __future__ import annotations

import argparse
import grp
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "peers"
POLICY = Path("/usr/sbin/policy-rc.d")
SEARCH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
HELLO = b"Hello World\n"
LARGE_BYTES = 8 << 20
OPEN_FILES_MOST = 65536


class Missing(Exception):
    """This server can not be had here; the text says why, in one line."""


@dataclass
class Site:
    """Where one server runs: its directory, its ports, and what the adapters share."""

    temp: Path  # of this server alone
    root: Path  # the files: small, large.bin
    port: int
    h2_port: int  # HTTP/2 with prior knowledge, for servers that want a port of its own for it
    backend: int  # port of the backend; 0 while there is none
    lastcall: Path
    build: Path  # where compiled peers are kept


@dataclass
class Launch:
    """How to start it and what to ask for."""

    argv: list[str]
    small: str = "/small"
    slow: str = "/back/sleep?ms={ms}"
    large: str = "/large.bin"
    post: str = "/back/hello"
    upload: str = "/back/sleep?ms=0"
    h2_on_own_port: bool = False
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    name: str
    stop: signal.Signals  # the one that means: finish, then go
    program: str
    package: str
    version: tuple[str, ...]  # the arguments that print it
    launch: Callable[[str, Site], Launch]
    h2: bool = False  # cleartext, with prior knowledge


def find_program(name: str, package: str) -> str:
    path = shutil.which(name, path=SEARCH)
    if path is None:
        raise Missing(f"{name} is not installed (Debian: {package})")
    return path


def free_ports(count: int) -> list[int]:
    """Below the range that clients get theirs from, so that no client ever sits on a server's port."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        top = min(int(file.read().split()[0]), 32768)
    held: list[socket.socket] = []
    while len(held) < count:
        port = 10000 + int.from_bytes(os.urandom(4), "big") % (top - 10000)
        sock = socket.socket()
        try:
            sock.bind(("127.0.0.1", port))
            held.append(sock)
        except OSError:
            sock.close()
    ports = [sock.getsockname()[1] for sock in held]
    for sock in held:
        sock.close()
    return ports


def write(site: Site, name: str, text: str) -> str:
    path = site.temp / name
    path.write_text(text)
    return str(path)


def make_root(root: Path) -> None:
    """The files every server serves; readable for the users that some switch to."""
    root.mkdir(exist_ok=True)
    (root / "small").write_bytes(HELLO)
    (root / "small.txt").write_bytes(HELLO)
    line = b"0123456789abcdef" * 3 + b"0123456789abcde\n"
    (root / "large.bin").write_bytes(line * (LARGE_BYTES // len(line)))


# ---- the adapters ----


def launch_lastcall(binary: str, site: Site) -> Launch:
    return Launch(
        [binary, "--quiet", "--listen", f"127.0.0.1:{site.port}", "--threads", "2",
         "--workers", "64", "--deadline", "14s", "--root", str(site.root)],
        small="/hello", slow="/sleep?ms={ms}", large="/files/large.bin", post="/sleep?ms=0",
        upload="/sleep?ms=0")


H2O = """\
num-threads: 2
max-connections: 16384
listen: {{ host: 127.0.0.1, port: {s.port} }}
error-log: {s.temp}/error.log
hosts:
  default:
    paths:
      /back:
        proxy.reverse.url: "http://127.0.0.1:{s.backend}"
      /:
        file.dir: {s.root}
"""


def launch_h2o(binary: str, site: Site) -> Launch:
    return Launch([binary, "-c", write(site, "h2o.conf", H2O.format(s=site))])


NGINX = """\
daemon off;
{user}
worker_processes 2;
worker_rlimit_nofile 20000;
pid {s.temp}/nginx.pid;
error_log {s.temp}/error.log;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    sendfile on;
    client_max_body_size 64m;
    client_body_temp_path {s.temp}/body;
    proxy_temp_path {s.temp}/proxy;
    fastcgi_temp_path {s.temp}/fastcgi;
    uwsgi_temp_path {s.temp}/uwsgi;
    scgi_temp_path {s.temp}/scgi;
    server {{
        listen 127.0.0.1:{s.port};
        listen 127.0.0.1:{s.h2_port} http2;
        root {s.root};
        location /back/ {{ proxy_pass http://127.0.0.1:{s.backend}/; }}
    }}
}}
"""


def launch_nginx(binary: str, site: Site) -> Launch:
    user = "user root;" if os.geteuid() == 0 else ""
    conf = write(site, "nginx.conf", NGINX.format(s=site, user=user))
    return Launch([binary, "-p", str(site.temp), "-c", conf, "-e", str(site.temp / "error.log")],
                  h2_on_own_port=True)


HAPROXY = """\
global
    nbthread 2
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend front
    bind 127.0.0.1:{s.port}
    bind 127.0.0.1:{s.h2_port} proto h2
    http-request return status 200 content-type text/plain file {s.root}/small if {{ path /small }}
    http-request set-path %[path,regsub(^/back/,/)]
    default_backend back
backend back
    server one 127.0.0.1:{s.backend}
"""


def launch_haproxy(binary: str, site: Site) -> Launch:
    return Launch([binary, "-db", "-f", write(site, "haproxy.cfg", HAPROXY.format(s=site))],
                  large="/back/files/large.bin", h2_on_own_port=True)


CADDY = """\
{{
    admin off
    auto_https off
    servers {{
        protocols h1 h2c
    }}
    log {{
        level WARN
    }}
}}
http://:{s.port} {{
    bind 127.0.0.1
    handle_path /back/* {{
        reverse_proxy 127.0.0.1:{s.backend}
    }}
    handle {{
        root * {s.root}
        file_server
    }}
}}
"""


def launch_caddy(binary: str, site: Site) -> Launch:
    home = str(site.temp)
    return Launch([binary, "run", "--adapter", "caddyfile", "--config",
                   write(site, "Caddyfile", CADDY.format(s=site))],
                  env={"HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home, "GOMAXPROCS": "2"})


APACHE = """\
ServerRoot {s.temp}
DefaultRuntimeDir {s.temp}
PidFile {s.temp}/httpd.pid
Mutex pthread
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
LoadModule http2_module {modules}/mod_http2.so
{user}
Listen 127.0.0.1:{s.port}
ServerName localhost
ErrorLog {s.temp}/error.log
Protocols h2c http/1.1
StartServers 2
ServerLimit 2
ThreadLimit 64
ThreadsPerChild 64
MaxRequestWorkers 128
MinSpareThreads 128
MaxSpareThreads 128
AsyncRequestWorkerFactor 200
MaxKeepAliveRequests 0
DocumentRoot {s.root}
<Directory {s.root}>
    Require all granted
</Directory>
ProxyPass /back/ http://127.0.0.1:{s.backend}/
"""


def launch_apache(binary: str, site: Site) -> Launch:
    modules = Path("/usr/lib/apache2/modules")
    if not modules.is_dir():
        raise Missing(f"apache2: no modules in {modules}")
    group = "nogroup" if any(g.gr_name == "nogroup" for g in grp.getgrall()) else "nobody"
    user = f"User nobody\nGroup {group}" if os.geteuid() == 0 else ""
    conf = write(site, "httpd.conf", APACHE.format(s=site, modules=modules, user=user))
    return Launch([binary, "-f", conf, "-DFOREGROUND"])


LIGHTTPD = """\
server.bind = "127.0.0.1"
server.port = {s.port}
server.document-root = "{s.root}"
server.errorlog = "{s.temp}/error.log"
server.upload-dirs = ( "{s.temp}" )
server.max-fds = 20000
server.max-connections = 16384
server.modules = ( "mod_proxy" )
mimetype.assign = ( "" => "text/plain" )
$HTTP["url"] =^ "/back/" {{
    proxy.header = ( "map-urlpath" => ( "/back/" => "/" ) )
    proxy.server = ( "" => ( ( "host" => "127.0.0.1", "port" => {s.backend} ) ) )
}}
"""


def launch_lighttpd(binary: str, site: Site) -> Launch:
    """One process: with server.max-worker the parent exits at the signal, and leaves its workers behind."""
    return Launch([binary, "-D", "-f", write(site, "lighttpd.conf", LIGHTTPD.format(s=site))])


def launch_go(compiler: str, site: Site) -> Launch:
    source, binary = SOURCES / "server.go", site.build / "go-server"
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        site.build.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, "GO111MODULE": "off", "GOCACHE": str(site.build / "go-cache"),
               "CGO_ENABLED": "0"}
        done = subprocess.run([compiler, "build", "-o", str(binary), str(source)], env=env,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise Missing(f"go: the server does not build: {done.stderr.strip().splitlines()[-1]}")
    return Launch([str(binary), f"127.0.0.1:{site.port}", str(site.root)], slow="/slow?ms={ms}",
                  post="/upload", upload="/upload", env={"GOMAXPROCS": "2"})


def launch_node(binary: str, site: Site) -> Launch:
    return Launch([binary, str(SOURCES / "server.js"), str(site.port), str(site.root)],
                  slow="/slow?ms={ms}", post="/upload", upload="/upload")


def launch_gunicorn(binary: str, site: Site) -> Launch:
    return Launch([binary, "--bind", f"127.0.0.1:{site.port}", "--workers", "2",
                   "--worker-class", "gthread", "--threads", "32", "--worker-connections", "16384",
                   "--log-level", "warning", "--worker-tmp-dir", str(site.temp),
                   "--chdir", str(SOURCES), "server:application"],
                  slow="/slow?ms={ms}", post="/upload", upload="/upload",
                  env={"DRAIN_ROOT": str(site.root), "PYTHONDONTWRITEBYTECODE": "1"})


TERM, QUIT, INT = signal.SIGTERM, signal.SIGQUIT, signal.SIGINT

PEERS: dict[str, Peer] = {peer.name: peer for peer in (
    Peer("lastcall", TERM, "lastcall", "", ("--version",), launch_lastcall, h2=True),
    Peer("h2o", TERM, "h2o", "h2o", ("--version",), launch_h2o, h2=True),
    Peer("nginx", QUIT, "nginx", "nginx-light", ("-v",), launch_nginx, h2=True),
    Peer("haproxy", signal.SIGUSR1, "haproxy", "haproxy", ("-v",), launch_haproxy, h2=True),
    Peer("caddy", TERM, "caddy", "caddy", ("version",), launch_caddy, h2=True),
    Peer("apache", signal.SIGWINCH, "apache2", "apache2", ("-v",), launch_apache, h2=True),
    Peer("lighttpd", INT, "lighttpd", "lighttpd", ("-v",), launch_lighttpd, h2=True),
    Peer("go", TERM, "go", "golang-go", ("version",), launch_go),
    Peer("node", TERM, "node", "nodejs", ("--version",), launch_node),
    Peer("gunicorn", TERM, "gunicorn", "gunicorn", ("--version",), launch_gunicorn),
)}


def program_of(peer: Peer, lastcall: Path) -> str:
    if peer.name != "lastcall":
        return find_program(peer.program, peer.package)
    if not os.access(lastcall, os.X_OK):
        raise Missing(f"{lastcall} is not built (make run builds it)")
    return str(lastcall)


def version_of(peer: Peer, program: str) -> str:
    """The first number with dots that it prints; programs print it on either stream."""
    done = subprocess.run([program, *peer.version], stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    match = re.search(r"\d+(?:\.\d+)+", done.stdout)
    return match.group(0) if match else "?"


# ---- installing ----


def install() -> int:
    """apt-get what is missing. The policy file keeps packages from starting their services."""
    packages = [peer.package for peer in PEERS.values()
                if peer.package and shutil.which(peer.program, path=SEARCH) is None]
    if not packages:
        print("peers: all servers are installed")
        return 0
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"peers: as root, type: {' '.join(command)}")
        return 69
    made_policy = not POLICY.exists()
    if made_policy:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        return subprocess.run(command, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                              stdin=subprocess.DEVNULL).returncode
    finally:
        if made_policy:
            POLICY.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(description="The servers beside which lastcall is measured.")
    parser.add_argument("--install", action="store_true",
                        help="install what is missing with apt-get; no service is started")
    parser.add_argument("--lastcall", type=Path, default=HERE.parent / "build/release/lastcall")
    args = parser.parse_args()
    if args.install:
        return install()
    for peer in PEERS.values():
        try:
            print(f"{peer.name:<10} {version_of(peer, program_of(peer, args.lastcall)):<12} "
                  f"graceful: {peer.stop.name}")
        except Missing as missing:
            print(f"{peer.name:<10} {missing}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
