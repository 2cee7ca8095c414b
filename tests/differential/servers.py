"""The two servers: their ports, their configuration, their start and their end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONFIGS = ("files", "proxy", "forwarded", "hosts", "limits", "defaults")
PORTS = {"forwarded": ("CLEAR", "TLS", "THIRD"), "hosts": ("CLEAR", "TLS", "THIRD", "FOURTH")}
START_S = 10.0
STOP_S = 3.0  # nothing is in flight by then
LOG_TAIL_BYTES = 1500

# One line a request: what the request was, what was answered, and nothing that time or chance decides.
LOG_FORMAT = ('%{x-case}i "%r" %m %U %q %H %V %v %s %b %h %l %u "%{referer}i" "%{user-agent}i" '
              '"%{content-type}o" "%{set-cookie}o" "%{nothing}i" "%{location}o" %{http1.request-index}x '
              '%{ssl.protocol-version}x %{ssl.cipher}x %{ssl.cipher-bits}x "%{STAGE}e" "%{error}x" %%')

COMMON = """\
num-threads: 2
access-log:
  path: @LOGS@/access.log
  format: '@FORMAT@'
error-log: @LOGS@/error.log
listen:
  host: 127.0.0.1
  port: @CLEAR@
listen:
  host: 127.0.0.1
  port: @TLS@
  ssl:
    certificate-file: @TMP@/one.crt
    key-file: @TMP@/one.key
    # Where the helper process with the keys belongs to 2.2.5, it fails at RSA key exchange with OpenSSL 3.
    neverbleed: OFF
"""


CLAIMS: list[socket.socket] = []  # open until this program ends


def claim(port: int) -> None:
    """Keep other test programs from the port until a server listens there: tests/support/loopback.c."""
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0lastcall-test-port-{port}")
    except OSError:
        name.close()
        raise
    CLAIMS.append(name)


def free_ports(count: int) -> list[int]:
    """Below the range that clients get theirs from, so that no client ever sits on a server's port."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        top = min(int(file.read().split()[0]), 32768)
    held: list[socket.socket] = []
    while len(held) < count:
        port = 10000 + int.from_bytes(os.urandom(4), "big") % (top - 10000)
        sock = socket.socket()
        try:
            sock.bind(("127.0.0.1", port))
            claim(port)
            held.append(sock)
        except OSError:
            sock.close()
    ports = [sock.getsockname()[1] for sock in held]
    for sock in held:
        sock.close()
    return ports


def fill(text: str, values: dict[str, object]) -> str:
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text


@dataclass
class Server:
    """One process: a side (A or B) with one of the configurations."""

    side: str
    config: str
    binary: str
    logs: Path
    ports: dict[str, int]
    process: subprocess.Popen[bytes] | None = None
    stopped: str = "not started"
    # Names the ports of this process in whatever it sends: "127.0.0.1:8443" and the like.
    own: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def conf(self) -> Path:
        return self.logs / f"{self.config}.conf"

    def address(self, port: str) -> tuple[str, int] | str:
        return str(self.logs / "listen.sock") if port == "UNIX" else ("127.0.0.1", self.ports[port])

    def start(self) -> None:
        with open(self.logs / "output", "wb") as output:
            self.process = subprocess.Popen(
                [self.binary, "-c", str(self.conf)], cwd=self.logs, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True)

    def wait_ready(self) -> str | None:
        """None once every port accepts; else why that will not be."""
        assert self.process is not None
        until = time.monotonic() + START_S
        for port in self.ports.values():
            while True:
                if self.process.poll() is not None:
                    return f"exited with status {self.process.returncode}: {self.complaint()}"
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    if time.monotonic() > until:
                        return f"does not accept on port {port} after {START_S:.0f} s: {self.complaint()}"
                    time.sleep(0.01)
        return None

    def complaint(self) -> str:
        """What it wrote, at most the end of it."""
        text = b""
        for name in ("output", "error.log"):
            if (self.logs / name).exists():
                text += (self.logs / name).read_bytes()
        return text[-LOG_TAIL_BYTES:].decode(errors="replace").strip()

    def begin_stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def finish_stop(self) -> None:
        """Waits for the exit, and kills the rest of its process group, which includes its helpers."""
        if self.process is None:
            return
        try:
            self.stopped = f"exit status {self.process.wait(STOP_S)}"
        except subprocess.TimeoutExpired:
            self.stopped = f"killed, still there {STOP_S:.0f} s after SIGTERM"
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def make_server(side: str, config: str, binary: str, temp: Path, shared: dict[str, object]) -> Server:
    logs = temp / side / config
    logs.mkdir(parents=True)
    logs.chmod(0o777)
    names = PORTS.get(config, ("CLEAR", "TLS"))
    ports = dict(zip(names, free_ports(len(names))))
    values = {**shared, **ports, "LOGS": logs, "TMP": temp, "DOCS": temp / "docs", "FORMAT": LOG_FORMAT}
    server = Server(side, config, binary, logs, ports)
    server.own = [(b":%d" % port, b":PORT-%s" % name.encode()) for name, port in ports.items()]
    for name in (config, "included"):
        text = (HERE / f"{name}.conf").read_text(encoding="utf-8").replace("@COMMON@", COMMON)
        (logs / f"{name}.conf").write_text(fill(text, values), encoding="utf-8")
    return server
