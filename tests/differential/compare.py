"""What counts as a difference between two exchanges, and how it is printed.

Everything is compared, but for what cannot be equal: the name of the server where it was not configured,
the date, the server's own port, and the random boundary of a multi-part answer.
"""

from __future__ import annotations

import ctypes
import re
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Callable

from clients import Answer, Exchange
from servers import Server

OWN_NAME = {"A": re.compile(r"h2o(/[0-9.]+\S*)?"), "B": re.compile(r"(lastcall|h2o)(/[0-9.]+\S*)?")}
DATE_OFF_MOST_S = 120
TEXT_MOST = 100_000  # longer bodies are not searched for ports
SHOWN_MOST = 300
PACKED = "brotli's bytes"  # of a body that is the same when unpacked
UNPACKED_MOST = 8 << 20


@dataclass
class Difference:
    what: str
    a: str
    b: str


@dataclass
class Allowed:
    """An intended difference: only in comparisons whose title matches, and only if `fits`."""

    reason: str
    title: re.Pattern[str]
    fits: Callable[[list[Difference]], bool] = lambda found: True


def only_in(side: str, text: str) -> Callable[[list[Difference]], bool]:
    """One of the differences shows `text` on this side, and not on the other."""
    def fits(found: list[Difference]) -> bool:
        sides = [(difference.a, difference.b) if side == "A" else (difference.b, difference.a)
                 for difference in found]
        return any(text in here and text not in there for here, there in sides)
    return fits


# Requests on bytes of their own that two servers could read differently; h2o takes them, or refuses them with other
# words and without a line in its access log. See docs/requests.md.
REFUSED = (
    "no Host in 1.1", "two Hosts", "a Host with a path", "nothing but line ends", "line ends before the request",
    "one word", "two words", "HTTP/0.9", "a text", "HTTP/2.0", "HTTP/3", "http in small letters", "no version",
    "two blanks", "a tab", "a blank in the path", "a NUL in the path", "a NUL in a header", "a NUL in a name",
    "a blank in a name", "a blank after a name", "no colon", "no name", "a folded header",
    "a control character in a header", "a bare CR in a header", "a relative target",
    "an asterisk to GET", "absolute-form, other host", "absolute-form, strange scheme", "authority-form",
    "an empty method", "a method with a colon", "101 headers", "200 headers", "fragment", "TLS where there is none",
    "pipelined: a bad one second", "PROXY and nonsense", "a PROXY line where none belongs",
    "absolute-form names the host",
    "a length with a plus", "a negative length", "a length in hex", "a length that is a word", "an empty length",
    "an enormous length", "two lengths", "chunks, line feeds only", "chunks, no digit", "chunks, bad digit",
    "chunks, minus", "chunks, enormous size", "chunks, no end after the data", "chunks and a length", "chunks twice",
    "an unknown coding", "identity", "gzip, chunked", "chunked, gzip", "chunked in 1.0",
)
REFUSED_TITLE = re.compile(r"^\w+: (" + "|".join(map(re.escape, REFUSED)) + r")( \(TLS\))?$")
REFUSED_LINE = re.compile(r'^- ".*" .* (400|431|501) \d+ ')


def refused(found: list[Difference]) -> bool:
    """B's answer names the rule that the request breaks."""
    return any(difference.what.startswith("body") and re.search(r"\(RFC \d+ [\d. and]+\)\\n", difference.b)
               for difference in found)


def weaker(found: list[Difference]) -> bool:
    """The one header that differs is an entity tag, weak at B, strong at A."""
    headers = [difference for difference in found if not difference.what.startswith(PACKED)]
    return bool(headers) and all(difference.what.startswith("headers") and difference.a.startswith('etag: "') and
                                 difference.b == difference.a.replace("etag: ", "etag: W/") for difference in headers)


# Where h2o answers a part, or 416, and RFC 9110 says, or allows, that Range is ignored: server/mends/ranges.c.
RANGE_IGNORED = (
    r"HEAD \S+, Range: .*", r"GET \S+/empty\.txt, Range: .*", r"GET \S+, Range: .*, If-Range: .*",
    r"GET \S+, Range: (bytes|lines=1-2|BYTES=0-1|bytes = 0-1)",
    r"GET \S+, Range: bytes=(0-1,|18446744073709551615-|0-18446744073709551616|0-9,5-14,0-39999)",
)
RANGE_IGNORED_TITLE = re.compile(r"^files: (" + "|".join(RANGE_IGNORED) + r")$")


def whole(found: list[Difference]) -> bool:
    """B answers with the whole file, A does not."""
    return any(difference.what.startswith("status line") and re.match(r"HTTP/\S+ (206|416)", difference.a) and
               re.match(r"HTTP/\S+ 200", difference.b) for difference in found)


