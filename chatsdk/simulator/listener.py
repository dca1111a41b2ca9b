"""The port: a thread for each connection, and an end that leaves none behind."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import socketserver
import ssl
import threading
import time

from .connection import Desk, Gone, Handler

log = logging.getLogger(__name__)


class Listener(socketserver.TCPServer):
    """Accepts connections; each is served in a thread of its own and forgotten when it ends."""

    request_queue_size = 256
    timeout = 0
    allow_reuse_address = os.name != "nt"  # there it would let two servers share a port

    def __init__(self, host: str, port: int, desk: Desk, tls: ssl.SSLContext | None) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.desk = desk
        self.tls = tls
        self.accepted = 0
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, socket.socket] = {}
        super().__init__((host, port), socketserver.BaseRequestHandler)
        self._bell, self._ringer = socket.socketpair()
        self._accepting = threading.Thread(target=self._accept, name="simulator", daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        # Not serve_forever: it looks only now and then whether it has to end.
        with selectors.DefaultSelector() as selector:
            for ready in (self.socket, self._bell):
                selector.register(ready, selectors.EVENT_READ)
            while not self.desk.stopping.is_set():
                if any(key.fileobj is self.socket for key, _ in selector.select()):
                    self.handle_request()

    def process_request(self, request: object, client_address: object) -> None:
        """Serve a connection in a new thread."""
        assert isinstance(request, socket.socket)
        thread = threading.Thread(target=self._serve, args=(request, client_address),
                                  name="simulator-connection", daemon=True)
        with self._lock:
            self.accepted += 1
            self._open[thread] = request
        thread.start()

    def _serve(self, raw: socket.socket, address: object) -> None:
        sock = raw
        try:
            sock = self._secured(raw)
            Handler(sock, address, self, self.desk)
        except (OSError, Gone) as error:
            log.debug("a client went away: %s", error)
        except Exception:
            log.exception("the simulator failed")
        finally:
            with self._lock:
                self._open.pop(threading.current_thread()).close()

    def _secured(self, raw: socket.socket) -> socket.socket:
        """Shake hands, here and not in accept(): one slow client would hold up all others."""
        if self.tls is None:
            return raw
        sock = self.tls.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._open[threading.current_thread()] = sock
        if self.desk.stopping.is_set():
            raise Gone
        sock.do_handshake()
        return sock

    def close(self, patience: float) -> None:
        """Stop accepting, close every connection, wait `patience` seconds for the threads."""
        self.desk.stopping.set()
        self._ringer.close()
        self._accepting.join()
        self._bell.close()
        self.server_close()
        with self._lock:
            threads = list(self._open)
            for sock in self._open.values():
                # Not sock.shutdown: that of an SSLSocket takes the session from its reader.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
        end = time.monotonic() + patience
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, end - time.monotonic()))
