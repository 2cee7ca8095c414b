"""The files that both servers serve, and the certificates they show.

They are shared, so that what is derived from inode, size and time (entity tags, Last-Modified) is equal.
Everything can be read by any user: a server started as root gives its rights up.
"""

from __future__ import annotations

import gzip
import os
import subprocess
from pathlib import Path

MODIFIED = 1_500_000_000  # Fri, 14 Jul 2017 02:40:00 GMT, of every file
MODIFIED_TEXT = "Fri, 14 Jul 2017 02:40:00 GMT"
BEFORE_TEXT = "Thu, 13 Jul 2017 02:40:00 GMT"
AFTER_TEXT = "Sat, 15 Jul 2017 02:40:00 GMT"

# The subject and the names of each certificate. `two` also stands for a stranger's authority.
CERTIFICATES = {
    "one": ("one.test", "DNS:localhost,DNS:default.test,IP:127.0.0.1"),
    "two": ("two.test", "DNS:two.test,DNS:old.test"),
}


def pattern(size: int) -> bytes:
    """Bytes in which no stretch repeats at the place where a wrong range would find it."""
    return b"".join(b"%07d\n" % number for number in range(size // 8 + 1))[:size]


def zipped(text: bytes) -> bytes:
    return gzip.compress(text, mtime=0)


def documents() -> dict[str, bytes]:
    html = b"<!doctype html><title>page</title>\n" + b"<p>a line of a page, often the same</p>\n" * 60
    css = b"p { color: #123456; margin: 1px 2px 3px 4px }\n" * 100
    return {
        "index.html": b"<!doctype html><title>top</title>the index of the top\n",
        "note.txt": b"twenty-six little letters: abcdefghijklmnopqrstuvwxyz\n",
        "page.html": html,
        "style.css": css,
        "script.js": b"function f(x) { return x + x; }\n" * 50,
        "picture.png": pattern(3000),
        "numbers.bin": pattern(40_000),
        "large.bin": pattern(300_000),
        "empty.txt": b"",
        "one-byte": b"1",
        "without-extension": b"no extension\n",
        "UPPER.HTML": b"<title>upper</title>\n",
        "short.html": b"<p>short</p>\n",  # below the smallest size that is compressed
        "thing.odd": b"an odd type, an odd type, an odd type, an odd type, an odd type, an odd type, odd\n" * 9,
        "thing.strange": b"strange\n",
        "thing.tar.gz": zipped(b"not really an archive\n"),
        "name with blank.txt": b"blank\n",
        "name+plus&and.txt": b"plus\n",
        "caf\u00e9.txt": b"accent\n",
        "<angle>.txt": b"angle\n",
        ".hidden": b"hidden\n",
        "prepared.html": html,
        "prepared.html.gz": zipped(html),
        # Only the compressed form: what `gunzip` is for.
        "only-zipped.html.gz": zipped(html),
        # Says something else than its companion, so that one sees which was taken.
        "differs.txt": b"the plain one\n",
        "differs.txt.gz": zipped(b"the zipped one\n"),
        "brotli.txt": b"the plain one again\n",
        "brotli.txt.br": b"taken for brotli, as nobody looks inside\n",
        "sub/index.html": b"<title>sub</title>the index of sub\n",
        "sub/inner.txt": b"inner\n",
        "sub/deep/leaf.txt": b"leaf\n",
        "text-index/index.txt": b"an index in plain text\n",
        "no-index/a.txt": b"a\n",
        "no-index/b.txt": b"b\n",
        "no-index/c/d.txt": b"d\n",
        "documents/not-found.html": b"<title>404</title>a document that says not found\n",
        "documents/refused.html": b"<title>403</title>a document that says no\n",
        "documents/broken.html": b"<title>50x</title>a document that says later\n",
    }


def entity_tag(content: bytes) -> str:
    """As libh2o makes it, from time and size."""
    return f'"{MODIFIED:08x}-{len(content):x}"'


def make_documents(root: Path) -> None:
    for name, content in documents().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o644)
    unreadable = root / "unreadable.txt"
    unreadable.write_text("nobody may read this\n")
    unreadable.chmod(0)
    (root / "link.txt").symlink_to("note.txt")
    (root / "dangling.txt").symlink_to("nowhere")
    (root / "empty-folder").mkdir()
    # Folders last: writing into them changes their time.
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            os.utime(Path(folder, name), (MODIFIED, MODIFIED), follow_symlinks=False)
        os.chmod(folder, 0o755)
        os.utime(folder, (MODIFIED, MODIFIED))


def make_certificates(folder: Path) -> None:
    for name, (subject, names) in CERTIFICATES.items():
        done = subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30",
             "-subj", f"/CN={subject}", "-addext", f"subjectAltName={names}",
             "-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        if done.returncode != 0:
            raise RuntimeError("openssl req: " + done.stderr.decode(errors="replace").strip())
        (folder / f"{name}.key").chmod(0o644)