# Access log lines of a request whose difference is allowed are left out, too, where the request has a mark.
# What h2o and lastcall say of an upstream that fails. The status is the same, or 504 where h2o has 502.
H2O_SAYS = re.compile(r"I/O error|I/O timeout|failed to parse the response|connection fail|\[lib/core/proxy\.c\]")
OURS_SAYS = re.compile(r"the upstream|Connection refused|\[proxy\]|504 Gateway Timeout")


def about_a_failed_upstream(found: list[Difference]) -> bool:
    """Every difference is of the text of the error, or follows from it."""
    return all(difference.a.startswith("content-length: ") and difference.b.startswith("content-length: ")
               or H2O_SAYS.search(difference.a) and OURS_SAYS.search(difference.b)
               or difference.a == "(no such line)" and OURS_SAYS.search(difference.b)
               or re.match(r"HTTP/\S+ 502", difference.a) and re.match(r"HTTP/\S+ 504", difference.b)
               for difference in found)


ALLOWED = [
    # Bodies are held in memory until they are whole, so lastcall takes no more than 16 MiB by default;
    # h2o takes 1 GiB. Here the client only announces that much: h2o asks for the body, lastcall refuses.
    Allowed("limit-request-body is 16 MiB by default, not 1 GiB",
            re.compile(r"^defaults: a body of 17 MiB, announced$"), only_in("B", "413 Request Entity Too Large")),
    Allowed("limit-request-body is 16 MiB by default, not 1 GiB",
            re.compile(r"^defaults/combined\.log: "), only_in("B", '"POST /upstream/echo HTTP/1.1" 413 ')),
    # The packaged h2o brings its own, older brotli, and where an encoder flushes depends on the pieces in which
    # an upstream's answer arrives. What comes out of the decoder is compared.
    Allowed("brotli's bytes differ, what they unpack to is equal", re.compile(r"Accept-Encoding: .*br"),
            lambda found: all(difference.what.startswith(PACKED) for difference in found)),
    # h2o 2.2.5 is older than TLS 1.3 in OpenSSL, and knows maximum-version only as a switch for a library
    # that it is not built with: it goes on to TLS 1.3 where the configuration says 1.2. lastcall does not.
    Allowed("maximum-version is heeded for TLS 1.3, too",
            re.compile(r"^hosts: handshake on FOURTH, .* to MAXIMUM_SUPPORTED, ciphers of choice$"),
            lambda found: "TLSv1.3" in found[0].a or found[-1].a == "established"),
    Allowed("requests that servers could read differently are refused", REFUSED_TITLE, refused),
    Allowed("requests that servers could read differently are refused",
            re.compile(r"^\w+: GET http://default\.test/(note\.txt%00|note\.txt\?a\?b#c|echo/%00x)$"),
            lambda found: refused(found) or only_in("B", "stream reset")(found)),
    # h2o resets the stream with REFUSED_STREAM, which asks the client to send it again.
    Allowed("a body over the limit is answered 413 over HTTP/2, too",
            re.compile(r"^limits: POST \S+ with (1001|5000) bytes( in chunks)?$"), only_in("B", "HTTP/2 413")),
    # h2o ends an answer that its upstream cut between two chunks as if it were whole.
    Allowed("a cut answer is seen to be cut", re.compile(r"^proxy: GET \S+/chunked-cut$")),
    # h2o asks with GET and sends the body that comes, after the head of the answer to HEAD.
    Allowed("HEAD stays HEAD when it is sent on", re.compile(r"^proxy: HEAD \S+/reproxied/reproxy\?to=/echo$")),
    Allowed("without listen, for a service manager that listens", re.compile(r"^configuration check: no listen$"),
            only_in("B", "socket activation")),
    Allowed("a body over the limit is answered 413 over HTTP/2, too",
            re.compile(r"^limits/access\.log: HTTP/2"), only_in("B", ' HTTP/2" POST ')),
    Allowed("Range is ignored as RFC 9110 says, and where it asks for more than the file", RANGE_IGNORED_TITLE, whole),
    Allowed("limits.header-size is 64 KiB", re.compile(r"^files: a header of 110,000 bytes$"), only_in("B", " 431 ")),
    Allowed("an absolute target is routed by its host and path",
            re.compile(r"^\w+: absolute-form(, no path|, https|, preserved| through the proxy)?( \(TLS\))?$")),
    Allowed("an absolute target is routed by its host and path",
            re.compile(r"^(files|proxy)/access\.log: -$"), lambda found: "?absolute" in found[0].b),
    Allowed("blanks after a length, and a length given twice, change nothing",
            re.compile(r"^proxy: (blanks around a length|a list of lengths)$"),
            only_in("A", "HTTP/1.1 400 ")),
    Allowed("the entity tag of a compressed body is weak", re.compile(r"Accept-Encoding: "), weaker),
    # The upstream ends between two chunks: h2o adds the last one, lastcall shows the cut.
    Allowed("what an upstream did not finish does not look whole",
            re.compile(r"^proxy: GET http://default\.test/chunked-cut$"),
            lambda found: any("stream reset" in difference.b or "bad chunk size" in difference.b for difference in found)),
    # h2o makes GET of it, and sends the body; the upstream's answer says which method it saw.
    Allowed("HEAD that X-Reproxy-URL sends on stays HEAD",
            re.compile(r"^proxy: HEAD http://default\.test/reproxied/reproxy\?to=/echo$")),
    # docs/proxy.md lists these.
    Allowed("the answer for a failed upstream says what happened, and 504 that it took too long",
            re.compile(r"^(proxy|forwarded)(/\w+\.log)?: "), about_a_failed_upstream),
    Allowed("fields that Connection names are not passed on", re.compile(r"^(proxy|forwarded): GET \S+/hop-by-hop"),
            only_in("A", "x-hop: 1")),
    Allowed("fields that Connection names are not passed on", re.compile(r"^(proxy|forwarded): HEAD \S+/hop-by-hop"),
            only_in("A", "x-hop: 1")),
    Allowed("fields that Connection names are not passed on",
            re.compile(r"^proxy: connection header names others"), only_in("A", "X-Drop: 1")),
    Allowed("fields that Connection names are not passed on", re.compile(r"^proxy/access\.log: -$"),
            lambda found: '"GET /echo HTTP/1.1"' in found[0].b and " 200 149 " in found[0].b),
    Allowed("a Location is rewritten also if it is https, and with the slash between its paths",
            re.compile(r"^(proxy|defaults): GET \S+/redirect\?to=https?://SELF/"),
            lambda found: all(difference.a.startswith("location: ") for difference in found)),
    Allowed("bytes of a malformed chunk are not passed on", re.compile(r"^proxy: GET \S+/chunked-bad$")),
    # h2o warns of an "unknown protocol version", and goes on without a minimum.
    Allowed("an unknown minimum-version is refused", re.compile(r"^configuration check: ssl: unknown version$"),
            only_in("A", "unknown protocol version")),
    # h2o reads only the first document, and no errors after it.
    Allowed("a second YAML document is refused", re.compile(r"^configuration check: two documents$"),
            only_in("B", "second document")),
]


