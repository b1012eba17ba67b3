"""Certificates that are wrong in one way each, made with openssl, and an upstream that shows them."""

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

from tests.upstream import Upstream

_AUTHORITY = """\
[ca]
default_ca = own
[own]
database = {folder}/index
new_certs_dir = {folder}
serial = {folder}/serial
default_md = sha256
policy = any
copy_extensions = copy
[any]
commonName = supplied
[req]
distinguished_name = nobody
[nobody]
"""


def make_certificate(folder: Path, name: str, *, expired: bool = False) -> Path:
    """A self-signed certificate for `name` ("IP:127.0.0.1" or "DNS:…") and its key, in one file."""
    folder.mkdir()
    config, key, request, certificate = (folder / part for part in ("ca.cnf", "key.pem", "request.pem", "cert.pem"))
    config.write_text(_AUTHORITY.format(folder=folder))
    (folder / "index").touch()
    (folder / "serial").write_text("01")
    asked = f"req -config {config} -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=upstream"
    _openssl(f"{asked} -addext subjectAltName={name} -keyout {key} -out {request}")
    dates = "-startdate 20200101000000Z -enddate 20200102000000Z" if expired else "-days 2"
    _openssl(f"ca -config {config} -batch -notext -selfsign {dates} -keyfile {key} -in {request} -out {certificate}")
    both = folder / "both.pem"
    both.write_text(key.read_text() + certificate.read_text())
    return both


def _openssl(arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split(" ")], check=True, capture_output=True, timeout=30)


def server_context(certificate: Path) -> ssl.SSLContext:
    """A TLS server with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


class _TlsUpstream(Upstream):
    @property
    def url(self) -> str:
        return super().url.replace("http:", "https:")


@contextlib.asynccontextmanager
async def tls_upstream(context: ssl.SSLContext) -> AsyncIterator[Upstream]:
    """An upstream behind TLS."""
    service = _TlsUpstream()
    server = await asyncio.start_server(service._serve, "127.0.0.1", 0, ssl=context)
    service.port = server.sockets[0].getsockname()[1]
    try:
        yield service
    finally:
        server.close()
        for writer in list(service._writers):
            writer.transport.abort()
