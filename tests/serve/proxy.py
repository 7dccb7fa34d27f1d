"""A reverse proxy that serves a page below a sub-path."""

import contextlib
import http.client
import http.server
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

PREFIX = "/anime"


@contextlib.contextmanager
def proxy(server: str, *, strips: bool = True) -> Iterator[tuple[str, dict[str, int], list[str]]]:
    """Yields (address, failures, outside) of a proxy that passes requests below PREFIX to `server`, an address.

    Args:
      server: such as "http://127.0.0.1:7860".
      strips: whether it removes PREFIX from the paths, as nginx does after `proxy_pass http://127.0.0.1:7860/;`.

    Yields:
      The address; a dict to fill with {part of a path: status of the proxy's own answer, 0 to hang up}; and the paths
      outside of PREFIX that were asked for, which it answers 404.
    """
    failures, outside = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_request(self):
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            failure = next((status for part, status in failures.items() if part in self.path), None)
            if failure == 0:
                return self.connection.close()
            if failure or not self.path.startswith(f"{PREFIX}/"):
                outside.append(self.path)
                return self.send_error(failure or 404)
            connection = http.client.HTTPConnection(urlsplit(server).netloc)
            path = self.path.removeprefix(PREFIX) if strips else self.path
            connection.request(self.command, path, content, dict(self.headers) | {"connection": "close"})
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.end_headers()
            # Event streams must not wait for more data.
            while data := answer.read1():
                self.wfile.write(data)
                self.wfile.flush()

        do_GET = do_POST = do_HEAD = handle_request

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}{PREFIX}", failures, outside
        finally:
            listening.shutdown()
