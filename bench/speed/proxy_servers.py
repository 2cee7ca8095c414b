"""The servers of proxy.py: the same three upstreams behind each, kept connections, no access log, one thread."""

import os
import re
import subprocess

import speed_servers
from speed_servers import BODY, Broken, Server, first_match, need_built, need_program, peers, write

LARGE_BYTES, HUGE_BYTES = 1 << 20, 100 << 20
PATHS = {"small": "/small/", "large": "/large/large.bin", "huge": "/large/huge.bin"}

LIBRARY_CONF = """\
num-threads: {threads}
max-connections: 4096
listen: {{host: 127.0.0.1, port: {port}}}
hosts:
  default:
    paths:
      /small: {{proxy.reverse.url: "http://127.0.0.1:{small}/", proxy.timeout.keepalive: 60000}}
      /large: {{proxy.reverse.url: "http://127.0.0.1:{large}/", proxy.timeout.keepalive: 60000}}
"""

NGINX_HEAD = """\
daemon off;
{user}
worker_processes {threads};
worker_rlimit_nofile 20000;
pid {temp}/{name}.pid;
error_log {temp}/{name}.log;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000000;
    client_body_temp_path {temp}/{name}-body;
    proxy_temp_path {temp}/{name}-proxy;
    fastcgi_temp_path {temp}/{name}-fastcgi;
    uwsgi_temp_path {temp}/{name}-uwsgi;
    scgi_temp_path {temp}/{name}-scgi;
"""

NGINX_CONF = NGINX_HEAD + """\
    upstream small {{ server 127.0.0.1:{small}; keepalive 256; keepalive_requests 1000000000; }}
    upstream large {{ server 127.0.0.1:{large}; keepalive 256; keepalive_requests 1000000000; }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{h2_port} http2;
        location /small/ {{ proxy_pass http://small/; }}
        location /large/ {{ proxy_pass http://large/; }}
    }}
}}
"""

FILES_CONF = NGINX_HEAD + """\
    server {{ listen 127.0.0.1:{port}; root {temp}/root; }}
}}
"""

HAPROXY_CONF = """\
global
    nbthread {threads}
    maxconn 8192
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend front
    bind 127.0.0.1:{port}
    bind 127.0.0.1:{h2_port} proto h2
    use_backend large if {{ path_beg /large/ }}
    default_backend small
backend small
    http-request set-path %[path,regsub(^/small/,/)]
    server s 127.0.0.1:{small}
backend large
    http-request set-path %[path,regsub(^/large/,/)]
    server s 127.0.0.1:{large}
"""


class Site:
    """Where everything is, and the ports of the upstreams."""

    def __init__(self, options, temp, core, load_core):
        self.options, self.temp, self.core, self.load_core = options, temp, core, load_core
        self.user = "user root;" if os.geteuid() == 0 else ""
        self.small = self.large = None
        self.servers = []

    def values(self, name, **more):
        return {"temp": self.temp, "threads": self.options.threads, "user": self.user, "name": name,
                "small": self.small and self.small.port, "large": self.large and self.large.port, **more}

    def start(self, name, version, command, port, core, h2_port=None):
        server = Server(name, PATHS["small"], version, command, port, os.path.join(self.temp, f"{name}.out"), core)
        server.h2_port = h2_port or port
        self.servers.append(server)
        return server

    def stop(self):
        for server in self.servers:
            server.stop()


def start_upstreams(site):
    """Small answers come from lastcall-upstream, files from nginx."""
    root = os.path.join(site.temp, "root")
    os.mkdir(root)
    with open(os.path.join(root, "large.bin"), "wb") as file:
        file.write(b"0123456789abcdef" * (LARGE_BYTES // 16))
    with open(os.path.join(root, "huge.bin"), "wb") as file:
        file.truncate(HUGE_BYTES)
    port, files_port = peers.free_ports(2)
    site.small = site.start("upstream", "", [need_built(site.options.upstream, "lastcall-upstream"), "--port", str(port)],
                            port, site.load_core)
    site.small.path = "/"
    conf = write(os.path.join(site.temp, "files.conf"), FILES_CONF.format(**site.values("files", port=files_port)))
    site.large = site.start("files", "", [need_program("nginx", "nginx-light"), "-p", site.temp, "-c", conf,
                                          "-e", os.path.join(site.temp, "files.log")], files_port, site.load_core)
    site.small.wait_until_up(BODY)


def start_library(site, name):
    binary = (need_built(site.options.lastcall, "lastcall") if name == "lastcall" else need_program("h2o", "h2o"))
    port, = peers.free_ports(1)
    conf = write(os.path.join(site.temp, f"{name}.conf"), LIBRARY_CONF.format(**site.values(name, port=port)))
    return site.start(name, first_match([binary, "--version"], r"(?:version|lastcall) (\S+)"), [binary, "-c", conf],
                      port, site.core)


def start_nginx(site):
    binary = need_program("nginx", "nginx-light")
    port, h2_port = peers.free_ports(2)
    conf = write(os.path.join(site.temp, "nginx.conf"),
                 NGINX_CONF.format(**site.values("nginx", port=port, h2_port=h2_port)))
    return site.start("nginx", first_match([binary, "-v"], r"nginx/(\S+)"),
                      [binary, "-p", site.temp, "-c", conf, "-e", os.path.join(site.temp, "nginx.log")],
                      port, site.core, h2_port)


def start_haproxy(site):
    binary = need_program("haproxy", "haproxy")
    port, h2_port = peers.free_ports(2)
    conf = write(os.path.join(site.temp, "haproxy.cfg"),
                 HAPROXY_CONF.format(**site.values("haproxy", port=port, h2_port=h2_port)))
    return site.start("haproxy", first_match([binary, "-v"], r"version (\S+)"), [binary, "-db", "-f", conf],
                      port, site.core, h2_port)


STARTS = {"lastcall": lambda site: start_library(site, "lastcall"), "h2o": lambda site: start_library(site, "h2o"),
          "nginx": start_nginx, "haproxy": start_haproxy}


def start_all(site, names):
    start_upstreams(site)
    servers = {}
    for name in names:
        servers[name] = STARTS[name](site)
        servers[name].wait_until_up(BODY)
        status, body = servers[name].probe(PATHS["large"])
        if status != 200 or len(body) != LARGE_BYTES:
            raise Broken(f"{name} answers {PATHS['large']} with {status} and {len(body)} bytes")
    return servers


# ---- what a server holds ----


def memory_kb(server):
    """Proportional set size of the process and its children: shared pages count once."""
    total = 0
    for pid in speed_servers.tree(server.process.pid):
        with open(f"/proc/{pid}/smaps_rollup") as file:
            total += int(re.search(r"^Pss:\s+(\d+)", file.read(), re.MULTILINE).group(1))
    return total


def disk_kb(server):
    """Files that its processes have open for writing, whether they have a name or not."""
    total = 0
    for pid in speed_servers.tree(server.process.pid):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{fd}"
            try:
                stat = os.stat(path)
                if "(deleted)" in os.readlink(path) or "-proxy/" in os.readlink(path):
                    total += stat.st_blocks // 2
            except OSError:
                continue
    return total


def count_calls(server, seconds):
    """System calls of all its processes by name, by strace."""
    pids = ",".join(map(str, speed_servers.tree(server.process.pid)))
    done = subprocess.run(["timeout", "-s", "INT", str(seconds), need_program("strace", "strace"), "-c", "-f", "-q",
                           "-p", pids], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    rows = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", done.stderr, re.MULTILINE)
    return {name: int(count) for count, name in rows if name != "total"}
