"""The servers of throughput.py: their configurations, how to start them, their CPU time."""

import http.client
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
import peers
from peer_server import http_get

BODY = b"Hello World\n"
START_PATIENCE_S = 5.0
STOP_PATIENCE_S = 5.0
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")

H2O_CONF = """\
num-threads: {threads}
listen:
  host: 127.0.0.1
  port: {port}
hosts:
  default:
    paths:
      /:
        file.dir: {root}
"""
# For lastcall and for h2o. If root starts them, both run as nobody.
SAME_CONF = """\
num-threads: {threads}
listen:
  host: 127.0.0.1
  port: {port}
listen:
  host: 127.0.0.1
  port: {tls_port}
  ssl:
    certificate-file: {temp}/tls.pem
    key-file: {temp}/tls.key
    ocsp-update-interval: 0
hosts:
  default:
    paths:
      /back:
        proxy.reverse.url: http://127.0.0.1:{upstream}/
        proxy.timeout.keepalive: 60000
      /:
        file.dir: {root}
"""
NGINX_CONF = """\
daemon off;
worker_processes {threads};
pid {temp}/nginx.pid;
error_log {temp}/nginx.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000000;
    types {{ text/plain txt; }}
    client_body_temp_path {temp}/nginx-body;
    proxy_temp_path {temp}/nginx-proxy;
    fastcgi_temp_path {temp}/nginx-fastcgi;
    uwsgi_temp_path {temp}/nginx-uwsgi;
    scgi_temp_path {temp}/nginx-scgi;
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{h2_port} http2;
        root {root};
        location = /hello {{ default_type text/plain; return 200 "Hello World\\n"; }}
    }}
}}
"""


class Missing(Exception):
    """Something that the benchmark needs is missing."""


class Broken(Exception):
    """A server that does not start or does not answer: there is nothing to measure."""


def tree(pid):
    """`pid` and its children, which serve in nginx."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [pid] + [int(child) for child in file.read().split()]
    except OSError:
        return [pid]


def cpu_by_thread(pid):
    """Seconds on a core of each thread of the server."""
    seconds = {}
    for process in tree(pid):
        for thread in os.listdir(f"/proc/{process}/task"):
            with open(f"/proc/{process}/task/{thread}/schedstat") as file:
                seconds[thread] = int(file.read().split()[0]) / 1e9
    return seconds


def on_core(core, command):
    return command if core is None else ["taskset", "-c", str(core)] + command


class Server:
    def __init__(self, name, path, version, command, port, log, core=None, env=None):
        self.name, self.path, self.version, self.port = name, path, version, port
        self.log = log
        self.h2_port = port  # cleartext, with prior knowledge
        self.tls_port = self.upstream = None  # where it has them
        with open(log, "wb") as out:
            self.process = subprocess.Popen(
                on_core(core, command), stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, env={**os.environ, **(env or {})})

    def probe(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_PATIENCE_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def wait_until_up(self, expect):
        until = time.monotonic() + START_PATIENCE_S
        got = None
        while time.monotonic() < until and self.process.poll() is None:
            try:
                got = self.probe(self.path)
                break
            except OSError:
                time.sleep(0.02)
        if got != (200, expect):
            with open(self.log, errors="replace") as file:
                said = file.read().strip()[-500:]
            raise Broken(f"{self.name} does not serve {self.path} (answer: {got}); its output: {said}")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def first_match(command, pattern):
    """Programs print their version on either stream."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    match = re.search(pattern, done.stdout)
    return match.group(1) if match else "?"


def need_program(name, package):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise Missing(f"{name} is missing. Install it with: apt-get install {package}")
    return path


def need_built(path, target):
    if not os.access(path, os.X_OK):
        raise Missing(f"{path} is missing. Build it with: "
                      f"cmake --preset release && cmake --build --preset release --target {target}")
    return path


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return path


def start_lastcall(options, temp, threads, core=None):
    binary = need_built(options.lastcall, "lastcall")
    port, = peers.free_ports(1)
    return Server("lastcall", "/hello", first_match([binary, "--version"], r"lastcall (\S+)"),
                  [binary, "--quiet", "--listen", f"127.0.0.1:{port}", "--threads", str(threads)],
                  port, os.path.join(temp, f"lastcall-{threads}.out"), core)


