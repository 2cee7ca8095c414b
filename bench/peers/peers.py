#!/usr/bin/env python3
"""The servers that drain.py stops: how to start each, stop it gracefully, and send it requests.

Every adapter listens on free loopback ports, keeps its files in its own directory, writes no access log, and
uses two threads or processes if that can be configured. Timeouts keep the defaults of the packages, because
they are part of how a server stops. Servers without handlers proxy slow requests, POST and uploads to a
backend (a lastcall that is not stopped), as they are used in practice. In the proxy scenarios their upstream
is lastcall-upstream: it answers after 1 to 5 ms, and counts the requests that a proxy cuts.

    peers.py             list the installed servers and their versions
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
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "programs"
SETUP = HERE.parents[1] / "scripts" / "setup.sh"
SEARCH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
LIGHTTPD_OPENSSL = Path("/usr/lib/lighttpd/mod_openssl.so")
MODULES = {LIGHTTPD_OPENSSL: "lighttpd-mod-openssl"}  # in packages of their own
HELLO = b"Hello World\n"
LARGE_BYTES = 8 << 20
OPEN_FILES_MOST = 65536


class Missing(Exception):
    """This server is not available; the text is the reason, in one line."""


@dataclass
class Site:
    """The directory and the ports of one server, and the settings that the adapters share."""

    temp: Path  # of this server only
    root: Path  # the files: small, large.bin
    port: int
    h2_port: int  # HTTP/2 with prior knowledge, for servers that need another port for it
    backend: int  # port of the backend; 0: none
    lastcall: Path
    build: Path  # the folder for compiled peers
    tls_port: int = 0  # 0: without TLS
    cert: Path = Path()  # for localhost; the key is in `key`
    key: Path = Path()
    proxies: bool = False  # the backend is lastcall-upstream, and the server only proxies to it


@dataclass
class Launch:
    """How to start it and what to ask for."""

    argv: list[str]
    small: str = "/small"
    slow: str = "/back/sleep?ms={ms}"
    large: str = "/large.bin"
    post: str = "/back/hello"
    upload: str = "/back/sleep?ms=0"
    proxied: str = "/back/answer?ms=1-5"  # of lastcall-upstream, where the site has one
    h2_on_own_port: bool = False
    tls: bool = False  # it listens for TLS where the site has a port for that
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
    tls_h2: bool = False
    proxies: bool = False


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


def make_certificate(cert: Path, key: Path) -> None:
    """Self-signed, for this run; readable for the users that some servers switch to."""
    if cert.exists():
        return
    done = subprocess.run(
        [find_program("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        cert.unlink(missing_ok=True)
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise Missing(f"openssl creates no certificate: {lines[-1]}")
    cert.chmod(0o644)
    key.chmod(0o644)


def if_tls(site: Site, text: str) -> str:
    """Lines of a configuration that only the TLS scenarios need: the others start without them."""
    return text.format(s=site) if site.tls_port else ""


# ---- the adapters ----


def launch_lastcall(binary: str, site: Site) -> Launch:
    tls = site.tls_port != 0 and "--cert" in subprocess.run(
        [binary, "--help"], stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
    more = ["--listen", f"tls:127.0.0.1:{site.tls_port}", "--cert", str(site.cert),
            "--key", str(site.key)] if tls else []
    proxy = ["--proxy", f"http://127.0.0.1:{site.backend}"] if site.proxies else []
    return Launch(
        [binary, "--quiet", "--listen", f"127.0.0.1:{site.port}", "--threads", "2",
         "--workers", "64", "--deadline", "14s", "--root", str(site.root), *more, *proxy],
        small="/hello", slow="/sleep?ms={ms}", large="/files/large.bin", post="/sleep?ms=0",
        upload="/sleep?ms=0", proxied="/answer?ms=1-5", tls=tls)


H2O = """\
num-threads: 2
max-connections: 16384
listen: {{ host: 127.0.0.1, port: {s.port} }}
error-log: {s.temp}/error.log
hosts:
  default:
{tls}
    paths:
      /back:
        proxy.reverse.url: "http://127.0.0.1:{s.backend}"
      /:
        file.dir: {s.root}
"""


H2O_TLS = """\
    listen:
      host: 127.0.0.1
      port: {s.tls_port}
      ssl: {{ certificate-file: {s.cert}, key-file: {s.key}, ocsp-update-interval: 0 }}
"""


def launch_h2o(binary: str, site: Site) -> Launch:
    conf = write(site, "h2o.conf", H2O.format(s=site, tls=if_tls(site, H2O_TLS)))
    return Launch([binary, "-c", conf], tls=True)


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
        {tls}
        root {s.root};
        location /back/ {{ proxy_pass http://127.0.0.1:{s.backend}/; }}
    }}
}}
"""


