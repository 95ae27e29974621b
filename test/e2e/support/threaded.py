"""Threads of a test's own."""
import socket
import threading


class Threaded:
    """A server: it listens, and has a thread for each connection, in which serve(connection) says what becomes of
    it. Leaving the context ends the listening."""

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


class Workers:
    """So many threads within a context: work(number) in each, until `stopped` is set when it is left."""

    def __init__(self, count):
        self.stopped = threading.Event()
        self._threads = [threading.Thread(target=self.work, args=(number,), daemon=True)
                         for number in range(count)]

    def work(self, number):
        raise NotImplementedError

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        self.stopped.set()
        for thread in self._threads:
            thread.join(30)
