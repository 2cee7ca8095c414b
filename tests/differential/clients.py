"""How a request gets to a server, and the answer back: HTTP/1 over sockets of our own, HTTP/2 by curl."""

from __future__ import annotations

import functools
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, Sequence

from cases import Case, Handshake, Raw
from servers import Server

H1, H1_TLS, H2, H2_TLS = "HTTP/1.1", "HTTP/1.1 TLS", "HTTP/2", "HTTP/2 TLS"
TRANSPORTS = (H1, H1_TLS, H2, H2_TLS)
ANSWER_S = 8.0  # how long an answer may keep us waiting
# A raw exchange ends with the server's close, if need be after a request that asks for it. Where a server
# leaves the connection open, that is part of what is compared, and known after this long without a byte.
OPEN_S = 2.0


@dataclass
class Answer:
    status: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    interim: list[str] = field(default_factory=list)


@dataclass
class Exchange:
    """All answers on a connection (one, if not pipelined), and how it ended."""

    answers: list[Answer]
    end: str
    took_s: float = 0.0


# ---- HTTP/1 ----


class Wire:
    """A stream of received bytes, read as HTTP/1 responses."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.data, self.end = sock, b"", ""

    def more(self) -> bool:
        if self.end:
            return False
        try:
            data = self.sock.recv(1 << 18)
            if not data:
                self.end = "closed"
        except TimeoutError:
            self.end = "left open"
            return False
        except ConnectionError:
            data = b""
            self.end = "closed"  # for the reader, a reset after the answer is like an end of file
        except ssl.SSLError as error:
            data = b""
            # An end without close_notify.
            self.end = "closed" if isinstance(error, ssl.SSLEOFError) else f"TLS: {error.reason}"
        self.data += data
        return bool(data)

    def take(self, count: int) -> bytes:
        while len(self.data) < count and self.more():
            pass
        part, self.data = self.data[:count], self.data[count:]
        return part

    def take_line(self) -> bytes:
        while b"\n" not in self.data and self.more():
            pass
        line, _, self.data = self.data.partition(b"\n")
        return line.rstrip(b"\r")

    def take_chunks(self) -> bytes:
        body = b""
        while True:
            size = self.take_line()
            try:
                count = int(size, 16)
            except ValueError:
                return body + b"<bad chunk size: " + size + b">"
            part = self.take(count)
            body += part
            if len(part) < count:
                return body + b"<cut>"
            if count == 0:
                while self.take_line():
                    pass
                return body
            self.take(2)

    def take_answer(self, method: str) -> Answer | None:
        """None at the end of the stream."""
        answer = Answer("")
        while True:
            line = self.take_line()
            if not line:
                if answer.interim:
                    return answer
                return None
            answer.status = line.decode("latin-1")
            answer.headers = []
            while (line := self.take_line()):
                name, _, value = line.decode("latin-1").partition(":")
                answer.headers.append((name.lower(), value[1:] if value.startswith(" ") else value))
            code = (answer.status.split(" ") + [""])[1]
            if code == "101" or not code.startswith("1"):
                break
            answer.interim.append(answer.status)
            answer.status = ""
        fields = dict(answer.headers)
        if code == "101":
            # From here on another protocol, which this reader does not parse.
            while self.more():
                pass
            self.data = b""
            return answer
        if method == "HEAD" or code in ("204", "304"):
            return answer
        if fields.get("transfer-encoding") == "chunked":
            answer.body = self.take_chunks()
        elif "content-length" in fields:
            count = int(fields["content-length"])
            answer.body = self.take(count)
            if len(answer.body) < count:
                answer.body += b"<cut>"
        else:
            while self.more():
                pass
            answer.body, self.data = self.data, b""
        return answer


@functools.cache
def tls_context(alpn: tuple[str, ...] = ("http/1.1",), minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
                maximum: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED, ciphers: str = "") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version, context.maximum_version = minimum, maximum
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if ciphers:
        context.set_ciphers(ciphers)
    return context


def connect(address: tuple[str, int] | str, context: ssl.SSLContext | None, name: str) -> socket.socket:
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(ANSWER_S)
        sock.connect(address)
    else:
        sock = socket.create_connection(address, timeout=ANSWER_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is None:
        return sock
    try:
        # A name that TLS does not allow as SNI goes only into the request.
        return context.wrap_socket(sock, server_hostname=name if name[:1].isalnum() else None)
    except OSError:
        sock.close()
        raise


def run_h1(server: Server, case: Case, tls: bool, mark: str) -> Exchange:
    fields = [("Host", case.host), ("User-Agent", "differential"), ("X-Case", mark), *case.headers]
    body = case.body or b""
    if case.chunked:
        fields.append(("Transfer-Encoding", "chunked"))
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in pieces(body)) + b"0\r\n\r\n"
    elif case.body is not None:
        fields.append(("Content-Length", str(len(body))))
    lines = [f"{case.method} {case.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
    data = "\r\n".join(lines).encode("latin-1") + body
    began = time.monotonic()
    try:
        with connect(server.address(case.port), tls_context() if tls else None, case.host.partition(":")[0]) as sock:
            sock.sendall(data)
            wire = Wire(sock)
            answer = wire.take_answer(case.method)
            end = wire.end or "answered"
            if wire.data:
                end += f", {len(wire.data)} bytes too many"
    except OSError as error:
        return Exchange([], f"{type(error).__name__}: {error.strerror or error}")
    return Exchange([answer] if answer else [], end, time.monotonic() - began)


def pieces(body: bytes) -> Iterator[bytes]:
    """Of growing length, from one byte to many thousand."""
    at, size = 0, 1
    while at < len(body):
        yield body[at:at + size]
        at, size = at + size, min(size * 7, 20_000)


def run_raw(server: Server, case: Raw) -> Exchange:
    began = time.monotonic()
    answers: list[Answer] = []
    context = tls_context(maximum=case.maximum) if case.tls else None
    try:
        with connect(server.address(case.port), context, case.name_indication) as sock:
            wire = Wire(sock)
            for part in case.parts:
                if isinstance(part, bytes):
                    try:
                        sock.sendall(part)
                    except ConnectionError:
                        break  # it has answered and closed; its answer can still be read
                elif part == "answer":
                    answer = wire.take_answer(case.method_of(len(answers)))
                    if answer is not None:
                        answers.append(answer)
                elif part == "interim":
                    answers.append(Answer(wire.take_line().decode("latin-1")))
                    while wire.take_line():
                        pass
                elif part == "end":
                    sock.shutdown(socket.SHUT_WR)
                else:
                    time.sleep(float(part))
            sock.settimeout(OPEN_S)
            while (answer := wire.take_answer(case.method_of(len(answers)))) is not None:
                answers.append(answer)
            end = wire.end or "answered"
    except OSError as error:
        end = f"{type(error).__name__}: {error.strerror or error}"
    return Exchange(answers, end, time.monotonic() - began)


def run_handshake(server: Server, case: Handshake) -> Exchange:
    """What the handshake agreed on, as the headers of an answer."""
    context = tls_context(case.alpn, case.minimum, case.maximum, case.ciphers)
    try:
        with socket.create_connection(server.address(case.port), timeout=ANSWER_S) as sock, \
                context.wrap_socket(sock, server_hostname=case.server_name) as tls:
            certificate = tls.getpeercert(binary_form=True) or b""
            answer = Answer("handshake", [
                ("version", str(tls.version())), ("cipher", str(tls.cipher())),
                ("alpn", str(tls.selected_alpn_protocol())), ("compression", str(tls.compression()))],
                certificate)
            return Exchange([answer], "established")
    except ssl.SSLError as error:
        return Exchange([], f"refused: {error.reason}")
    except OSError as error:
        return Exchange([], f"refused: {error.strerror or error}")


# ---- HTTP/2 ----


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def curl_lines(server: Server, case: Case, transport: str, mark: str, stem: Path) -> list[str]:
    scheme, port = ("https", "TLS") if transport == H2_TLS else ("http", "CLEAR")
    lines = [
        f"url = {quoted(f'{scheme}://{case.host}/')}",
        f"connect-to = {quoted(f'::127.0.0.1:{server.ports[port]}')}",
        f"request-target = {quoted(case.target)}",
        "http2" if transport == H2_TLS else "http2-prior-knowledge",
        "insecure", "silent", "globoff", f"max-time = {ANSWER_S}",
        'user-agent = "differential"', 'header = "Accept:"', f"header = {quoted('X-Case: ' + mark)}",
        f"dump-header = {quoted(str(stem) + '.head')}", f"output = {quoted(str(stem) + '.body')}",
        'write-out = "%{exitcode} %{http_version} %{time_total}\\n"',
    ]
    if case.method == "HEAD":
        lines.append("head")
    elif case.method != "GET" or case.body is not None:
        lines.append(f"request = {quoted(case.method)}")
    for name, value in case.headers:
        # An empty value would take the field out instead.
        lines.append(f"header = {quoted(f'{name}: {value}' if value else f'{name};')}")
    if case.body is not None:
        sent = Path(f"{stem}.sent")
        sent.write_bytes(case.body)
        lines += ['header = "Content-Type:"', 'header = "Expect:"']
        if case.chunked:
            # Makes curl leave the length out; HTTP/2 has no such field, and curl does not send it.
            lines += [f"upload-file = {quoted(str(sent))}", 'header = "Transfer-Encoding: chunked"',
                      f"request = {quoted(case.method)}"]
        else:
            lines.append(f"data-binary = {quoted('@' + str(sent))}")
    return lines


# Which of 52, 55 and 56 it is depends on how far curl was when the connection ended.
CURL_ENDS = {"0": "answered", "18": "cut short", "28": "timed out", "52": "connection ended",
             "55": "connection ended", "56": "connection ended", "92": "stream reset"}


def run_curl(server: Server, cases: Sequence[tuple[Case, str]], transport: str, folder: Path) -> list[Exchange]:
    """One curl for all of them, one after the other, so that connections are used again."""
    folder.mkdir(parents=True)
    config: list[str] = []
    for number, (case, mark) in enumerate(cases):
        if number > 0:
            config.append("next")
        config += curl_lines(server, case, transport, mark, folder / str(number))
    (folder / "config").write_text("\n".join(config) + "\n", encoding="latin-1")
    done = subprocess.run(
        ["curl", "--disable", "--noproxy", "*", "--config", str(folder / "config")],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder,
        timeout=len(cases) * ANSWER_S + 10, check=False)
    results = done.stdout.decode().splitlines()
    if len(results) != len(cases):
        raise RuntimeError(f"curl ended with {done.returncode} after {len(results)} of {len(cases)} requests: "
                           + done.stderr.decode(errors="replace").strip())
    exchanges = []
    for number, (case, _) in enumerate(cases):
        code, version, took = results[number].split(" ")
        answer = read_head(folder / f"{number}.head")
        body = folder / f"{number}.body"
        if answer is not None and case.method != "HEAD" and body.exists():  # there it is the head again
            answer.body = body.read_bytes()
        if code not in CURL_ENDS:
            raise RuntimeError(f"curl failed by itself, with {code}: {transport}, {case.name}")
        end = f"{CURL_ENDS[code]}, HTTP/{version}"
        exchanges.append(Exchange([answer] if answer else [], end, float(took)))
    return exchanges


def read_head(path: Path) -> Answer | None:
    if not path.exists():
        return None
    answer: Answer | None = None
    interim: list[str] = []
    for line in path.read_bytes().decode("latin-1").split("\n"):
        line = line.rstrip("\r")
        if line.startswith("HTTP/"):
            if answer is not None:
                interim.append(answer.status)
            answer = Answer(line.strip())
        elif line and answer is not None:
            name, _, value = line.partition(":")
            answer.headers.append((name.lower(), value[1:] if value.startswith(" ") else value))
    if answer is not None:
        answer.interim = interim
    return answer
