"""``aecodec web``: the page in `codec/web`, served to a browser on this machine."""

from __future__ import annotations

import json
import shutil
import webbrowser
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click

from codec.cli.errors import clear_errors
from codec.entropy.context_file import CONTEXT_FILE, load_context
from codec.errors import CodecError, ModelError
from codec.io.outputs import files_together
from codec.model_folder import (
    DEFAULT_MODEL,
    GRAPHS,
    WEIGHTS,
    find_model,
    has_graphs,
    read_description,
    read_graphs,
)

PAGE = Path(__file__).parent.parent / "web"
ADDRESS, PORT = "127.0.0.1", 8424
MODELS = "models.json"
"""File of the page that lists its models."""

TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".mjs": "text/javascript",
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
    """Everything that belongs to the page.

    Args:
        models: names or folders of the models that it offers, the first one by default.

    Raises:
        ModelError: there is no such model, or it has no graphs.
    """
    files: Files = {
        path.relative_to(PAGE).as_posix(): path for path in PAGE.rglob("*") if path.is_file()
    }
    listed: dict[str, dict[str, Any]] = {}
    for model in models:
        folder = find_model(model)
        description = read_description(folder)
        if not has_graphs(folder):
            raise ModelError(f"{folder} has no graphs: aecodec export {folder} {folder}")
        graphs = read_graphs(folder)
        names = [
            "config.json",
            GRAPHS,
            WEIGHTS,
            graphs["encoder"]["file"],
            graphs["decoder"]["file"],
        ]
        fingerprint = description["fingerprint"]
        context = load_context(folder, bytes.fromhex(fingerprint))
        if context is not None:
            names.append(CONTEXT_FILE)
        place = f"models/{fingerprint}/"  # the names of two models may be equal, or no addresses
        files |= {place + name: folder / name for name in names}
        listed[fingerprint] = {
            "name": description["name"],
            "fingerprint": fingerprint,
            "folder": place,
            "bytes": (folder / WEIGHTS).stat().st_size,
            "context": context.identity.hex() if context else None,
        }
    files[MODELS] = json.dumps([*listed.values()]).encode()
    return files


def copy_page(files: Files, out: Path) -> None:
    """Write the page to a new folder.

    Raises:
        CodecError: the folder exists.
    """
    if out.exists():
        raise CodecError(f"{out} exists already: remove it, or give another folder")
    with files_together(out) as aside:
        for name, content in files.items():
            path = aside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                shutil.copyfile(content, path)


def open_server(files: Files, port: int) -> ThreadingHTTPServer:
    """A server of these files and of nothing else, on the loopback address.

    Args:
        files: see `page_files`.
        port: port to listen on; 0 for any free one.

    Raises:
        CodecError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.partition("?")[0].removeprefix("/") or "index.html"
            content = files.get(name)
            if content is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            data = content if isinstance(content, bytes) else content.read_bytes()
            kind = TYPES.get(Path(name).suffix, "application/octet-stream")
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", "no-cache")  # another version may follow
            self.end_headers()
            with suppress(ConnectionError):  # the page was closed while it was loading
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Nothing: the terminal is for the user."""

    try:
        return ThreadingHTTPServer((ADDRESS, port), Handler)
    except OSError as error:
        raise CodecError(
            f"port {port} cannot be used ({error.strerror}): give another one with --port"
        ) from error
