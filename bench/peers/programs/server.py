"""The Python peer of bench/drain/drain.py: a WSGI application for gunicorn."""

import os
import time
from urllib.parse import parse_qs

ROOT = os.environ["DRAIN_ROOT"]
HELLO = b"Hello World\n"


def read_all(stream):
    count = 0
    while piece := stream.read(65536):
        count += len(piece)
    return count


def application(environ, start_response):
    path = environ["PATH_INFO"]
    status, body, length = "200 OK", [HELLO], len(HELLO)
    if path == "/slow":
        time.sleep(int(parse_qs(environ["QUERY_STRING"])["ms"][0]) / 1000)
    elif path == "/upload":
        body = [b"%d\n" % read_all(environ["wsgi.input"])]
        length = len(body[0])
    elif path == "/large.bin":
        file = os.path.join(ROOT, "large.bin")
        body = environ["wsgi.file_wrapper"](open(file, "rb"))
        length = os.path.getsize(file)
    elif path != "/small":
        status = "404 Not Found"
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(length))])
    return body
