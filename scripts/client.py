#!/usr/bin/env python3
"""A small client of wsexec.v1, written from its specification (the comment in internal/proto/doc.go) alone.
Runs a command with pipes; terminals, signals and taking over are left to cmd/wsexec. Returns the command's status,
128+N for signal N, 124 for a timeout, 125 for all else."""
import argparse, base64, hashlib, http.client, json, os, random, select, socket, struct, sys, time, urllib.parse

DATA, END, ACK, STOP = 1, 2, 3, 4   # kinds of frames; GAP (5) is sent only by a server that was told to drop
MAX_DATA = 65536
WINDOW = 4 * MAX_DATA   # of each output: how far the server may go beyond what was consumed; of stdin: what is kept
PATIENCE = 10           # seconds for connecting; also the keepalive time until the server tells it
NEVER = float("inf")
class Lost(Exception): """This connection is of no more use; the next one may be."""
class Final(Exception): """The end, without a status from the command: Final(status, text)."""

def random_name(): return base64.b32encode(os.urandom(16)).decode().rstrip("=").lower()

CRC_TABLE = list(range(256))
for _ in range(8):
    CRC_TABLE = [value >> 1 ^ (0x82F63B78 if value & 1 else 0) for value in CRC_TABLE]
def crc32c(data, crc):
    crc ^= 0xFFFFFFFF
    for byte in data: crc = CRC_TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF

class WebSocket:
    """The client's side of a WebSocket connection (RFC 6455)."""
    def __init__(self, options, path):
        url = urllib.parse.urlsplit(options.server)
        kind = http.client.HTTPSConnection if url.scheme == "wss" else http.client.HTTPConnection
        connection = kind(url.netloc or "localhost", timeout=PATIENCE)
        if url.scheme == "unix":
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(url.path)
        key = base64.b64encode(os.urandom(16)).decode()
        headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                   "Sec-WebSocket-Key": key, "Sec-WebSocket-Protocol": "wsexec.v1"}
        if options.token_file:
            headers["Authorization"] = "Bearer " + open(options.token_file).read().strip()
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read().decode(errors="replace").strip()
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        if response.status != 101 or response.getheader("Sec-WebSocket-Accept") != accept.decode():
            raise Final(125, f"refused: {response.status} {body}")
        self.sock, self.instance, self.cuts = connection.sock, response.getheader("Wsexec-Instance"), options.cut_after
        self.opcode, self.message = 0, b""      # of a message whose fragments are not all there
        self.last_sent = self.last_received = time.monotonic()
    def send(self, opcode, payload):
        length, mask = len(payload), os.urandom(4)
        code, form = (length, ">BB") if length < 126 else (126, ">BBH") if length < 65536 else (127, ">BBQ")
        head = struct.pack(form, 0x80 | opcode, 0x80 | code, *([length] if code > 125 else []))
        pad = (mask * (length // 4 + 1))[:length]   # one XOR of two long numbers is far faster than a loop
        masked = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
        self.sock.sendall(head + mask + masked.to_bytes(length, "big"))
        self.last_sent = time.monotonic()
    def send_frame(self, kind, stream, offset, rest=b""):
        self.send(2, struct.pack(">BBQ", kind, stream, offset) + rest)
    def read(self, size):
        data = b""
        while len(data) < size:
            part = self.sock.recv(min(size - len(data), self.cuts[0]))
            if not part: raise Lost("the connection ended")
            data, self.last_received = data + part, time.monotonic()
            self.cuts[0] -= len(part)
            if self.cuts[0] == 0:   # the test aid: a linger time of 0 lets close() reset the connection
                del self.cuts[0]
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raise Lost("cut by --cut-after")
        return data
    def receive(self):
        """Reads one frame; returns (opcode, message), with opcode 0 if no message is whole with it."""
        first, length = self.read(2)
        length = length if length < 126 else int.from_bytes(self.read(2 if length == 126 else 8), "big")
        opcode, payload = first & 15, self.read(length)
        if opcode == 8:
            self.send(8, payload[:2])
            raise Lost(f"closed: {int.from_bytes(payload[:2], 'big')} {payload[2:].decode(errors='replace')}")
        if opcode == 9: self.send(10, payload)
        if opcode < 8:      # the others may come between the fragments of a message
            self.opcode, self.message = opcode or self.opcode, self.message + payload
            if first & 0x80:
                message, self.message = self.message, b""
                return self.opcode, message
        return 0, b""

class Stdin:
    """Stream 0. Keeps what the server has not acknowledged, to send it again."""
    def __init__(self):
        self.base, self.kept = 0, bytearray()   # kept begins at the offset base
        self.end = self.next = self.crc = 0     # end: of what was read; next: to be sent
        self.ended = self.stopped = self.end_sent = False
    def receive(self, kind, offset, limit):
        if kind == STOP:
            self.ended, self.stopped, self.base, self.next = True, True, self.end, self.end
            self.kept.clear()
        elif kind != ACK or not self.base <= offset <= self.end and not self.stopped:
            raise ValueError(f"stdin is at {self.end}, frame of kind {kind} at {offset}")
        elif not self.stopped:
            del self.kept[:offset - self.base]
            self.base, self.limit = offset, int.from_bytes(limit, "big")
    def room(self):
        return 0 if self.ended else min(self.limit, self.base + WINDOW) - self.end
    def read(self):
        data = os.read(0, min(MAX_DATA, self.room()))
        self.kept += data
        self.end, self.crc, self.ended = self.end + len(data), crc32c(data, self.crc), not data
    def work(self, ws):
        while self.next < min(self.end, self.limit):
            start, size = self.next - self.base, min(MAX_DATA, self.end - self.next, self.limit - self.next)
            ws.send_frame(DATA, 0, self.next, self.kept[start:start + size])
            self.next += size
        if self.ended and self.next == self.end and not self.end_sent:
            ws.send_frame(END, 0, self.end, struct.pack(">I", self.crc))
            self.end_sent = True

class Output:
    """Stream 1 or 2; the number is the file descriptor, too."""
    def __init__(self, number):
        self.number, self.consumed, self.crc, self.stopped = number, 0, 0, False
    def connect(self):
        """Forgets what was received and not consumed: the server sends it again. Returns open's have."""
        self.pending, self.checksum, self.finished, self.acked = bytearray(), None, False, self.consumed
        return [self.consumed, self.consumed + WINDOW]
    def receive(self, kind, offset, rest):
        following = self.consumed + len(self.pending)
        if kind not in (DATA, END) or not self.stopped and (offset != following or self.checksum is not None):
            raise ValueError(f"stream {self.number} has a frame of kind {kind} at {offset}, where {following} is next")
        if kind == END:
            self.checksum = int.from_bytes(rest, "big")
        elif not self.stopped:
            self.pending += rest
    def write(self):
        """Writes no more than select() promised not to block for: a slow reader delays nothing else."""
        try:
            size = os.write(self.number, self.pending[:select.PIPE_BUF])
        except OSError:
            self.stopped, size = True, 0
            self.pending.clear()
        self.crc = crc32c(self.pending[:size], self.crc)
        self.consumed += size
        del self.pending[:size]
    def work(self, ws, keepalive=False):
        at_end = self.checksum is not None and not self.pending
        if at_end and not self.stopped and self.checksum != self.crc:
            raise Final(125, f"stream {self.number} does not have the checksum of its END")
        if self.stopped and not self.finished:
            ws.send_frame(STOP, self.number, self.consumed)
        elif keepalive or at_end and not self.finished or self.consumed - self.acked >= self.quarter:
            ws.send_frame(ACK, self.number, self.consumed, struct.pack(">Q", self.consumed + WINDOW))
            self.acked = self.consumed
        self.finished = at_end or self.stopped

class Session:
    def __init__(self, options):
        self.options, self.id, self.client, self.tries = options, random_name(), random_name(), 0
        self.stdin, *self.outputs = self.streams = Stdin(), Output(1), Output(2)
        argv = [base64.b64encode(os.fsencode(word)).decode() for word in options.command]
        self.start, self.linger = {"argv": argv, "linger": options.linger}, options.linger / 1000
        self.keepalive, self.exit = PATIENCE, None
    def run(self):
        """Connects, and again whenever the connection is lost, until the command's status is known."""
        delay, give_up = 0.05, 0    # 0: if the first connection cannot be made, there is nothing to save
        while True:
            self.opened = False
            try:
                ws = WebSocket(self.options, "/v1/sessions/" + self.id)
                with ws.sock:   # closes it
                    return self.use(ws)
            except (Lost, OSError, http.client.HTTPException) as error:
                if self.opened or self.tries and not give_up:
                    delay, give_up = 0.05, time.monotonic() + self.linger
                if time.monotonic() >= give_up: raise Final(125, f"no connection: {error}")
            time.sleep(random.uniform(delay / 2, delay))
            delay = min(2 * delay, 5)
    def use(self, ws):
        """Uses a connection until all is done and returns the status, or until it is lost: an exception."""
        self.tries += 1
        message = {"type": "open", "client": self.client, "try": self.tries, "window": WINDOW,
                   "have": {output.number: output.connect() for output in self.outputs}}
        if self.start:  # opened was never seen. Another instance cannot know whether the command was started.
            if self.tries > 1 and ws.instance != self.instance:
                raise Final(125, "the server was started anew; perhaps the command was started before")
            self.instance, message["start"] = ws.instance, self.start
        ws.send(1, json.dumps(message).encode())
        while not (self.exit and all(output.finished for output in self.outputs)):
            readers, writers = [ws.sock], [output.number for output in self.outputs if output.pending]
            if self.opened and self.stdin.room() > 0:
                readers.append(0)
            hidden = hasattr(ws.sock, "pending") and ws.sock.pending()  # in ssl, where select() cannot see it
            wake = min(ws.last_sent + self.keepalive, ws.last_received + 2 * self.keepalive) - time.monotonic()
            readable, writable, _ = select.select(readers, writers, [], 0 if hidden else max(0.01, wake))
            for number in writable:
                self.streams[number].write()
            if 0 in readable:
                self.stdin.read()
            if ws.sock in readable or hidden:
                try:
                    self.handle(ws, *ws.receive())
                except (ValueError, LookupError, TypeError) as error:
                    ws.send(8, struct.pack(">H", 1002) + str(error).encode()[:100])
                    raise Final(125, f"the server breaks the protocol: {error}")    # as it would again
            if time.monotonic() >= ws.last_received + 2 * self.keepalive: raise Lost("the server is silent")
            for stream in self.streams if self.opened else (): stream.work(ws)
            if self.opened and time.monotonic() >= ws.last_sent + self.keepalive:
                self.outputs[0].work(ws, keepalive=True)
        try:
            ws.sock.settimeout(1)
            ws.send(1, b'{"type":"bye"}')
            while True: ws.receive()
        except (Lost, OSError):
            status = self.exit["code"] if "code" in self.exit else 128 + self.exit["signal"]
            reason = self.exit.get("reason", "")
            return 124 if reason.endswith("timeout") else {"": status, "shutdown": status or 125}.get(reason, 125)
    def handle(self, ws, opcode, payload):
        if opcode == 2:
            self.streams[payload[1]].receive(payload[0], int.from_bytes(payload[2:10], "big"), payload[10:])
        elif opcode == 1:
            message = json.loads(payload)
            if message["type"] == "opened":
                self.opened, self.start = True, None
                self.linger, self.keepalive = message["linger"] / 1000, message["keepalive"] / 1000
                ws.sock.settimeout(2 * self.keepalive)
                for output in self.outputs: output.quarter = min(WINDOW, message.get("window", 65536)) // 4
                offset, limit = message["have"]["0"]
                self.stdin.receive(ACK, offset, limit.to_bytes(8, "big"))
                self.stdin.next, self.stdin.end_sent = self.stdin.base, False
            elif message["type"] == "error":
                raise Final(message["status"], f"{message['code']}: {message.get('detail') or message['title']}")
            elif message["type"] != "exit":
                raise ValueError(f"a message of type {message['type']}")
            self.exit = message if message["type"] == "exit" else self.exit

def main():
    parser = argparse.ArgumentParser(description=__doc__)
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    parser.add_argument("--server", default=f"unix:{state}/wsexec/sock", help="ws://HOST:PORT, wss://HOST or unix:/PATH")
    parser.add_argument("--token-file", metavar="FILE")
    parser.add_argument("--linger", metavar="MS", type=int, default=60000, help="how long to try to connect again")
    parser.add_argument("--cut-after", metavar="N1,N2", default=[NEVER], help="test aid: cut after N1 bytes",
                        type=lambda text: [int(part) for part in text.split(",")] + [NEVER])
    parser.add_argument("command", nargs="+")
    while os.open(os.devnull, os.O_RDWR) <= 2: pass     # so that no connection becomes descriptor 0, 1 or 2
    try:
        return Session(parser.parse_args()).run()
    except Final as end:
        os.write(2, f"client.py: {end.args[1]}\n".encode(errors="replace"))
        return end.args[0]

if __name__ == "__main__":
    sys.exit(main())