def start_bare(options, temp, threads, core=None):
    binary = need_built(options.bare, "lastcall-bare-h2o")
    port, = peers.free_ports(1)
    library = first_match([options.lastcall, "--version"], r"libh2o: (\S+)")
    return Server("bare-h2o", "/hello", f"libh2o {library}",
                  [binary, "--port", str(port), "--threads", str(threads)],
                  port, os.path.join(temp, f"bare-h2o-{threads}.out"), core)


def start_h2o(_options, temp, threads):
    binary = need_program("h2o", "h2o")
    port, = peers.free_ports(1)
    conf = write(os.path.join(temp, "h2o.conf"),
                 H2O_CONF.format(threads=threads, port=port, root=os.path.join(temp, "root")))
    return Server("h2o", "/hello.txt", first_match([binary, "--version"], r"version (\S+)"),
                  [binary, "-c", conf], port, os.path.join(temp, "h2o.out"))


def start_conf(options, temp, name, upstream, threads, core=None):
    """`lastcall` or `h2o`, with the configuration that both understand."""
    binary = (need_built(options.lastcall, "lastcall") if name == "lastcall"
              else need_program("h2o", "h2o"))
    # Below the range that wrk's connections come from.
    port, tls_port = peers.free_ports(2)
    conf = write(os.path.join(temp, f"{name}-{port}.conf"),
                 SAME_CONF.format(threads=threads, port=port, tls_port=tls_port, temp=temp,
                                  root=os.path.join(temp, "root"), upstream=upstream.port))
    version = first_match([binary, "--version"], r"(?:version|lastcall) (\S+)")
    server = Server(name, "/hello.txt", version, [binary, "-c", conf], port,
                    os.path.join(temp, f"{name}-{port}.out"), core)
    server.tls_port, server.upstream = tls_port, upstream
    return server


def start_upstream(options, temp, core=None):
    binary = need_built(options.upstream, "lastcall-upstream")
    port, = peers.free_ports(1)
    return Server("upstream", "/", "", [binary, "--port", str(port)], port,
                  os.path.join(temp, f"upstream-{port}.out"), core)


def start_pair(options, temp, servers, threads, core=None, upstream_core=None):
    """Lastcall and h2o with the same file. Whatever is in `servers` is stopped in the end."""
    certificate = Path(temp, "tls.pem")
    peers.make_certificate(certificate, Path(temp, "tls.key"))
    upstream = start_upstream(options, temp, upstream_core)
    servers.append(upstream)
    upstream.wait_until_up(BODY)
    pair = []
    for name in ("lastcall", "h2o"):
        server = start_conf(options, temp, name, upstream, threads, core)
        servers.append(server)
        pair.append(server)
        server.wait_until_up(BODY)
        for got in (http_get(server.port, "/back/"),
                    http_get(server.tls_port, server.path, trust=certificate)):
            if got != (200, BODY):
                raise Broken(f"{name} with the common configuration answers wrongly: {got}")
    return pair


def start_nginx(_options, temp, threads, core=None):
    binary = need_program("nginx", "nginx-light")
    port, h2_port = peers.free_ports(2)
    conf = write(os.path.join(temp, "nginx.conf"),
                 NGINX_CONF.format(threads=threads, port=port, h2_port=h2_port, temp=temp,
                                   root=os.path.join(temp, "root")))
    server = Server("nginx", "/hello.txt", first_match([binary, "-v"], r"nginx/(\S+)"),
                    [binary, "-p", temp, "-c", conf, "-e", os.path.join(temp, "nginx.log")],
                    port, os.path.join(temp, "nginx.out"), core)
    server.h2_port = h2_port
    return server


def start_all(options, temp, servers):
    """Append to `servers` as they start, so that the caller can stop them whatever happens."""
    skipped = {}
    for start in (start_lastcall, start_bare):
        servers.append(start(options, temp, options.threads))
    for name, start in (("h2o", start_h2o), ("nginx", start_nginx)):
        if name in options.skip:
            skipped[name] = "asked to"
            continue
        try:
            servers.append(start(options, temp, options.threads))
        except Missing as missing:
            skipped[name] = str(missing)
    for server in servers:
        server.wait_until_up(BODY)
    return skipped
