"""The HTTP server behind the proxies: it echoes the request, or answers in one of many odd ways.

It speaks HTTP/1 by hand, because the point is how things look on the wire. It listens on TCP, on TCP with
TLS and on a Unix-domain socket, a thread a connection. Nothing it sends depends on the time, on the
client's port, or on which server asks.
"""

from __future__ import annotations

import hashlib
import re
import socket
import socketserver
import ssl
import threading
import time
from pathlib import Path
from typing import BinaryIO, Callable
from urllib.parse import parse_qs, urlsplit

from fixtures import pattern, zipped

ECHO_MOST = 20_000  # longer bodies are named by length and digest
SLOW_S = 0.6
LATE_S = 0.15
DATE = "Mon, 02 Jan 2017 03:04:05 GMT"  # a server that passes it on, and one that does not, differ


class Request:
    def __init__(self, file: BinaryIO) -> None:
        line = file.readline(100_000).decode("latin-1").rstrip("\r\n")
        if not line:
            raise EOFError
        self.line = line
        self.method, self.target = (line.split(" ") + ["", ""])[:2]
        self.lines: list[str] = []
        while (field := file.readline(100_000).decode("latin-1").rstrip("\r\n")):
            self.lines.append(field)
        fields = {name.strip().lower(): value.strip()
                  for name, _, value in (text.partition(":") for text in self.lines)}
        self.keep = "close" not in fields.get("connection", "").lower()
        if "chunked" in fields.get("transfer-encoding", ""):
            self.body = read_chunks(file)
        else:
            self.body = file.read(int(fields.get("content-length", "0")))
        self.url = urlsplit(self.target)
        self.query = {name: values[-1] for name, values in parse_qs(self.url.query, True).items()}

    def echo(self) -> bytes:
        body = self.body
        if len(body) > ECHO_MOST:
            body = b"%d bytes, %s" % (len(body), hashlib.sha256(body).hexdigest().encode())
        # h2o does not send this one (docs/proxy.md).
        lines = [line for line in self.lines if not line.lower().startswith("x-forwarded-host:")]
        return "\n".join([self.line, *lines, "", ""]).encode("latin-1") + body + b"\n"


def read_chunks(file: BinaryIO) -> bytes:
    body = b""
    while (size := int(file.readline(100).split(b";")[0], 16)) != 0:
        body += file.read(size)
        file.readline(10)
    while file.readline(1000).strip():
        pass
    return body


class Reply:
    """Bytes on the wire; the connection stays open after them, unless `close`.

    What is wrong with an answer comes `late`, once the beginning has gone through the proxy: whether a
    client sees the beginning of a broken answer must not depend on chance.
    """

    def __init__(self, data: bytes, close: bool = False, late: bytes | None = None) -> None:
        self.data, self.close, self.late = data, close or late is not None, late


def head(status: str, *fields: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"Date: {DATE}", *fields, "", ""]).encode("latin-1")


def sized(status: str, body: bytes, *fields: str, kind: str = "text/plain") -> Reply:
    return Reply(head(status, f"Content-Type: {kind}", f"Content-Length: {len(body)}", *fields) + body)