NGINX_TLS = "listen 127.0.0.1:{s.tls_port} ssl http2; ssl_certificate {s.cert}; ssl_certificate_key {s.key};"


def launch_nginx(binary: str, site: Site) -> Launch:
    user = "user root;" if os.geteuid() == 0 else ""
    conf = write(site, "nginx.conf", NGINX.format(s=site, user=user, tls=if_tls(site, NGINX_TLS)))
    return Launch([binary, "-p", str(site.temp), "-c", conf, "-e", str(site.temp / "error.log")],
                  h2_on_own_port=True, tls=True)


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
    {tls}
    http-request return status 200 content-type text/plain file {s.root}/small if {{ path /small }}
    http-request set-path %[path,regsub(^/back/,/)]
    default_backend back
backend back
    server one 127.0.0.1:{s.backend}
"""


def launch_haproxy(binary: str, site: Site) -> Launch:
    # The key is in FILE.key.
    tls = if_tls(site, "bind 127.0.0.1:{s.tls_port} ssl crt {s.cert} alpn h2,http/1.1")
    conf = write(site, "haproxy.cfg", HAPROXY.format(s=site, tls=tls))
    return Launch([binary, "-db", "-f", conf], large="/back/files/large.bin", h2_on_own_port=True,
                  tls=True)


CADDY = """\
{{
    admin off
    auto_https off
    servers {{
        protocols h1 h2 h2c
    }}
    log {{
        level WARN
    }}
}}
(site) {{
    bind 127.0.0.1
    handle_path /back/* {{
        reverse_proxy 127.0.0.1:{s.backend}
    }}
    handle {{
        root * {s.root}
        file_server
    }}
}}
http://:{s.port} {{
    import site
}}
{tls}
"""

CADDY_TLS = """\
https://:{s.tls_port} {{
    tls {s.cert} {s.key}
    import site
}}
"""


def launch_caddy(binary: str, site: Site) -> Launch:
    home = str(site.temp)
    conf = write(site, "Caddyfile", CADDY.format(s=site, tls=if_tls(site, CADDY_TLS)))
    return Launch([binary, "run", "--adapter", "caddyfile", "--config", conf], tls=True,
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
{tls}
"""

APACHE_TLS = """\
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
Listen 127.0.0.1:{s.tls_port}
<VirtualHost 127.0.0.1:{s.tls_port}>
    Protocols h2 http/1.1
    SSLEngine on
    SSLCertificateFile {s.cert}
    SSLCertificateKeyFile {s.key}
</VirtualHost>
"""


def launch_apache(binary: str, site: Site) -> Launch:
    modules = Path("/usr/lib/apache2/modules")
    if not modules.is_dir():
        raise Missing(f"apache2: no modules in {modules}")
    group = "nogroup" if any(g.gr_name == "nogroup" for g in grp.getgrall()) else "nobody"
    user = f"User nobody\nGroup {group}" if os.geteuid() == 0 else ""
    tls = if_tls(site, APACHE_TLS)
    conf = write(site, "httpd.conf", APACHE.format(s=site, modules=modules, user=user, tls=tls))
    return Launch([binary, "-f", conf, "-DFOREGROUND"], tls=True)


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
{tls}
"""

LIGHTTPD_TLS = """\
server.modules += ( "mod_openssl" )
$SERVER["socket"] == "127.0.0.1:{s.tls_port}" {{
    ssl.engine = "enable"
    ssl.pemfile = "{s.cert}"
    ssl.privkey = "{s.key}"
}}
"""


def launch_lighttpd(binary: str, site: Site) -> Launch:
    """One process: with server.max-worker the parent exits at the signal before its workers."""
    if site.tls_port and not LIGHTTPD_OPENSSL.exists():
        raise Missing(f"its TLS is not installed (Debian: {MODULES[LIGHTTPD_OPENSSL]})")
    conf = write(site, "lighttpd.conf", LIGHTTPD.format(s=site, tls=if_tls(site, LIGHTTPD_TLS)))
    return Launch([binary, "-D", "-f", conf], tls=True)


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
    tls = [f"127.0.0.1:{site.tls_port}", str(site.cert), str(site.key)] if site.tls_port else []
    return Launch([str(binary), f"127.0.0.1:{site.port}", str(site.root), *tls], slow="/slow?ms={ms}",
                  post="/upload", upload="/upload", env={"GOMAXPROCS": "2"}, tls=True)


def launch_node(binary: str, site: Site) -> Launch:
    tls = [str(site.tls_port), str(site.cert), str(site.key)] if site.tls_port else []
    return Launch([binary, str(SOURCES / "server.js"), str(site.port), str(site.root), *tls],
                  slow="/slow?ms={ms}", post="/upload", upload="/upload", tls=True)


def launch_gunicorn(binary: str, site: Site) -> Launch:
    """With a certificate all its listeners speak TLS: then it has only that one."""
    tls = ["--certfile", str(site.cert), "--keyfile", str(site.key)] if site.tls_port else []
    return Launch([binary, "--bind", f"127.0.0.1:{site.tls_port or site.port}", *tls, "--workers", "2",
                   "--worker-class", "gthread", "--threads", "32", "--worker-connections", "16384",
                   "--log-level", "warning", "--worker-tmp-dir", str(site.temp),
                   "--chdir", str(SOURCES), "server:application"],
                  slow="/slow?ms={ms}", post="/upload", upload="/upload", tls=True,
                  env={"DRAIN_ROOT": str(site.root), "PYTHONDONTWRITEBYTECODE": "1"})


def launch_bad(mode: str) -> Callable[[str, Site], Launch]:
    return lambda python, site: Launch(
        [python, str(SOURCES / "bad.py"), str(site.port), str(site.root), mode], slow="/slow?ms={ms}",
        post="/upload", upload="/upload", env={"PYTHONDONTWRITEBYTECODE": "1"})


def launch_on_taken_port(python: str, site: Site) -> Launch:
    """Another server has the port, and answers. It leaves with this process."""
    listener = socket.create_server(("127.0.0.1", site.port))

    def serve() -> None:
        while True:
            with listener.accept()[0] as sock:
                sock.recv(65536)
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(HELLO), HELLO))

    threading.Thread(target=serve, daemon=True).start()
    return launch_bad("good")(python, site)


TERM, QUIT, INT = signal.SIGTERM, signal.SIGQUIT, signal.SIGINT
FRONT = {"h2": True, "tls_h2": True, "proxies": True}  # servers that are put before others

PEERS: dict[str, Peer] = {peer.name: peer for peer in (
    Peer("lastcall", TERM, "lastcall", "", ("--version",), launch_lastcall, **FRONT),
    Peer("h2o", TERM, "h2o", "h2o", ("--version",), launch_h2o, **FRONT),
    Peer("nginx", QUIT, "nginx", "nginx-light", ("-v",), launch_nginx, **FRONT),
    Peer("haproxy", signal.SIGUSR1, "haproxy", "haproxy", ("-v",), launch_haproxy, **FRONT),
    Peer("caddy", TERM, "caddy", "caddy", ("version",), launch_caddy, **FRONT),
    Peer("apache", signal.SIGWINCH, "apache2", "apache2", ("-v",), launch_apache, **FRONT),
    Peer("lighttpd", INT, "lighttpd", "lighttpd", ("-v",), launch_lighttpd, **FRONT),
    Peer("go", TERM, "go", "golang-go", ("version",), launch_go, tls_h2=True),
    Peer("node", TERM, "node", "nodejs", ("--version",), launch_node),
    Peer("gunicorn", TERM, "gunicorn", "gunicorn", ("--version",), launch_gunicorn),
)}

# For the test of drain.py itself (drain_selftest.py): they run only where they are asked for by name.
TEST_PEERS: dict[str, Peer] = {name: Peer(name, TERM, "python3", "python3", ("--version",), launch)
                               for name, launch in (
    ("bad-good", launch_bad("good")), ("bad-cut", launch_bad("cut")),
    ("bad-hang-up", launch_bad("hang-up")), ("bad-drop-queue", launch_bad("drop-queue")),
    ("bad-mute", launch_bad("mute")), ("bad-start", launch_bad("no-start")),
    ("bad-port", launch_on_taken_port),
)}
ALL = {**PEERS, **TEST_PEERS}
UPSTREAM = Peer("upstream", TERM, "lastcall-upstream", "", (), lambda binary, site: Launch([binary]))


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


def missing_packages() -> list[str]:
    needed = {peer.program: peer.package for peer in PEERS.values() if peer.package}
    needed["openssl"] = "openssl"  # for the certificate
    return [package for program, package in needed.items() if shutil.which(program, path=SEARCH) is None] + [
        package for module, package in MODULES.items() if not module.exists()]


def install() -> int:
    """setup.sh knows how: as root, through sudo, or by hand, and without starting a service."""
    packages = missing_packages()
    if packages:
        setup = subprocess.Popen([SETUP, "packages", *packages], stdin=subprocess.DEVNULL)
        while setup.returncode is None:
            try:
                setup.wait()
            except KeyboardInterrupt:  # it got that too, and puts things back
                pass
        if setup.returncode != 0:
            return setup.returncode
        if missing := missing_packages():
            print(f"peers: still missing after the installation: {' '.join(missing)}", file=sys.stderr)
            return 69
    print("peers: all servers are installed")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description="The servers beside which lastcall is measured.")
    parser.add_argument("--install", action="store_true",
                        help="install what is missing with apt-get; no service is started")
    parser.add_argument("--lastcall", type=Path, default=HERE.parents[1] / "build/release/lastcall")
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
