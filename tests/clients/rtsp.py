"""rtsp.py FILE.ts - an RTSP server for one client at a time: the file, in a loop, as MPEG-TS in RTP over the
same connection, at its own speed (RATE, bytes a second). Says its port on stdout."""
import socket
import struct
import sys
import time

data = open(sys.argv[1], "rb").read()
rate = float(sys.argv[2])
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)


def answer(client, request, extra="", body=""):
    number = next(line.split(":")[1].strip() for line in request.split("\r\n") if line.lower().startswith("cseq"))
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    client.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\nSession: 1\r\n{extra}{length}\r\n{body}".encode())


def play(client):
    began, sent, number = time.monotonic(), 0, 0
    while True:
        for at in range(0, len(data), 7 * 188):
            piece = data[at:at + 7 * 188]
            wait = began + sent / rate - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            header = struct.pack(">BBHII", 0x80, 33, number & 0xFFFF, int(sent / rate * 90000) & 0xFFFFFFFF, 7)
            client.sendall(b"$\0" + struct.pack(">H", 12 + len(piece)) + header + piece)
            sent += len(piece)
            number += 1


def serve(client):
    text = b""
    while True:
        more = client.recv(4096)
        if not more:
            return
        text += more
        while b"\r\n\r\n" in text:
            request, text = text.split(b"\r\n\r\n", 1)
            request = request.decode()
            method = request.split(" ")[0]
            if method == "OPTIONS":
                answer(client, request, "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n")
            elif method == "DESCRIBE":
                answer(client, request, "Content-Type: application/sdp\r\n",
                       "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=test\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
                       "m=video 0 RTP/AVP 33\r\na=control:one\r\n")
            elif method == "SETUP":
                if "TCP" not in request:
                    number = next(x.split(":")[1].strip() for x in request.split("\r\n") if x.lower().startswith("cseq"))
                    client.sendall(f"RTSP/1.0 461 Unsupported Transport\r\nCSeq: {number}\r\n\r\n".encode())
                else:
                    answer(client, request, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n")
            elif method == "PLAY":
                answer(client, request)
                play(client)
            else:
                answer(client, request)


while True:
    connection, _ = listener.accept()
    try:
        serve(connection)
    except OSError:
        pass
    connection.close()
