"""The requests to both servers.

A Case goes over every transport; a Raw is bytes on one HTTP/1 connection; a Handshake looks at what TLS
agreed on; a Check is a configuration that is only looked at (`-t`).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Iterator, Sequence

from fixtures import AFTER_TEXT, BEFORE_TEXT, MODIFIED_TEXT, documents, entity_tag, pattern

Headers = tuple[tuple[str, str], ...]
DOCUMENTS = documents()


@dataclass(frozen=True)
class Case:
    config: str
    target: str
    headers: Headers = ()
    method: str = "GET"
    host: str = "default.test"
    body: bytes | None = None
    chunked: bool = False
    # Both must take at least this long: what is delayed on purpose.
    at_least_s: float = 0.0
    # Another listener than the usual two means: HTTP/1 without TLS only.
    port: str = ""
    h2: bool = True

    @property
    def name(self) -> str:
        text = f"{self.method} http://{self.host}{self.target}"
        if self.body is not None:
            text += f" with {len(self.body)} bytes" + (" in chunks" if self.chunked else "")
        return text + "".join(f", {name}: {value}" for name, value in self.headers)


@dataclass(frozen=True)
class Raw:
    """Bytes to send. Between them: a pause in seconds; "answer" or "interim", to wait for one (interim ones
    otherwise belong to the answer that they precede); "end", to shut down writing."""

    config: str
    name: str
    parts: tuple[bytes | float | str, ...]
    methods: tuple[str, ...] = ()  # of the requests, where they are not all GET
    tls: bool = False
    port: str = ""
    name_indication: str = "default.test"
    maximum: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED

    def method_of(self, number: int) -> str:
        return self.methods[number] if number < len(self.methods) else "GET"


@dataclass(frozen=True)
class Handshake:
    config: str
    port: str
    server_name: str | None = None
    alpn: tuple[str, ...] = ("h2", "http/1.1")
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    maximum: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED
    ciphers: str = ""

    @property
    def name(self) -> str:
        return (f"handshake on {self.port}, name {self.server_name}, ALPN {list(self.alpn)}, "
                f"{self.minimum.name} to {self.maximum.name}, ciphers {self.ciphers or 'of choice'}")


@dataclass(frozen=True)
class Check:
    name: str
    text: str
    line: bool = True  # compare the line that is named, too


def fields(**named: str) -> Headers:
    return tuple((name.replace("_", "-"), value) for name, value in named.items())


def tagged(file: str, headers: Headers) -> Headers:
    """`headers` with the entity tag of this file for @ETAG@."""
    tag = entity_tag(DOCUMENTS[file])
    return tuple((name, value.replace("@ETAG@", tag)) for name, value in headers)


# ---- files ----

RANGES = ("bytes=0-0", "bytes=0-9", "bytes=10-", "bytes=-5", "bytes=-0", "bytes=-99999", "bytes=5-4",
          "bytes=39999-", "bytes=40000-", "bytes=0-99999", "bytes=99999-100000", "bytes=0-1,3-4", "bytes=-5,0-2",
          "bytes=0-1, 3-4 ,  6-", "bytes=0-0,99999-", "bytes=99999-,88888-", "bytes=", "bytes=a-b", "bytes=-",
          "bytes", "lines=1-2", "bytes=1-2;3-4", "BYTES=0-1", "bytes = 0-1", "bytes=0-1,", "bytes=,0-1",
          "bytes=18446744073709551615-", "bytes=0-18446744073709551616", "bytes=0-9,5-14,0-39999")

CONDITIONS = (
    fields(If_Modified_Since=MODIFIED_TEXT), fields(If_Modified_Since=BEFORE_TEXT),
    fields(If_Modified_Since=AFTER_TEXT), fields(If_Modified_Since="yesterday"),
    fields(If_Modified_Since="Friday, 14-Jul-17 02:40:00 GMT"),
    fields(If_Modified_Since="Fri Jul 14 02:40:00 2017"),
    fields(If_Unmodified_Since=BEFORE_TEXT), fields(If_Match='"never"'),
    fields(If_None_Match="*"), fields(If_None_Match='"never"'), fields(If_None_Match="@ETAG@"),
    fields(If_None_Match="W/@ETAG@"), fields(If_None_Match='"never", @ETAG@'),
    fields(If_None_Match='"never"', If_Modified_Since=AFTER_TEXT),
    fields(If_None_Match="@ETAG@", If_Modified_Since=BEFORE_TEXT),
    fields(Range="bytes=0-4", If_Range="@ETAG@"), fields(Range="bytes=0-4", If_Range='"never"'),
    fields(Range="bytes=0-4", If_Range=MODIFIED_TEXT), fields(Range="bytes=0-4", If_Range=BEFORE_TEXT),
    fields(Range="bytes=0-4", If_Range=AFTER_TEXT), fields(Range="bytes=0-4", If_None_Match="@ETAG@"),
    fields(Range="bytes=99999-", If_Modified_Since=MODIFIED_TEXT),
)

PATHS = ("/", "/index.html", "/note.txt", "/empty.txt", "/one-byte", "/without-extension", "/UPPER.HTML",
         "/large.bin", "/thing.tar.gz", "/name%20with%20blank.txt", "/name+plus&and.txt", "/caf%C3%A9.txt",
         "/%3Cangle%3E.txt", "/.hidden", "/sub", "/sub/", "/sub?a=b&c", "/sub/deep", "/sub/deep/",
         "/sub/deep/leaf.txt", "/sub/inner.txt?query", "/text-index/", "/no-index/", "/empty-folder",
         "/empty-folder/", "/nowhere", "/nowhere/", "/nowhere/deep/er", "/note.txt/", "/note.txt/more", "/link.txt",
         "/dangling.txt", "/sub/../note.txt", "/sub/./inner.txt", "/sub/%2e%2e/note.txt", "/../note.txt",
         "/../../../../etc/passwd", "/sub/..", "/sub/.", "//note.txt", "//sub//inner.txt", "/sub%2finner.txt",
         "/%6eote.txt", "/note%2Etxt", "/note.txt%00", "/%", "/%2", "/%zz", "/note.txt%3Fa", "/note.txt?a?b#c",
         "/sub/deep/../../note.txt", "/%2e%2e%2fnote.txt", "/note.txt;v=1", "/no-index", "/?", "/?a=/../",
         "/sub/%2e/inner.txt", "/...", "/.../note.txt", "/\\note.txt")

OTHER_METHODS = ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "BREW", "get")

# Paths of files.conf that differ from the plain directory in one respect, and what shows it.
FILES = (
    "/listed/", "/listed", "/listed/no-index/", "/listed/no-index", "/listed/empty-folder/",
    "/listed/sub/deep/", "/listed/documents/", "/listed/no-index/?a=b", "/listed/nowhere/", "/listed/sub/",
    "/index-other/", "/index-other/sub/", "/index-none/note.txt", "/no-etag/note.txt",
    "/no-etag/large.bin", "/one-file", "/one-file/", "/one-file/more", "/one-file?q", "/one-fil", "/one-files",
    "/with-slash", "/with-slash/", "/with-slash/note.txt", "/with-slashed", "/layers/inner.txt",
    "/layers/note.txt", "/layers/nowhere", "/layers/", "/layers/deep", "/layers/sub", "/types/add/note.txt",
    "/types/add/thing.odd", "/types/add/thing.strange", "/types/add/page.html", "/types/default/one-byte",
    "/types/default/thing.odd", "/types/default/page.html", "/types/remove/page.html", "/types/remove/style.css",
    "/types/remove/note.txt", "/types/remove/", "/types/set/note.txt", "/types/set/page.html",
    "/types/set/script.js", "/types/attributes/thing.odd", "/types/attributes/thing.strange",
    "/to/302", "/to/302/", "/to/302/a/b?c=d", "/to/302more", "/to/301", "/to/301/x", "/to/303",
    "/to/303/x", "/to/307/x?y", "/to/308", "/to/308/no-index/", "/to/inside/inner.txt", "/to/inside",
    "/to/inside/", "/to/inside/deep", "/to/inside/deep/", "/to/inside/nowhere", "/to/inside-307/inner.txt",
    "/to/inside-nowhere/x", "/to/loop", "/to/loop/x", "/to/inside/inner.txt?q=1", "/to", "/to/301/%20a%2Fb",
    "/expires/day/note.txt", "/expires/off/note.txt", "/expires/minutes/note.txt",
    "/expires/day/nowhere", "/expires/day/sub", "/errors/nowhere", "/errors/nowhere?q", "/errors/note.txt",
    "/errors/unreadable.txt", "/errors/relative/nowhere", "/errors/missing/nowhere", "/errors/remote/nowhere",
    "/errors/no-index/", "/documents/", "/documents/not-found.html", "/headers/add/note.txt",
    "/headers/add/nowhere", "/headers/add/sub", "/headers/append/note.txt", "/headers/merge/note.txt",
    "/headers/set/note.txt", "/headers/set/nowhere", "/headers/setifempty/note.txt",
    "/headers/setifempty/nowhere", "/headers/unset/note.txt", "/headers/many/note.txt",
    "/headers/aliased/note.txt", "/headers/merged/note.txt", "/included/note.txt", "/included/no-index/",
    "/unthrottled/large.bin", "/empty-path", "/empty-path/", "/empty-path/x", "/environment/note.txt",
    "/listed/%3Cangle%3E.txt", "/listed/name%20with%20blank.txt",
)

ENCODINGS = ("gzip", "br", "gzip, br", "deflate", "identity", "*", "gzip;q=0", "gzip;q=0.5", "gzip;q=1.0, br;q=0",
             "GZIP", "gzip;q=0.001", "x-gzip", "gzip , deflate", "br;q=1, gzip;q=0.9", "", "identity;q=0", "*;q=0",
             "gzip;q=0, *", "gzip; q=0.8")

COMPRESSIBLE = ("/compress/page.html", "/prepared/prepared.html")
COMPRESSED = (
    "/compress/style.css", "/compress/script.js", "/compress/short.html", "/compress/picture.png",
    "/compress/thing.tar.gz", "/compress/empty.txt", "/compress/large.bin", "/compress/nowhere", "/compress/sub",
    "/compress-gzip/page.html", "/compress-level/page.html", "/compress-level/note.txt",
    "/compress-old-name/page.html", "/compress-prepared/prepared.html", "/compress-prepared/page.html",
    "/compress-prepared/differs.txt", "/prepared/page.html", "/prepared/differs.txt", "/prepared/brotli.txt",
    "/prepared/only-zipped.html", "/prepared/prepared.html.gz", "/prepared-old-name/differs.txt",
    "/prepared-gunzip/only-zipped.html", "/prepared-gunzip/differs.txt", "/prepared-gunzip/page.html",
    "/page.html", "/prepared.html", "/types/attributes/thing.odd", "/types/attributes/thing.strange",
)


def file_cases() -> Iterator[Case]:
    for path in PATHS + FILES:
        yield Case("files", path)
    for path in ("/note.txt", "/sub", "/sub/", "/nowhere", "/to/302/a", "/to/307/a", "/listed/no-index/", "/large.bin",
                 "/empty.txt", "/headers/set/note.txt", "/errors/nowhere"):
        yield Case("files", path, method="HEAD")
    for method in OTHER_METHODS[1:]:
        for path in ("/note.txt", "/nowhere", "/to/308/a"):
            yield Case("files", path, method=method)
    for path in ("/note.txt", "/to/inside/inner.txt", "/to/inside-307/inner.txt", "/to/303/a", "/sub"):
        for method in ("POST", "PUT"):
            yield Case("files", path, method=method, body=b"a body for a file")
    yield Case("files", "/errors/note.txt", method="DELETE")
    yield Case("files", "/errors/note.txt", method="POST", body=b"")
    for wanted in RANGES:
        yield Case("files", "/numbers.bin", fields(Range=wanted))
    for path in ("/empty.txt", "/large.bin", "/nowhere", "/sub", "/compress/page.html", "/errors/nowhere",
                 "/no-etag/numbers.bin", "/prepared/prepared.html", "/types/add/note.txt", "/throttled/note.txt"):
        yield Case("files", path, fields(Range="bytes=1-3"))
        yield Case("files", path, fields(Range="bytes=1-3,5-6"))
        yield Case("files", path, fields(Range="bytes=1-3", Accept_Encoding="gzip"))
    yield Case("files", "/numbers.bin", fields(Range="bytes=0-9"), method="HEAD")
    yield Case("files", "/numbers.bin", fields(Range="bytes=0-9"), method="POST", body=b"x")
    yield Case("files", "/numbers.bin", (("Range", "bytes=0-1"), ("Range", "bytes=2-3")))
    for condition in CONDITIONS:
        yield Case("files", "/note.txt", tagged("note.txt", condition))
    for path, file in (("/no-etag/note.txt", "note.txt"), ("/large.bin", "large.bin"), ("/", "index.html"),
                       ("/sub", "sub/index.html"), ("/nowhere", "note.txt"), ("/compress/page.html", "page.html"),
                       ("/prepared/prepared.html", "prepared.html"), ("/headers/set/note.txt", "note.txt"),
                       ("/expires/day/note.txt", "note.txt"), ("/throttled/note.txt", "note.txt")):
        for condition in (CONDITIONS[0], CONDITIONS[8], CONDITIONS[10], CONDITIONS[15]):
            yield Case("files", path, tagged(file, condition))
            yield Case("files", path, tagged(file, condition) + fields(Accept_Encoding="gzip"))
    for condition in CONDITIONS[::2]:
        yield Case("files", "/note.txt", tagged("note.txt", condition), method="HEAD")
    yield Case("files", "/note.txt", tagged("note.txt", CONDITIONS[10]), method="POST", body=b"x")
    for accepted in ENCODINGS:
        for path in COMPRESSIBLE:
            yield Case("files", path, fields(Accept_Encoding=accepted))
    for path in COMPRESSED:
        yield Case("files", path, fields(Accept_Encoding="gzip"))
        yield Case("files", path)
    for path in ("/compress/page.html", "/prepared/prepared.html", "/prepared-gunzip/only-zipped.html"):
        yield Case("files", path, fields(Accept_Encoding="gzip"), method="HEAD")
        yield Case("files", path, fields(Accept_Encoding="gzip, br"))
    for path in ("/compress/style.css", "/compress/short.html", "/compress/picture.png", "/compress/nowhere",
                 "/compress-gzip/page.html", "/compress-level/page.html", "/compress-prepared/page.html",
                 "/compress-prepared/brotli.txt", "/compress-prepared/prepared.html", "/types/attributes/thing.odd"):
        yield Case("files", path, fields(Accept_Encoding="br"))
        yield Case("files", path, fields(Accept_Encoding="br"), method="HEAD")
    yield Case("files", "/compress/style.css", fields(Accept_Encoding="br", Range="bytes=0-99"))
    # 400,000 bytes a second.
    yield Case("files", "/throttled/large.bin", at_least_s=0.3)
    yield Case("files", "/throttled/large.bin", method="HEAD")
    yield Case("files", "/note.txt", fields(Referer="http://else.test/ \"quoted\"", Cookie="a=b"))
    yield Case("files", "/note.txt", (("X-Long", "z" * 6000),))
    yield Case("files", "/" + "long/" * 800)
    yield Case("files", "/note.txt?" + "q" * 5000)


# ---- proxy ----


def proxy_cases() -> Iterator[Case]:
    def ask(target: str, **more: object) -> Case:
        return Case("proxy", target, **more)  # type: ignore[arg-type]

    for target in ("/echo", "/echo?a=b&c=%20d", "/echo/../echo/x", "/echo/%2e%2e/y", "/a%2Fb/echo", "/echo//double",
                   "/echo/%C3%A9", "/echo?", "/echo?a?b", "/nothing-known", "/deeper", "/deeper/", "/deeper/echo",
                   "/deeper/echo/x?y=z", "/deepermore/echo", "/deeper-slash", "/deeper-slash/", "/deeper-slash/echo",
                   "/preserve/echo", "/single/echo", "/unix/echo", "/tls/echo", "/tls-verified/echo",
                   "/tls-refused/echo", "/tls/size?bytes=100000", "/nobody-there/x", "/nobody-there-document/x",
                   "/document/status?is=500+Broken", "/document/status?is=503+Later", "/document/status?is=404+Gone",
                   "/document/status?is=403+No", "/document/nothing", "/try/note.txt", "/try/sub", "/try/sub/",
                   "/try/nowhere/echo", "/try/", "/try/no-index/", "/echo/%00x", "/echo/%zz", "/preserve/echo/.."):
        yield ask(target)
    for name in ("plain", "size", "size?bytes=0", "size?bytes=1", "size?bytes=1048576", "chunked",
                 "chunked?size=1&bytes=20", "chunked?size=65536&bytes=1048576", "chunk-extensions", "chunked-cut",
                 "chunked-bad", "until-close", "http-1.0", "says-close", "cut", "empty", "204", "205", "304",
                 "304-with-length", "fields", "hop-by-hop", "zipped", "no-type", "no-reason", "long-field", "interim",
                 "garbage", "nothing", "half-a-head", "bare-lf", "traffic"):
        yield ask(f"/{name}")
        yield ask(f"/{name}", method="HEAD")
    for status in ("201 Created", "202 Fine", "203 N", "206 Partial Content", "299 Own", "300 Choices", "400 Bad",
                   "401 Who", "403 No", "404 Nowhere", "405 Not So", "418 Teapot", "429 Slow", "500 Broken",
                   "503 Later", "599 End", "600 Beyond"):
        yield ask("/status?is=" + status.replace(" ", "+"))
    for place in ("http://SELF/there", "http://SELF/base/path/there?q", "/absolute/path", "relative", "../up",
                  "http://elsewhere.test/x", "https://SELF/there", "//SELF/there", "http://SELF", "?query", ""):
        escaped = place.replace("?", "%3F")
        yield ask(f"/redirect?to={escaped}")
        yield ask(f"/deeper/redirect?to={escaped}")
        yield ask(f"/deeper-slash/redirect?to={escaped}")
    yield ask("/preserve/redirect?to=http://SELF/x")
    yield ask("/unix/redirect?to=http://SELF/x")
    yield ask("/tls/redirect?to=https://SELF/x")
    for status in ("301 M", "303 S", "307 T", "308 P", "201 C", "200 OK"):
        yield ask(f"/redirect?status={status.replace(' ', '+')}&to=http://SELF/x")
    for method in OTHER_METHODS[1:]:
        yield ask("/echo", method=method)
        yield ask("/echo", method=method, body=b"body of " + method.encode())
    for size in (0, 1, 5, 1000, 16_384, 70_000, 1 << 20):
        for chunked in (False, True):
            yield ask("/echo", method="POST", body=pattern(size), chunked=chunked)
    yield ask("/echo", method="GET", body=b"a GET with a body")
    yield ask("/single/echo", method="PUT", body=pattern(3000), chunked=True)
    yield ask("/nobody-there/x", method="POST", body=b"nobody reads this")
    yield ask("/chunked", method="POST", body=pattern(100))
    yield ask("/status?is=500+Broken", method="POST", body=pattern(50_000))
    yield ask("/204", method="DELETE")
    for headers in (
            fields(X_Forwarded_For="192.0.2.7"), fields(X_Forwarded_Proto="gopher"), fields(Via="1.0 earlier"),
            fields(Cookie="a=b; c=d"), (("Cookie", "a=b"), ("Cookie", "c=d")), fields(Authorization="Basic eDp5"),
            fields(Accept_Encoding="gzip, br"), fields(If_None_Match='"x"'), fields(Range="bytes=0-1"),
            fields(X_Empty=""), (("x-twice", "1"), ("X-Twice", "2")), fields(TE="trailers"), fields(Expect="magic"),
            fields(Proxy="http://evil.test/"), fields(Proxy_Authorization="Basic x"), fields(Forwarded="for=x"),
            fields(X_Reproxy_URL="/x"), fields(Content_Type="application/x-odd"), fields(Date="tomorrow"),
            fields(Max_Forwards="1"), fields(Early_Data="1"), fields(Priority="u=1"), fields(DNT="1"),
            fields(X_Traffic="10"), fields(Referer="http://else.test/")):
        yield ask("/echo", headers=headers)
    yield ask("/preserve/echo", host="other.test")
    yield ask("/preserve/echo", host="other.test:8088")
    yield ask("/echo", host="other.test:8088")
    # Waiting: shorter than the timeout, longer, and so much longer than an own short one that a busy machine does not
    # matter.
    yield ask("/slow", at_least_s=0.5)
    yield ask("/patient/slow", at_least_s=0.5)
    yield ask("/hurried/slow?seconds=5", at_least_s=0.15)
    yield ask("/hurried/slow?seconds=5", method="POST", body=b"x", at_least_s=0.15)
    for place in ("http://SELF/echo", "/reproxied/echo", "/echo", "http://SELF/nowhere", "http://127.0.0.1:1/",
                  "http://SELF/reproxied/reproxy%3Fto=/echo", "relative", "http://SELF/204", "", "no:url",
                  "http://SELF/size%3Fbytes=100000"):
        yield ask(f"/reproxied/reproxy?to={place}")
    for status in ("201 Made", "204 None", "302 Found", "307 Same", "404 Missing", "500 Broken"):
        yield ask(f"/reproxied/reproxy?to=/echo&status={status.replace(' ', '+')}")
        yield ask(f"/reproxied/reproxy?to=/echo&status={status.replace(' ', '+')}", method="POST", body=b"twice")
    yield ask("/reproxied/reproxy?to=/echo", method="HEAD")
    yield ask("/reproxy?to=/echo")
    yield ask("/reproxied/plain")
    for kind in ("text/html", "text/plain;charset=utf-8", "application/json", "image/png", "application/x-odd",
                 "text/x-mine", "image/svg%2Bxml", "application/javascript", "TEXT/HTML"):
        yield ask(f"/compressed/kind?type={kind}", headers=fields(Accept_Encoding="gzip"))
    for hint in ("on", "off", "auto", "other"):
        yield ask(f"/compressed/kind?type=text/html&hint={hint}", headers=fields(Accept_Encoding="gzip"))
        yield ask(f"/compressed/kind?type=image/png&hint={hint}", headers=fields(Accept_Encoding="gzip"))
        yield ask(f"/kind?type=image/png&hint={hint}", headers=fields(Accept_Encoding="gzip"))
    for name in ("zipped", "chunked?size=5000", "until-close", "204", "304", "no-type", "fields", "empty",
                 "size?bytes=1048576", "hop-by-hop", "status?is=404+Gone", "cut"):
        yield ask(f"/compressed/{name}", headers=fields(Accept_Encoding="gzip"))
        if name != "cut":  # half of a compressed body cannot be compared by what it unpacks to
            yield ask(f"/compressed/{name}", headers=fields(Accept_Encoding="br"))
    for hint in ("on", "off"):
        yield ask(f"/compressed/kind?type=image/png&hint={hint}", headers=fields(Accept_Encoding="gzip, br"))
    yield ask("/compressed/chunked?size=65536&bytes=1048576", headers=fields(Accept_Encoding="br"))
    for name in ("fields", "plain", "204", "304", "redirect?to=/x", "status?is=500+Broken", "hop-by-hop"):
        yield ask(f"/headers/{name}")
    yield ask("/throttled/traffic")
    yield ask("/throttled/plain")


def forwarded_cases() -> Iterator[Case]:
    for headers in ((), fields(X_Forwarded_For="192.0.2.7"), fields(X_Forwarded_Proto="gopher"),
                    fields(Via="1.0 earlier")):
        yield Case("forwarded", "/echo", headers)
    for target in ("/fields", "/hop-by-hop", "/redirect?to=http://SELF/x", "/nothing", "/files/note.txt", "/files/none",
                   "/status?is=500+Broken"):
        yield Case("forwarded", target)
        yield Case("forwarded", target, port="UNIX")
    yield Case("forwarded", "/echo", port="UNIX")


# ---- hosts ----


def host_cases() -> Iterator[Case]:
    for host in ("www.example.test", "WWW.Example.TEST", "www.example.test:80", "www.example.test:443",
                 "www.example.test:8081", "www.example.test:9", "a.example.test", "a.b.example.test", "example.test",
                 ".example.test", "notexample.test", "a.example.test:8081", "secure.test", "secure.test:443",
                 "secure.test:80", "plain.test", "plain.test:80", "plain.test:443", "two.test", "unknown.test",
                 "127.0.0.1", "[::1]", "www.example.test.", "alone.test", "old.test"):
        yield Case("hosts", "/", host=host)
        yield Case("hosts", "/inner.txt", host=host)
    yield Case("hosts", "/sub", host="www.example.test:8081")
    yield Case("hosts", "/other/sub", host="www.example.test:8081")
    yield Case("hosts", "/deep", host="a.example.test")
    yield Case("hosts", "/deep", host="a.example.test:4430")
    yield Case("hosts", "/top/note.txt", host="a.example.test")
    yield Case("hosts", "/top", host="a.example.test")
    yield Case("hosts", "/log/note.txt?x", host="two.test")
    yield Case("hosts", "/log/nowhere", host="two.test")
    for host in ("www.example.test", "alone.test", "unknown.test"):
        yield Case("hosts", "/", host=host, port="THIRD")
        yield Case("hosts", "/deep", host=host, port="THIRD")


# ---- limits, defaults ----


def limit_cases() -> Iterator[Case]:
    for size in (0, 1, 999, 1000, 1001, 5000):
        for chunked in (False, True):
            yield Case("limits", "/echo", method="POST", body=pattern(size), chunked=chunked)
    yield Case("limits", "/files/note.txt", method="POST", body=pattern(1001))
    for target in ("/one/note.txt", "/two/note.txt", "/three/note.txt", "/files/note.txt"):
        yield Case("limits", target)


def default_cases() -> Iterator[Case]:
    for target in ("/", "/note.txt", "/sub", "/no-index/", "/nowhere", "/page.html", "/prepared.html", "/differs.txt",
                   "/thing.odd", "/upstream/echo", "/upstream/fields", "/upstream/redirect?to=http://SELF/x",
                   "/upstream/reproxy?to=/echo", "/upstream/traffic", "/text-index/", "/upstream/status?is=500+B"):
        yield Case("defaults", target, fields(Accept_Encoding="gzip"))
    yield Case("defaults", "/upstream/echo", method="POST", body=pattern(2 << 20))
    for size in (20_000, 4 << 20):
        yield Case("defaults", "/upstream/echo", method="POST", body=pattern(size), chunked=True)


def cases() -> list[Case]:
    listed = [*file_cases(), *proxy_cases(), *forwarded_cases(), *host_cases(), *limit_cases(), *default_cases()]
    return list(dict.fromkeys(listed))


# ---- bytes ----


def request(target: str = "/note.txt", *lines: str, method: str = "GET", version: str = "HTTP/1.1",
            host: str | None = "default.test", body: bytes = b"") -> bytes:
    named = [f"Host: {host}"] if host is not None else []
    return "\r\n".join([f"{method} {target} {version}", *named, *lines, "", ""]).encode("latin-1") + body


LAST = request("/sub/inner.txt", "Connection: close")
NO_HOST_10 = request(version="HTTP/1.0", host=None)


def bad_requests() -> Iterator[tuple[str, bytes]]:
    yield "no Host in 1.1", request("/note.txt", "Connection: close", host=None)
    yield "no Host in 1.0", NO_HOST_10
    yield "two Hosts", request("/note.txt", "Host: second.test", "Connection: close")
    yield "an empty Host", request("/note.txt", "Connection: close", host="")
    yield "blanks around the Host", request("/note.txt", "Connection: close", host="  default.test  ")
    yield "a Host with a path", request("/note.txt", "Connection: close", host="default.test/x")
    yield "nothing but line ends", b"\r\n\r\n\r\n\r\n"
    yield "line ends before the request", b"\r\n\r\n" + LAST
    yield "one word", b"GET\r\n\r\n"
    yield "two words", b"GET /note.txt\r\n\r\n"
    yield "HTTP/0.9", b"GET /note.txt\r\n"
    yield "a text", b"hello there\r\n\r\n"
    yield "HTTP/1.2", request("/note.txt", "Connection: close", version="HTTP/1.2")
    yield "HTTP/2.0", request("/note.txt", version="HTTP/2.0")
    yield "HTTP/3", request("/note.txt", version="HTTP/3")
    yield "http in small letters", request("/note.txt", "Connection: close", version="http/1.1")
    yield "no version", b"GET /note.txt \r\nHost: default.test\r\n\r\n"
    yield "two blanks", b"GET  /note.txt HTTP/1.1\r\nHost: default.test\r\nConnection: close\r\n\r\n"
    yield "a tab", b"GET\t/note.txt HTTP/1.1\r\nHost: default.test\r\nConnection: close\r\n\r\n"
    yield "a blank in the path", request("/note .txt", "Connection: close")
    yield "a NUL in the path", request("/note\0.txt", "Connection: close")
    yield "a byte over 127 in the path", request("/caf\xe9.txt", "Connection: close")
    yield "UTF-8 in the path", request("/caf\xc3\xa9.txt", "Connection: close")
    yield "a NUL in a header", request("/note.txt", "X-Bad: a\0b", "Connection: close")
    yield "a NUL in a name", request("/note.txt", "X\0Bad: a", "Connection: close")
    yield "a blank in a name", request("/note.txt", "X Bad: a", "Connection: close")
    yield "a blank after a name", request("/note.txt", "X-Bad : a", "Connection: close")
    yield "no colon", request("/note.txt", "X-Bad", "Connection: close")
    yield "no name", request("/note.txt", ": x", "Connection: close")
    yield "a folded header", request("/note.txt", "X-Long: a", "  b", "Connection: close")
    yield "a control character in a header", request("/note.txt", "X-Bad: a\x01b", "Connection: close")
    yield "a bare CR in a header", request("/note.txt", "X-Bad: a\rb", "Connection: close")
    yield "line feeds only", LAST.replace(b"\r\n", b"\n")
    yield "a relative target", request("note.txt", "Connection: close")
    yield "an asterisk", request("*", "Connection: close", method="OPTIONS")
    yield "an asterisk to GET", request("*", "Connection: close")
    yield "absolute-form", request("http://default.test/note.txt?absolute", "Connection: close")
    yield "absolute-form, other host", request("http://other.test/note.txt", "Connection: close")
    yield "absolute-form, no path", request("http://default.test?absolute", "Connection: close")
    yield "absolute-form, https", request("https://default.test/note.txt?absolute", "Connection: close")
    yield "absolute-form, strange scheme", request("ftp://default.test/note.txt", "Connection: close")
    yield "authority-form", request("default.test:80", "Connection: close", method="CONNECT")
    yield "an empty method", b" /note.txt HTTP/1.1\r\nHost: default.test\r\nConnection: close\r\n\r\n"
    yield "a long method", request("/note.txt", "Connection: close", method="M" * 300)
    yield "a method with a colon", request("/note.txt", "Connection: close", method="GE:T")
    yield "99 headers", request("/note.txt", *(f"X-{n}: {n}" for n in range(97)), "Connection: close")
    yield "100 headers", request("/note.txt", *(f"X-{n}: {n}" for n in range(98)), "Connection: close")
    yield "101 headers", request("/note.txt", *(f"X-{n}: {n}" for n in range(99)), "Connection: close")
    yield "200 headers", request("/note.txt", *(f"X-{n}: {n}" for n in range(198)), "Connection: close")
    yield "a header of 60,000 bytes", request("/note.txt", "X-Big: " + "b" * 60_000, "Connection: close")
    yield "a header of 110,000 bytes", request("/note.txt", "X-Big: " + "b" * 110_000, "Connection: close")
    yield "a path of 50,000 bytes", request("/" + "p" * 50_000, "Connection: close")
    yield "fragment", request("/note.txt#part", "Connection: close")
    yield "dots above the root", request("/../../note.txt", "Connection: close")
    yield "dots in the query", request("/note.txt?/../../x", "Connection: close")
    yield "a backslash", request("/sub\\..\\note.txt", "Connection: close")
    yield "Connection: CLOSE", request("/note.txt", "Connection: CLOSE")
    yield "Connection: x, close", request("/note.txt", "Connection: x, close")
    yield "two Connection headers", request("/note.txt", "Connection: x", "Connection: close")
    yield "Upgrade to h2c without settings", request("/note.txt", "Connection: Upgrade, close", "Upgrade: h2c")
    yield "Upgrade to something", request("/note.txt", "Connection: Upgrade, close", "Upgrade: something")
    yield "TLS where there is none", bytes.fromhex("16030100a5010000a10303") + bytes(160)


def bodies() -> Iterator[tuple[str, bytes]]:
    """To /echo of the proxy, so that one sees what was understood. The proxy asks for the whole body."""
    def post(*lines: str, body: bytes = b"") -> bytes:
        return request("/echo", *lines, "Connection: close", method="POST", body=body)

    yield "a length of zero", post("Content-Length: 0")
    yield "no length", post(body=b"")
    yield "a length with a plus", post("Content-Length: +3", body=b"abc")
    yield "a negative length", post("Content-Length: -3", body=b"abc")
    yield "a length in hex", post("Content-Length: 0x3", body=b"abc")
    yield "a length that is a word", post("Content-Length: three", body=b"abc")
    yield "an empty length", post("Content-Length:", body=b"abc")
    yield "an enormous length", post("Content-Length: 99999999999999999999", body=b"abc")
    yield "a length over a gibibyte", post("Content-Length: 1073741825", body=b"abc")
    yield "the same length twice", post("Content-Length: 3", "Content-Length: 3", body=b"abc")
    yield "two lengths", post("Content-Length: 3", "Content-Length: 4", body=b"abcd")
    yield "a list of lengths", post("Content-Length: 3, 3", body=b"abc")
    yield "blanks around a length", post("Content-Length:   3  ", body=b"abc")
    chunked = "Transfer-Encoding: chunked"
    yield "chunks", post(chunked, body=b"3\r\nabc\r\n0\r\n\r\n")
    yield "chunks with an extension", post(chunked, body=b"3;x=y\r\nabc\r\n0\r\n\r\n")
    yield "chunks with a trailer", post(chunked, body=b"3\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n")
    yield "chunks, digits in capitals", post(chunked, body=b"A\r\nabcdefghij\r\n0\r\n\r\n")
    yield "chunks, leading zeros", post(chunked, body=b"0003\r\nabc\r\n000\r\n\r\n")
    yield "chunks, line feeds only", post(chunked, body=b"3\nabc\n0\n\n")
    yield "chunks, no digit", post(chunked, body=b"\r\nabc\r\n0\r\n\r\n")
    yield "chunks, bad digit", post(chunked, body=b"zz\r\nabc\r\n0\r\n\r\n")
    yield "chunks, minus", post(chunked, body=b"-1\r\nabc\r\n0\r\n\r\n")
    yield "chunks, no end after the data", post(chunked, body=b"3\r\nabcd\r\n0\r\n\r\n")
    yield "chunks, enormous size", post(chunked, body=b"ffffffffffffffffff\r\nabc\r\n0\r\n\r\n")
    yield "chunks and a length", post("Content-Length: 3", chunked, body=b"3\r\nabc\r\n0\r\n\r\n")
    yield "chunks twice", post(chunked, chunked, body=b"3\r\nabc\r\n0\r\n\r\n")
    yield "an unknown coding", post("Transfer-Encoding: gzip", body=b"abc")
    yield "gzip, chunked", post("Transfer-Encoding: gzip, chunked", body=b"3\r\nabc\r\n0\r\n\r\n")
    yield "chunked, gzip", post("Transfer-Encoding: chunked, gzip", body=b"3\r\nabc\r\n0\r\n\r\n")
    yield "CHUNKED", post("Transfer-Encoding: CHUNKED", body=b"3\r\nabc\r\n0\r\n\r\n")
    yield "identity", post("Transfer-Encoding: identity", "Content-Length: 3", body=b"abc")
    yield "chunked in 1.0", post(chunked, body=b"3\r\nabc\r\n0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    yield "Expect, body at once", post("Expect: 100-continue", "Content-Length: 3", body=b"abc")
    yield "Expect in 1.0", post("Expect: 100-continue", "Content-Length: 3",
                                body=b"abc").replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    yield "Expect something else", post("Expect: a-miracle", "Content-Length: 3", body=b"abc")


def raws() -> list[Raw]:
    listed = [Raw("files", name, (data,)) for name, data in bad_requests()]
    listed += [Raw("files", f"{name} (TLS)", (data,), tls=True) for name, data in bad_requests()
               if len(data) < 400 and not data.startswith(b"\x16")]
    listed += [Raw("proxy", name, (data,)) for name, data in bodies()]
    post = request("/echo", "Content-Length: 10", method="POST")
    closing_post = request("/echo", "Content-Length: 10", "Connection: close", method="POST")
    expecting = request("/echo", "Content-Length: 10", "Expect: 100-continue", "Connection: close", method="POST")
    chunked = request("/echo", "Transfer-Encoding: chunked", method="POST")
    old = {"version": "HTTP/1.0"}
    listed += [
        Raw("files", "keep-alive: three, one after the other",
            (request(), "answer", request("/page.html"), "answer", LAST)),
        Raw("files", "keep-alive: HEAD, 304, 404, 301 leave the stream in order",
            (request(method="HEAD"), "answer", request("/note.txt", f"If-Modified-Since: {MODIFIED_TEXT}"), "answer",
             request("/nowhere"), "answer", request("/sub"), "answer", LAST), ("HEAD",)),
        Raw("files", "pipelined: three at once", (request() + request("/nowhere") + LAST,)),
        Raw("files", "pipelined: twenty at once", (request("/sub/inner.txt") * 19 + LAST,)),
        Raw("files", "pipelined: after a close", (LAST + request() + request(),)),
        Raw("files", "pipelined: a bad one second", (request() + b"NONSENSE\r\n\r\n" + LAST,)),
        Raw("files", "pipelined: HEAD between", (request() + request(method="HEAD") + LAST,), ("GET", "HEAD")),
        Raw("files", "pipelined: large ones", (request("/large.bin") * 3 + LAST,)),
        Raw("files", "pipelined over TLS", (request() + request("/large.bin") + LAST,), tls=True),
        Raw("files", "kept open after an answer", (request(), "answer")),
        Raw("files", "1.0: closes", (request(**old),)),
        Raw("files", "1.0: keep-alive", (request("/note.txt", "Connection: keep-alive", **old), "answer",
                                         request("/note.txt", **old))),
        Raw("files", "1.0: listing", (request("/listed/no-index/", **old),)),
        Raw("files", "1.0: compressed", (request("/compress/page.html", "Accept-Encoding: gzip", **old),)),
        Raw("files", "1.0: 304", (request("/note.txt", f"If-Modified-Since: {MODIFIED_TEXT}", **old),)),
        Raw("files", "byte by byte", tuple(
            part for byte in LAST[:40] for part in (bytes([byte]), 0.002)) + (LAST[40:],)),
        Raw("files", "half a request, then the end", (LAST[:30], "end")),
        Raw("files", "half a request, then nothing", (LAST[:30],)),
        Raw("files", "nothing at all", ()),
        Raw("files", "nothing, then the end", ("end",)),
        Raw("files", "a request, then the end", (LAST, "end")),
        Raw("files", "a POST to a file, then another request",
            (request(method="POST", body=b"abc").replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n", 1), "answer",
             LAST), ("POST",)),
        Raw("files", "preface of HTTP/2, then nothing sensible", (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxxxxxxxxxxxx",)),
        Raw("proxy", "Expect: asked first", (expecting, "interim", b"0123456789"), ("POST", "POST")),
        Raw("proxy", "a body in two parts", (post, 0.1, b"01234", 0.1, b"56789", "answer", closing_post, b"abcdefghij")),
        Raw("proxy", "chunks one by one",
            (chunked, 0.05, b"3\r\nab", 0.05, b"c\r\n", 0.05, b"2\r", 0.05, b"\nde\r\n0\r\n", 0.05, b"\r\n", "answer",
             request("/echo", "Connection: close"))),
        Raw("proxy", "half a body, then the end", (closing_post, b"01234", "end")),
        Raw("proxy", "half a body, then nothing", (closing_post, b"01234")),
        Raw("proxy", "pipelined through the proxy",
            (request("/echo") + post + b"0123456789" + request("/chunked") + request("/nobody-there/x")
             + request("/204") + request("/until-close") + request("/plain", "Connection: close"),)),
        Raw("proxy", "pipelined POSTs", ((post + b"0123456789") * 5 + request("/echo", "Connection: close"),)),
        Raw("proxy", "keep-alive behind cut answers", (request("/cut"), "answer", request("/echo"))),
        Raw("proxy", "1.0: sized", (request("/plain", **old),)),
        Raw("proxy", "1.0: chunked upstream", (request("/chunked", **old),)),
        Raw("proxy", "1.0: until close", (request("/until-close", "Connection: keep-alive", **old),)),
        Raw("proxy", "1.0: no Host, preserved", (request("/preserve/echo", host=None, **old),)),
        Raw("proxy", "connection header names others",
            (request("/echo", "Connection: close, X-Drop", "X-Drop: 1", "Keep-Alive: 5", "X-Stay: 2"),)),
        Raw("proxy", "hop-by-hop of the client",
            (request("/echo", "Connection: close", "TE: gzip", "Trailer: X", "Proxy-Connection: keep-alive",
                     "Upgrade: h9", "Keep-Alive: timeout=5"),)),
        Raw("proxy", "absolute-form through the proxy",
            (request("http://other.test/echo?absolute", "Connection: close", host="other.test"),)),
        Raw("proxy", "absolute-form, preserved",
            (request("http://other.test:81/preserve/echo?absolute", "Connection: close", host="other.test:81"),)),
        Raw("proxy", "an asterisk through the proxy", (request("*", "Connection: close", method="OPTIONS"),)),
        Raw("proxy", "websocket that is not on",
            (request("/echo", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
                     "Sec-WebSocket-Version: 13"), "answer", request("/echo", "Connection: close"))),
        Raw("forwarded", "PROXY TCP4", (b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n"
                                        + request("/echo", "Connection: close"),), port="THIRD"),
        Raw("forwarded", "PROXY TCP6", (b"PROXY TCP6 2001:db8::1 2001:db8::2 1000 80\r\n"
                                        + request("/files/note.txt", "Connection: close"),), port="THIRD"),
        Raw("forwarded", "PROXY UNKNOWN", (b"PROXY UNKNOWN\r\n" + request("/echo", "Connection: close"),), port="THIRD"),
        Raw("forwarded", "PROXY and nonsense", (b"PROXY TCP4 nonsense\r\n" + LAST,), port="THIRD"),
        Raw("forwarded", "no PROXY line", (LAST,), port="THIRD"),
        Raw("forwarded", "a PROXY line in two parts",
            (b"PROXY TCP4 192.0.2.1 192.0.", 0.1, b"2.2 1000 80\r\n", 0.1, request("/echo", "Connection: close")),
            port="THIRD"),
        Raw("forwarded", "a PROXY line where none belongs",
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n" + LAST,)),
        Raw("forwarded", "Unix-domain socket", (request("/files/note.txt"), "answer",
                                                request("/echo", "Connection: close")), port="UNIX"),
        Raw("hosts", "another host in the second request",
            (request("/", host="www.example.test"), "answer",
             request("/", "Connection: close", host="a.example.test"))),
        Raw("hosts", "no Host in 1.0", (request("/", host=None, version="HTTP/1.0"),)),
        Raw("hosts", "absolute-form names the host",
            (request("http://a.example.test/", "Connection: close", host="www.example.test"),)),
        Raw("hosts", "TLS for one name, request for another",
            (request("/", "Connection: close", host="two.test"),), tls=True, name_indication="www.example.test"),
        Raw("hosts", "TLS 1.2 of a single host", (request("/", "Connection: close", host="old.test"),), tls=True,
            port="FOURTH", name_indication="old.test", maximum=ssl.TLSVersion.TLSv1_2),
        Raw("hosts", "another name on the listener of a single host",
            (request("/", "Connection: close", host="www.example.test"),), tls=True, port="FOURTH",
            maximum=ssl.TLSVersion.TLSv1_2),
        Raw("limits", "a body over the limit, announced",
            (request("/echo", "Content-Length: 5000", method="POST", body=b"x" * 5000),)),
        Raw("limits", "a body over the limit, announced, not sent",
            (request("/echo", "Content-Length: 5000", method="POST"),)),
        Raw("limits", "a body over the limit, with Expect",
            (request("/echo", "Content-Length: 5000", "Expect: 100-continue", method="POST"),)),
        Raw("limits", "chunks over the limit",
            (request("/echo", "Transfer-Encoding: chunked", method="POST",
                     body=b"1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n" + b"y" * 501 + b"\r\n0\r\n\r\n"),)),
        Raw("limits", "one chunk over the limit, not sent",
            (request("/echo", "Transfer-Encoding: chunked", method="POST", body=b"3e9\r\n"),)),
        Raw("limits", "chunks up to the limit",
            (request("/echo", "Transfer-Encoding: chunked", "Connection: close", method="POST",
                     body=b"1f4\r\n" + b"x" * 500 + b"\r\n1f4\r\n" + b"y" * 500 + b"\r\n0\r\n\r\n"),)),
        Raw("forwarded", "Upgrade to h2c, which is off",
            (request("/files/note.txt", "Connection: Upgrade, HTTP2-Settings, close", "Upgrade: h2c",
                     "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),)),
        Raw("defaults", "a body of 17 MiB, announced",
            (request("/upstream/echo", "Content-Length: 17825792", "Expect: 100-continue", method="POST"),)),
        Raw("defaults", "a body of 15 MiB, announced",
            (request("/upstream/echo", "Content-Length: 15728640", "Expect: 100-continue", method="POST"),)),
        Raw("files", "Upgrade to h2c",
            (request("/note.txt", "Connection: Upgrade, HTTP2-Settings, close", "Upgrade: h2c",
                     "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),)),
        Raw("defaults", "1.0 with defaults", (NO_HOST_10,)),
    ]
    return listed


def handshakes() -> list[Handshake]:
    v12, v13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    listed = [Handshake("hosts", "TLS", name) for name in
              (None, "www.example.test", "two.test", "TWO.test", "a.two.test", "unknown.test", "old.test")]
    listed += [Handshake("hosts", "TLS", "two.test", alpn) for alpn in
               ((), ("http/1.1",), ("h2",), ("h9",), ("h2-16", "http/1.1"), ("http/1.1", "h2"))]
    for config, port in (("hosts", "TLS"), ("hosts", "FOURTH"), ("defaults", "TLS")):
        listed += [
            Handshake(config, port, "old.test", maximum=v12),
            Handshake(config, port, "old.test", minimum=v13),
            Handshake(config, port, "old.test", minimum=ssl.TLSVersion.TLSv1, maximum=ssl.TLSVersion.TLSv1_1,
                      ciphers="ALL:@SECLEVEL=0"),
            Handshake(config, port, "old.test", maximum=v12, ciphers="ECDHE-RSA-AES256-GCM-SHA384"),
            Handshake(config, port, "old.test", maximum=v12,
                      ciphers="ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256"),
            Handshake(config, port, "old.test", maximum=v12, ciphers="ECDHE-RSA-CHACHA20-POLY1305"),
            Handshake(config, port, "old.test", maximum=v12, ciphers="AES128-SHA:@SECLEVEL=0"),
            Handshake(config, port, None),
        ]
    return listed


# ---- configurations that are only checked ----

START = "listen: 8080\n"
HOSTS = START + "hosts:\n  default:\n    paths:\n      /:\n        file.dir: /tmp\n"


def path_with(*lines: str) -> str:
    return START + "hosts:\n  default:\n    paths:\n      /:\n" + "".join(f"        {line}\n" for line in lines)


def checks() -> list[Check]:
    tls = START + "listen:\n  port: 8443\n  ssl:\n"
    both = "    certificate-file: @TMP@/one.crt\n    key-file: @TMP@/one.key\n"
    hosts = HOSTS[len(START):]
    listed = {
        "the least": HOSTS,
        "empty": "",
        "a scalar": "hello\n",
        "a sequence": "- listen: 8080\n",
        "no listen": hosts,
        "no hosts": START,
        "no paths": START + "hosts:\n  default: {}\n",
        "hosts is no mapping": START + "hosts: default\n",
        "paths is no mapping": START + "hosts:\n  default:\n    paths: /\n",
        "unknown, global": HOSTS + "no-such-thing: 1\n",
        "unknown, host": START + "hosts:\n  default:\n    no-such-thing: 1\n    paths: {}\n",
        "unknown, path": path_with("no-such-thing: 1"),
        "not YAML": START + "hosts: [\n",
        "a tab": START + "\thosts:\n",
        "a duplicate": HOSTS + "num-threads: 1\nnum-threads: 2\n",
        "directive at the wrong level": HOSTS + "file.dir: /tmp\n",
        "global directive in a path": path_with("num-threads: 2", "file.dir: /tmp"),
        "num-threads: no number": HOSTS + "num-threads: many\n",
        "num-threads: zero": HOSTS + "num-threads: 0\n",
        "num-threads: a mapping": HOSTS + "num-threads: { a: b }\n",
        "max-connections: no number": HOSTS + "max-connections: many\n",
        "limit-request-body: no number": HOSTS + "limit-request-body: much\n",
        "http1-request-timeout: no number": HOSTS + "http1-request-timeout: soon\n",
        "user: unknown": HOSTS + "user: no-such-user-here\n",
        "user: nobody": HOSTS + "user: nobody\n",
        "listen: no port": "listen: { host: 127.0.0.1 }\n" + hosts,
        "listen: unknown port": "listen: no-such-port\n" + hosts,
        "listen: unknown type": "listen: { port: 8080, type: pipe }\n" + hosts,
        "listen: a sequence": "listen: [ 8080 ]\n" + hosts,
        "listen: unknown proxy-protocol": "listen: { port: 8080, proxy-protocol: MAYBE }\n" + hosts,
        "listen: the same with TLS and without": tls + both + "listen: 8443\n" + hosts,
        "listen: host only": "hosts:\n  default:\n    listen: 8080\n    paths:\n      /:\n        file.dir: /tmp\n",
        "listen: path of a socket too long": "listen: { type: unix, port: /tmp/" + "x" * 200 + " }\n" + hosts,
        "ssl: complete": tls + both + hosts,
        "ssl: no mapping": START + "listen: { port: 8443, ssl: ON }\n" + hosts,
        "ssl: no key": tls + both.splitlines()[0] + "\n" + hosts,
        "ssl: no certificate": tls + both.splitlines()[1] + "\n" + hosts,
        "ssl: certificate is not there": tls + both.replace("one.crt", "none.crt") + hosts,
        "ssl: key of another": tls + both.replace("one.key", "two.key") + hosts,
        "ssl: unknown property": tls + both + "    colour: blue\n" + hosts,
        "ssl: unknown version": tls + both + "    minimum-version: TLSv9\n" + hosts,
        "ssl: unknown ciphers": tls + both + "    cipher-suite: ROT13\n" + hosts,
        "ssl: unknown preference": tls + both + "    cipher-preference: mine\n" + hosts,
        "ssl: neverbleed": tls + both + "    neverbleed: OFF\n" + hosts,
        "ssl: ocsp off": tls + both + "    ocsp-update-interval: 0\n" + hosts,
        "session resumption off": HOSTS + "ssl-session-resumption: { mode: off }\n",
        "session resumption, cache": HOSTS + "ssl-session-resumption: { mode: cache }\n",
        "session resumption, unknown mode": HOSTS + "ssl-session-resumption: { mode: perhaps }\n",
        "alias": "x: &x 1\n" + HOSTS,
        "alias to nothing": path_with("file.dir: *nothing"),
        "merge": START + "hosts:\n  a.test: &a\n    paths:\n      /: { file.dir: /tmp }\n  b.test:\n    <<: *a\n",
        "merge of a scalar": START + "hosts:\n  default:\n    <<: 1\n    paths: {}\n",
        "include that is not there": path_with("file.dir: !file no-such-file.conf"),
        "include a fragment": START + "hosts:\n  default:\n    paths:\n      /: !file @TMP@/docs/note.yaml\n",
        "two documents": HOSTS + "---\n" + HOSTS,
        "redirect: no status": path_with("redirect: { url: /x }"),
        "redirect: status 200": path_with("redirect: { url: /x, status: 200 }"),
        "redirect: status is a word": path_with("redirect: { url: /x, status: moved }"),
        "redirect: no url": path_with("redirect: { status: 301 }"),
        "redirect: internal: perhaps": path_with("redirect: { url: /x, status: 301, internal: PERHAPS }"),
        "redirect: a sequence": path_with("redirect: [ /x ]"),
        "file.dir: a sequence": path_with("file.dir: [ /tmp ]"),
        "file.dirlisting: perhaps": path_with("file.dirlisting: PERHAPS", "file.dir: /tmp"),
        "file.index: a scalar": path_with("file.index: index.html", "file.dir: /tmp"),
        "file.mime.addtypes: a scalar": path_with("file.mime.addtypes: text", "file.dir: /tmp"),
        "file.mime.settypes: no dot": path_with("file.mime.settypes: { text/x: txt }", "file.dir: /tmp"),
        "file.mime.setdefaulttype: a mapping": path_with("file.mime.setdefaulttype: { a: b }", "file.dir: /tmp"),
        "file.file and file.dir": path_with("file.file: /etc/hostname", "file.dir: /tmp"),
        "proxy: no url": path_with("proxy.reverse.url: nonsense"),
        "proxy: https": path_with("proxy.reverse.url: https://127.0.0.1/"),
        "proxy: ftp": path_with("proxy.reverse.url: ftp://127.0.0.1/"),
        "proxy: unix": path_with("proxy.reverse.url: 'http://[unix:/tmp/x.sock]/'"),
        "proxy: timeout is a word": path_with("proxy.timeout.io: long", "proxy.reverse.url: http://127.0.0.1/"),
        "proxy: cafile is not there": path_with("proxy.ssl.cafile: /none", "proxy.reverse.url: https://127.0.0.1/"),
        "header.add: no colon": path_with("header.add: nonsense", "file.dir: /tmp"),
        "header.add: connection": path_with("header.add: 'Connection: close'", "file.dir: /tmp"),
        "header.unset: connection": path_with("header.unset: transfer-encoding", "file.dir: /tmp"),
        "header.set: a blank in the name": path_with("header.set: 'X Y: z'", "file.dir: /tmp"),
        "expires: nonsense": path_with("expires: someday", "file.dir: /tmp"),
        "expires: no unit": path_with("expires: 5", "file.dir: /tmp"),
        "expires: two units": path_with("expires: 2 years", "file.dir: /tmp"),
        "compress: unknown": path_with("compress: [ zip ]", "file.dir: /tmp"),
        "compress: perhaps": path_with("compress: PERHAPS", "file.dir: /tmp"),
        "compress: br": path_with("compress: [ br ]", "file.dir: /tmp"),
        "compress: level 20": path_with("compress: { gzip: 20 }", "file.dir: /tmp"),
        "error-doc: no status": path_with("error-doc: { url: /x }", "file.dir: /tmp"),
        "error-doc: status 200": path_with("error-doc: { status: 200, url: /x }", "file.dir: /tmp"),
        "error-doc: twice the same status": path_with("error-doc: { status: [ 404, 404 ], url: /x }"),
        "error-doc: a scalar": path_with("error-doc: /x", "file.dir: /tmp"),
        "access-log: a file": HOSTS + "access-log: /dev/null\n",
        "access-log: a folder that is not there": HOSTS + "access-log: /none/such/log\n",
        "access-log: no path": HOSTS + "access-log: { format: '%h' }\n",
        "access-log: unknown format": HOSTS + "access-log: { path: /dev/null, format: '%Z' }\n",
        "access-log: unclosed format": HOSTS + "access-log: { path: /dev/null, format: '%{abc' }\n",
        "access-log: JSON": HOSTS + "access-log: { path: /dev/null, format: '{\"a\": \"%h\"}', escape: json }\n",
        "access-log: unknown escape": HOSTS + "access-log: { path: /dev/null, format: '%h', escape: perl }\n",
        "status": path_with("status: ON"),
        "status: perhaps": path_with("status: PERHAPS"),
        "reproxy: perhaps": path_with("reproxy: PERHAPS", "file.dir: /tmp"),
        "throttle-response: perhaps": path_with("throttle-response: PERHAPS", "file.dir: /tmp"),
        "fastcgi: no port": path_with("fastcgi.connect: { host: 127.0.0.1 }"),
        "fastcgi: port": path_with("fastcgi.connect: 9000"),
        "setenv: a scalar": path_with("setenv: x", "file.dir: /tmp"),
        "setenv": path_with("setenv: { a: b }", "file.dir: /tmp"),
        "casper": HOSTS + "http2-casper: ON\n",
        "casper: perhaps": HOSTS + "http2-casper: PERHAPS\n",
        "http2-reprioritize-blocking-assets: perhaps": HOSTS + "http2-reprioritize-blocking-assets: PERHAPS\n",
        "handshake-timeout: a word": HOSTS + "handshake-timeout: long\n",
        "tcp-fastopen: a word": HOSTS + "tcp-fastopen: yes\n",
        "temp-buffer-path": HOSTS + "temp-buffer-path: /var/tmp\n",
        "crash-handler": HOSTS + "crash-handler: /bin/true\ncrash-handler.wait-pipe-close: OFF\n",
        "crash-handler.wait-pipe-close: perhaps": HOSTS + "crash-handler.wait-pipe-close: PERHAPS\n",
        "num-ocsp-updaters": HOSTS + "num-ocsp-updaters: 3\n",
        "error-log.emit-request-errors": HOSTS + "error-log.emit-request-errors: OFF\n",
        "duration-stats": HOSTS + "duration-stats: ON\n",
        "server-name: a mapping": HOSTS + "server-name: { a: b }\n",
        "send-server-name: perhaps": HOSTS + "send-server-name: PERHAPS\n",
        "extensions": START + "hosts:\n  default:\n    paths:\n      /:\n        extension:\n"
                      "          .cgi:\n            file.dir: /tmp\n",
        "custom handler": path_with("file.custom-handler: { extension: .php, fastcgi.connect: 9000 }", "file.dir: /tmp"),
        "custom handler without extension": path_with("file.custom-handler: { fastcgi.connect: 9000 }"),
        "a host with a bad port": START + "hosts:\n  'x.test:y':\n    paths: {}\n",
        "an empty host": START + "hosts:\n  '':\n    paths: {}\n",
        "a path without a slash": START + "hosts:\n  default:\n    paths:\n      x:\n        file.dir: /tmp\n",
    }
    # A setting that is missing everywhere is missing in the whole file, or in its only host; errors may name either.
    return [Check(name, text, name != "no listen") for name, text in listed.items()]


def all_requests() -> Sequence[Case | Raw | Handshake]:
    return [*cases(), *raws(), *handshakes()]
