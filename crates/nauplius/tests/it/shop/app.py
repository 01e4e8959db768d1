# The application tier: rows in, rows out, over HTTP; the database is the only state.
import json, os, signal, socket, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import psycopg2


def connect():
    return psycopg2.connect(host=os.environ["DATABASE_HOST"], dbname="postgres", user=os.environ["DATABASE_USER"],
                            password=open("/etc/shop/password").read(), connect_timeout=3)


def run(statement, values=(), fetch=False):
    connection = connect()
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS rows (name text PRIMARY KEY)")
            cursor.execute(statement, values)
            return [row[0] for row in cursor.fetchall()] if fetch else []
    finally:
        connection.close()


class Handler(BaseHTTPRequestHandler):
    def answer(self, code, value):
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Version", os.environ["VERSION"])
        self.end_headers()
        self.wfile.write(body)

    def attempt(self, code, *statement, **options):
        try:
            self.answer(code, run(*statement, **options))
        except psycopg2.Error as error:
            self.answer(503, str(error))

    def do_GET(self):
        if self.path == "/healthz":
            return self.answer(200, "ok")
        if self.path == "/readyz":
            return self.attempt(200, "SELECT 1", fetch=True)
        self.attempt(200, "SELECT name FROM rows ORDER BY name", fetch=True)

    def do_POST(self):
        name = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.attempt(201, "INSERT INTO rows VALUES (%s) ON CONFLICT DO NOTHING", (name,))

    def log_message(self, *words):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


server = Server(("", 8080), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print("shop", os.environ["VERSION"], "serves on", socket.gethostname(), flush=True)
server.serve_forever()
server.server_close()
