"""An application for the tests: a real server of Python's http.server.

    app.py MODE...

polite    at SIGTERM: take no more, finish, exit with status 0
deaf      ignore SIGTERM
late      listen once the file $APP_GATE exists
unhealthy listen at once, but answer /health with 503 until that file exists
daemon    listen, then go on in a child with a session of its own while this process exits with status 0; with
          `patient`, once that file exists
family    have children: one in the group, and one that is left behind at once
unix      listen on the Unix socket $APP_SOCKET
Without polite and deaf, SIGTERM ends it at once.
"""

import http.server
import json
import os
import resource
import signal
import socketserver
import subprocess
import sys
import threading
import time

MODES = sys.argv[1:]
BEGAN_WITH = {}
for fd in os.listdir("/proc/self/fd"):  # which has one of its own, gone by then
    try:
        BEGAN_WITH[fd] = os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        pass
hups = 0
pids = []


def status_line(name):
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(line.split()[1] for line in lines if line.startswith(name + ":"))


def is_open():
    return os.path.exists(os.environ["APP_GATE"])


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self):
        return "?"

    def log_message(self, *args):
        pass

    def answer(self, text, status=200):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        path, _, query = self.path.partition("?")
        value = query.partition("=")[2]
        if path == "/slow":
            time.sleep(int(value) / 1000)
            self.answer("slept\n")
        elif path == "/gated":
            while not is_open():
                time.sleep(0.005)
            self.answer("through\n")
        elif path == "/exit":
            os._exit(int(value))
        elif path == "/crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif path == "/health":
            self.answer("health\n", 200 if is_open() else 503)
        elif path == "/pid":
            self.answer(f"{os.getpid()}\n")
        elif path == "/fields":
            self.answer("".join(f"{name.lower()}: {value}\n" for name, value in self.headers.items()))
        elif path == "/hups":
            self.answer(f"hups={hups}\n")
        elif path == "/pids":
            self.answer(" ".join(map(str, pids)) + "\n")
        elif path == "/world":
            self.answer(
                json.dumps(
                    {
                        "port": os.environ.get("PORT"),
                        "picked": os.environ.get("LASTCALL_APP_PORT"),
                        "notify": os.environ.get("NOTIFY_SOCKET"),
                        "handover": os.environ.get("LASTCALL_HANDOVER"),
                        "blocked": status_line("SigBlk"),
                        "ignored": status_line("SigIgn"),
                        "group": os.getpgid(0) == os.getpid(),
                        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
                        "descriptors": BEGAN_WITH,
                    }
                )
                + "\n"
            )
        else:
            self.answer("python\n")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(f"{len(body)}\n")


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    request_queue_size = 128
    daemon_threads = True


def on_hup(*_):
    global hups
    hups += 1


signal.signal(signal.SIGHUP, on_hup)
if "deaf" in MODES:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "family" in MODES:
    pids.append(subprocess.Popen(["sleep", "1000"]).pid)
    # The shell ends, and what it has started is an orphan; another orphan ends by itself.
    shell = subprocess.run(
        ["sh", "-c", "sleep 1000 >/dev/null & echo $!; sleep 0 & exit"], stdout=subprocess.PIPE, check=True
    )
    pids.append(int(shell.stdout.split()[0]))
while "late" in MODES and not is_open():
    time.sleep(0.005)
if "unix" in MODES:
    server = UnixServer(os.environ["APP_SOCKET"], Handler)
else:
    server = Server(("127.0.0.1", int(os.environ["PORT"])), Handler)
if "daemon" in MODES:
    told, tell = os.pipe()
    if os.fork() > 0:
        os.read(told, 1)  # the child has left this process group
        while "patient" in MODES and not is_open():
            time.sleep(0.005)
        os._exit(0)
    os.setsid()
    os.write(tell, b".")
if "polite" in MODES:
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