def chunks(body: bytes, size: int, end: bytes = b"0\r\n\r\n") -> bytes:
    parts = [body[at:at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + end


TEXT = pattern(5000)
HTML = b"<p>a paragraph that compresses well</p>\n" * 100


def reply_echo(request: Request) -> Reply:
    return sized("200 OK", request.echo())


def reply_size(request: Request) -> Reply:
    return sized("200 OK", pattern(int(request.query.get("bytes", "5000"))), kind="application/octet-stream")


def reply_chunked(request: Request) -> Reply:
    size = int(request.query.get("size", "700"))
    total = int(request.query.get("bytes", "5000"))
    return Reply(head("200 OK", "Content-Type: text/plain", "Transfer-Encoding: chunked")
                 + chunks(pattern(total), size))


def reply_redirect(request: Request) -> Reply:
    place = request.query["to"].replace("SELF", request_host(request))
    return sized(request.query.get("status", "302 Found"), b"moved\n", f"Location: {place}")


def request_host(request: Request) -> str:
    for line in request.lines:
        if line.lower().startswith("host:"):
            return line[5:].strip()
    return ""


def reply_slow(request: Request) -> Reply:
    time.sleep(float(request.query.get("seconds", SLOW_S)))
    return sized("200 OK", b"slow\n")


def reply_fields(_: Request) -> Reply:
    return sized(
        "200 OK", b"fields\n",
        "Server: upstream/1", "X-Powered-By: patience", "Set-Cookie: a=1; Path=/", "Set-Cookie: b=2",
        "Vary: Cookie", "X-Empty:", "x-lower: l", "X-UPPER: U", "X-Spaces:    wide    ", "X-Twice: 1",
        "X-Twice: 2", "Cache-Control: max-age=3", "Last-Modified: Fri, 14 Jul 2017 02:40:00 GMT",
        'ETag: "of-the-upstream"', "Accept-Ranges: none", "Content-Language: en", "Age: 7",
        "Link: </style.css>; rel=preload; nopush", "Via: 1.0 beyond", "Warning: 110 - \"stale\"",
        "Strict-Transport-Security: max-age=1")


def reply_hop_by_hop(_: Request) -> Reply:
    return sized("200 OK", b"hop\n", "Connection: keep-alive, X-Hop", "Keep-Alive: timeout=9", "X-Hop: 1",
                 "Proxy-Authenticate: Basic", "Upgrade: h9", "Proxy-Connection: keep-alive", "X-End: 2")


def reply_reproxy(request: Request) -> Reply:
    status = request.query.get("status", "200 OK")
    place = request.query["to"].replace("SELF", request_host(request))
    return sized(status, b"this must be replaced\n", f"X-Reproxy-URL: {place}", "X-First: yes")


def reply_kind(request: Request) -> Reply:
    fields = [f"X-Compress-Hint: {request.query['hint']}"] if "hint" in request.query else []
    return sized("200 OK", HTML, 'ETag: "strong"', "Accept-Ranges: bytes", *fields,
                 kind=request.query.get("type", "text/html"))


def reply_status(request: Request) -> Reply:
    return sized(request.query["is"], b"a body of its own\n")


def fixed(reply: Reply) -> Callable[[Request], Reply]:
    return lambda _: reply


REPLIES: dict[str, Callable[[Request], Reply]] = {
    "echo": reply_echo,
    "plain": fixed(sized("200 OK", b"plain\n")),
    "size": reply_size,
    "chunked": reply_chunked,
    "chunk-extensions": fixed(Reply(
        head("200 OK", "Content-Type: text/plain", "Transfer-Encoding: chunked", "Trailer: X-Late")
        + b"5;name=value\r\nfirst\r\n6\r\nsecond\r\n0\r\nX-Late: yes\r\n\r\n")),
    "chunked-cut": fixed(Reply(
        head("200 OK", "Content-Type: text/plain", "Transfer-Encoding: chunked") + b"5\r\nfirst\r\n",
        late=b"")),
    "chunked-bad": fixed(Reply(
        head("200 OK", "Content-Type: text/plain", "Transfer-Encoding: chunked")
        + b"5\r\nfirst\r\n", late=b"zz\r\n")),
    "until-close": fixed(Reply(head("200 OK", "Content-Type: text/plain") + TEXT, close=True)),
    "http-1.0": fixed(Reply(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold\n", close=True)),
    "says-close": fixed(Reply(
        head("200 OK", "Content-Type: text/plain", "Content-Length: 4", "Connection: close") + b"end\n",
        close=True)),
    "cut": fixed(Reply(
        head("200 OK", "Content-Type: text/plain", "Content-Length: 100") + b"too short\n",
        late=b"")),
    "empty": fixed(sized("200 OK", b"")),
    "204": fixed(Reply(head("204 No Content"))),
    "205": fixed(Reply(head("205 Reset Content", "Content-Length: 0"))),
    "304": fixed(Reply(head("304 Not Modified", 'ETag: "same"'))),
    "304-with-length": fixed(Reply(head("304 Not Modified", "Content-Length: 50"))),
    "redirect": reply_redirect,
    "slow": reply_slow,
    "fields": reply_fields,
    "hop-by-hop": reply_hop_by_hop,
    "reproxy": reply_reproxy,
    "kind": reply_kind,
    "status": reply_status,
    "zipped": fixed(sized("200 OK", zipped(HTML), "Content-Encoding: gzip", kind="text/html")),
    "traffic": fixed(sized("200 OK", pattern(60_000), "X-Traffic: 100000")),
    "no-type": fixed(Reply(head("200 OK", "Content-Length: 8") + b"no type\n")),
    "no-reason": fixed(Reply(b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok")),
    "long-field": fixed(sized("200 OK", b"long\n", "X-Long: " + "y" * 8000)),
    "interim": fixed(Reply(b"HTTP/1.1 100 Continue\r\n\r\n" + head("200 OK", "Content-Length: 5") + b"late\n")),
    "garbage": fixed(Reply(b"this is no HTTP\r\n\r\n", close=True)),
    "nothing": fixed(Reply(b"", close=True)),
    "half-a-head": fixed(Reply(b"HTTP/1.1 200 OK\r\nContent-Le", close=True)),
    "bare-lf": fixed(Reply(b"HTTP/1.1 200 OK\nContent-Length: 3\n\nlf\n")),
}


class Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        connection: socket.socket = self.request
        connection.settimeout(60)
        try:
            if isinstance(connection, ssl.SSLSocket):
                connection.do_handshake()
            with connection.makefile("rb") as file:
                while self.answer(connection, file):
                    pass
        except (OSError, EOFError, ValueError):
            pass  # the proxy went away, or sent what is no request; it will show on the proxy's other side
        finally:
            connection.close()

    def answer(self, connection: socket.socket, file: BinaryIO) -> bool:
        request = Request(file)
        names = [name for name in request.url.path.split("/") if name in REPLIES]
        reply = REPLIES[names[-1]](request) if names else sized("404 Not Found", request.echo())
        data, close = reply.data, reply.close
        if request.method == "HEAD" and data.startswith(b"HTTP/") and b"\r\n\r\n" in data:
            interim, final = re.fullmatch(rb"(HTTP/1.1 1.*?\r\n\r\n)?(.*)", data, re.DOTALL).groups()
            data = (interim or b"") + final.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
            # Now the answer is whole. A close that was not announced would race with the next request.
            close = close and b"Connection: close" in data
        connection.sendall(data)
        if close and reply.late is not None:
            time.sleep(LATE_S)
            connection.sendall(reply.late)
        return request.keep and not close


class Threads(socketserver.ThreadingMixIn):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1000


class TcpServer(Threads, socketserver.TCPServer):
    allow_reuse_address = True


class UnixServer(Threads, socketserver.UnixStreamServer):
    pass


class Upstream:
    def __init__(self, temp: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(temp / "one.crt", temp / "one.key")
        self.tcp = TcpServer(("127.0.0.1", 0), Handler)
        self.tls = TcpServer(("127.0.0.1", 0), Handler)
        # The handshake belongs into the connection's thread, not into the one that accepts.
        self.tls.socket = context.wrap_socket(self.tls.socket, server_side=True,
                                              do_handshake_on_connect=False)
        path = temp / "upstream.sock"
        self.unix = UnixServer(str(path), Handler)
        path.chmod(0o777)
        self.servers = [self.tcp, self.tls, self.unix]
        self.port = self.tcp.server_address[1]
        self.tls_port = self.tls.server_address[1]
        for server in self.servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def close(self) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()
