"""A server of a test's own: it listens, and has a thread for each connection, in which serve(connection) says
what becomes of it. Leaving the context ends the listening."""
import socket
import threading


class Threaded:
    def __init__(self):
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()

    def serve(self, connection):
        raise NotImplementedError

    def _accept(self):
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()