# ---- normalising what always differs ----


def plain_date(value: str) -> str:
    try:
        off = abs(parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return value
    return "NOW" if off < DATE_OFF_MOST_S else value


def plain_header(server: Server, name: str, value: str) -> str:
    if name == "server" and OWN_NAME[server.side].fullmatch(value):
        return "OWN-NAME"
    if name == "date":
        return plain_date(value)
    return plain_ports(server, value.encode("latin-1")).decode("latin-1")


def plain_ports(server: Server, data: bytes) -> bytes:
    if len(data) <= TEXT_MOST:
        for port, name in server.own:
            data = re.sub(port + rb"(?![0-9])", name, data)
    return data


def plain_answer(server: Server, answer: Answer) -> Answer:
    headers = [(name, plain_header(server, name, value)) for name, value in answer.headers]
    body = plain_ports(server, answer.body)
    for number, (name, value) in enumerate(headers):
        found = re.fullmatch(r"multipart/byteranges; boundary=(\S+)", value) if name == "content-type" else None
        if found:
            headers[number] = (name, value.replace(found[1], "BOUNDARY"))
            body = body.replace(found[1].encode(), b"BOUNDARY")
    return Answer(answer.status, headers, body, answer.interim)


# ---- comparing ----


def is_reset_unseen(a: Exchange, b: Exchange) -> bool:
    """Both streams were reset, and curl shows what came before of one at most: it shows nothing of an answer whose
    reset comes in the same read(2)."""
    return all(side.end.startswith("stream reset") for side in (a, b)) and not (a.answers and b.answers)


def compare(servers: tuple[Server, Server], a: Exchange, b: Exchange, at_least_s: float) -> list[Difference]:
    found: list[Difference] = []
    if is_reset_unseen(a, b):
        return found
    answers = [[plain_answer(server, answer) for answer in exchange.answers]
               for server, exchange in zip(servers, (a, b))]
    if len(answers[0]) != len(answers[1]):
        found.append(Difference("number of answers", *(
            f"{len(side)}: " + "; ".join(answer.status for answer in side) for side in answers)))
    for number, (one, two) in enumerate(zip(*answers), 1):
        which = f" of answer {number}" if max(map(len, answers)) > 1 else ""
        found += compare_answer(one, two, which)
    if a.end != b.end:
        found.append(Difference("end", a.end, b.end))
    for side, exchange in (("A", a), ("B", b)):
        if exchange.took_s < at_least_s:
            found.append(Difference(f"time: {side} took less than {at_least_s} s",
                                    f"{a.took_s:.3f} s", f"{b.took_s:.3f} s"))
    return found


def compare_answer(a: Answer, b: Answer, which: str) -> list[Difference]:
    found: list[Difference] = []
    if a.interim != b.interim:
        found.append(Difference("interim answers" + which, str(a.interim), str(b.interim)))
    if a.status != b.status:
        found.append(Difference("status line" + which, a.status, b.status))
    if a.headers != b.headers:
        only_a, only_b = Counter(a.headers) - Counter(b.headers), Counter(b.headers) - Counter(a.headers)
        if only_a or only_b:
            found.append(Difference("headers" + which, *(
                "; ".join(f"{name}: {value}" for name, value in side.elements()) or "(no more)"
                for side in (only_a, only_b))))
        else:
            found.append(Difference("order of headers" + which, *(
                ", ".join(name for name, _ in side.headers) for side in (a, b))))
    if a.body != b.body:
        same = all(("content-encoding", "br") in side.headers for side in (a, b)) and \
            unpack(a.body) == unpack(b.body) is not None
        found.append(Difference((PACKED if same else "body") + which, *show_bodies(a.body, b.body)))
    return found


def unpack(body: bytes) -> bytes | None:
    """None: this is not brotli's format, or its library is not here (curl's packages bring it along)."""
    try:
        library = ctypes.CDLL("libbrotlidec.so.1")
    except OSError:
        return None
    room = ctypes.c_size_t(UNPACKED_MOST)
    out = ctypes.create_string_buffer(room.value)
    if library.BrotliDecoderDecompress(ctypes.c_size_t(len(body)), body, ctypes.byref(room), out) != 1:
        return None
    return out.raw[:room.value]


def show_bodies(a: bytes, b: bytes) -> tuple[str, str]:
    """Both from shortly before the first byte that differs."""
    at = next((n for n, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    begin = max(0, at - 20)
    return tuple(f"{len(side)} bytes, from {begin}: {side[begin:begin + 200]!r}"  # type: ignore[return-value]
                 for side in (a, b))


def allowed_by(title: str, found: list[Difference]) -> Allowed | None:
    return next((entry for entry in ALLOWED if entry.title.search(title) and entry.fits(found)), None)


def shorten(text: str) -> str:
    text = text.replace("\r", "\\r").replace("\n", "\\n")
    return text if len(text) <= SHOWN_MOST else f"{text[:SHOWN_MOST]}... ({len(text)} characters)"


def block(title: str, transport: str, found: list[Difference]) -> str:
    lines = [f"--- {shorten(title)}", f"    over {transport}"]
    for difference in found:
        lines += [f"    {difference.what}", f"      A: {shorten(difference.a)}", f"      B: {shorten(difference.b)}"]
    return "\n".join(lines)


# ---- access logs ----


def plain_log(server: Server, name: str) -> list[str]:
    path = server.logs / name
    if not path.exists():
        return ["(there is no log)"]
    return [re.sub(r"(multipart/byteranges; boundary=)\w+", r"\1BOUNDARY",
                   plain_ports(server, line).decode("latin-1"))
            for line in path.read_bytes().splitlines()]


def compare_logs(a: list[str], b: list[str]) -> tuple[int, list[tuple[str, list[Difference]]]]:
    """Lines belong together by their first word; requests that ran at the same time have no order."""
    sides: list[dict[str, list[str]]] = []
    for lines in (a, b):
        by_mark: dict[str, list[str]] = defaultdict(list)
        for line in sorted(lines):
            by_mark[line.partition(" ")[0]].append(line)
        sides.append(by_mark)
    found: list[tuple[str, list[Difference]]] = []
    marks = sorted(sides[0].keys() | sides[1].keys())
    count = 0
    for mark in marks:
        one, two = Counter(sides[0].get(mark, [])), Counter(sides[1].get(mark, []))
        count += max(one.total(), two.total())
        if one != two:
            left, right = (sorted((x - y).elements()) for x, y in ((one, two), (two, one)))
            if mark == "-":  # a request without a mark: B may have refused what A has taken, each in a line
                others = [line for line in right if not REFUSED_LINE.search(line)]
                left, right = left[:max(0, len(left) - len(right))], others
            for number in range(max(len(left), len(right))):
                found.append((mark, [Difference("line", *(
                    side[number] if number < len(side) else "(no such line)" for side in (left, right)))]))
    return count, found
