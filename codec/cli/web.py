"""``aecodec web``: the page in `codec/web`, served to a browser on this machine."""

from __future__ import annotations

import json
import re
import socket
import threading
import webbrowser
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import isfinite
from pathlib import Path
from typing import Any

import click

from codec.cli.errors import clear_errors
from codec.config import CodecConfig
from codec.core.network import unsupported
from codec.entropy.context_file import CONTEXT_FILE
from codec.errors import CodecError, ModelError
from codec.export import model_in_8_bits
from codec.io.outputs import files_together
from codec.model_folder import DEFAULT_MODEL, WEIGHTS, find_model, read_description
from codec.rate.quality import quality_lambdas
from codec.registry import Model, load_model

PAGE = Path(__file__).parent.parent / "web"
ADDRESS, PORT = "127.0.0.1", 8424
HOST = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]{1,5})?", re.IGNORECASE)
IDLE_SECONDS, LONGEST_SECONDS, MOST_CONNECTIONS = 10, 60, 64
"""Time that a client may be silent, that one connection may take, and how many there may be."""

HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self' 'wasm-unsafe-eval'",
            "worker-src 'self'",
            "connect-src 'self' blob:",
            "style-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""What the page may do: run its own scripts and WebAssembly, and load its own files. The page of
another site may neither show it nor use its files."""

MODELS = "models.json"
"""File of the page that lists its models."""

TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".wasm": "application/wasm",
}

Files = dict[str, Path | bytes]
"""Paths of the page, and what lies there: a file or its content."""


@click.command()
@click.option(
    "-m", "--model", "models", multiple=True, help="A further model to offer; may be repeated."
)
@click.option("--out", type=click.Path(path_type=Path), help="Copy the page to this new folder.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
def web(models: tuple[str, ...], out: Path | None, port: int, no_browser: bool) -> None:
    """Open a page that codes in the browser.

    The page is served to this machine only, until Ctrl-C. With --out it becomes a folder for any
    web server.
    """
    with clear_errors():
        files = page_files([DEFAULT_MODEL, *models])
        if out is not None:
            copy_page(files, out)
            click.echo(out)
            return
        with open_server(files, port) as server:
            address = f"http://{ADDRESS}:{server.server_port}/"
            click.echo(address)
            click.echo("Ctrl-C ends it.", err=True)
            if not no_browser:
                webbrowser.open(address)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                return


def page_files(models: list[str]) -> Files:
    """Everything that belongs to the page, with the models that it offers, the first by default.

    Raises:
        ModelError: there is no such model, its files are damaged, or the core cannot run it.
    """
    files: Files = {
        path.relative_to(PAGE).as_posix(): path for path in PAGE.rglob("*") if path.is_file()
    }
    listed: dict[str, dict[str, Any]] = {}
    known: set[tuple[bytes, bytes]] = set()
    for model in models:
        folder = find_model(model)
        if reason := unsupported(CodecConfig.from_dict(read_description(folder)["codec"])):
            raise ModelError(f"the page cannot run {folder}: {reason}; offer another model")
        description, weights = model_in_8_bits(folder)
        loaded = load_model(folder, backend="core")  # checks what is to be served
        spec, context = loaded.spec, loaded.context
        fingerprint = spec.fingerprint.hex()
        content = weights, context.identity if context else b""
        if content in known:
            continue
        known.add(content)
        # Names may be equal, or no addresses; models may differ in their decoders alone.
        same = sum(each["fingerprint"] == fingerprint for each in listed.values())
        key = f"{fingerprint}-{same + 1}" if same else fingerprint
        place = f"models/{key}/"
        files[place + "config.json"] = json.dumps(description).encode()
        files[place + WEIGHTS] = weights
        if context:
            files[place + CONTEXT_FILE] = folder / CONTEXT_FILE
        listed[key] = {
            "name": spec.name,
            "key": key,
            "fingerprint": fingerprint,
            "folder": place,
            "bytes": len(weights),
            "context": context.identity.hex() if context else None,
            "codebooks": [
                {"bits": book.bits, "perFrame": book.per_frame} for book in spec.codebooks
            ],
            "channelsCodedTogether": spec.channels_coded_together,
            "lambdas": served_lambdas(loaded) if context else None,
        }
    files[MODELS] = json.dumps([*listed.values()]).encode()
    return files


def served_lambdas(model: Model) -> list[float | None]:
    """The lambdas of the qualities 0, 0.1, ..., 10; None for minus infinity, which JSON lacks."""
    found = quality_lambdas(model.engine, [step / 10 for step in range(101)])
    return [each if isfinite(each) else None for each in found]


def copy_page(files: Files, out: Path) -> None:
    """Write the page to a folder, which appears when it is complete and must not exist before."""
    if out.exists():
        raise CodecError(f"{out} exists already: remove it, or give another folder")
    with files_together(out) as aside:
        for name, content in files.items():
            path = aside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())


class Server(ThreadingHTTPServer):
    """A server of some files and of nothing else, to this machine only; port 0 is any free one."""

    def __init__(self, files: Files, port: int) -> None:
        self.files = files
        self._connections = threading.Semaphore(MOST_CONNECTIONS)
        super().__init__((ADDRESS, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._connections.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, *_: Any) -> None:
        """Nothing: the terminal is for the user, who cannot mend what a browser does."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = IDLE_SECONDS

    def handle(self) -> None:
        """Answer one request. A client that sends or takes it too slowly is cut off."""
        cut = threading.Timer(LONGEST_SECONDS, self._cut)
        cut.daemon = True
        cut.start()
        try:
            super().handle()
        finally:
            cut.cancel()

    def do_GET(self) -> None:
        # The name of another host that leads here belongs to a page of somebody else, which would
        # read the files as its own (DNS rebinding). Ports differ where one is forwarded.
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not HOST.fullmatch(hosts[0].strip()):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return
        name = self.path.partition("?")[0].removeprefix("/") or "index.html"
        content = self.server.files.get(name)
        if content is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        data = content if isinstance(content, bytes) else content.read_bytes()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", TYPES.get(Path(name).suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-cache")  # another version may follow
        self.end_headers()
        with suppress(OSError):  # the page was closed while it was loading, or is too slow
            self.wfile.write(data)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing: the terminal is for the user."""

    def _cut(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


def open_server(files: Files, port: int) -> Server:
    """A `Server`, or a `CodecError` if the port is taken."""
    try:
        return Server(files, port)
    except OSError as error:
        raise CodecError(
            f"port {port} cannot be used ({error.strerror}): give another one with --port"
        ) from error
