"""Fetches the source distributions that carry the suites: `fetch.py DIRECTORY`. pip would build them to do the same."""

import hashlib
import pathlib
import re
import subprocess
import sys
import tarfile
import urllib.parse
import urllib.request

SOURCES = pathlib.Path(__file__).with_name("sources.txt")


def index():
    """The package index that pip uses."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    told = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return (told or "https://pypi.org/simple").rstrip("/") + "/"


def fetch(name, version, digest):
    page = index() + name + "/"
    with urllib.request.urlopen(page, timeout=60) as answer:
        links = re.findall(r'href="([^"#]+)', answer.read().decode())
    link = next(link for link in links if link.endswith(f"/{name}-{version}.tar.gz"))
    with urllib.request.urlopen(urllib.parse.urljoin(page, link), timeout=60) as answer:
        body = answer.read()
    if hashlib.sha256(body).hexdigest() != digest:
        sys.exit(f"{name} {version} is not what sources.txt says")
    return body


def main():
    directory = pathlib.Path(sys.argv[1])
    for line in SOURCES.read_text().splitlines():
        name, version, digest = line.split()
        if (directory / f"{name}-{version}").is_dir():
            continue
        archive = directory / f"{name}-{version}.tar.gz"
        archive.write_bytes(fetch(name, version, digest))
        with tarfile.open(archive) as tar:
            tar.extractall(directory, filter="data")


main()
