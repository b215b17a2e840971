"""osc.py PORT: talks to the server as a controller would, with python-osc, and prints what comes back.

Lines on stdin: "/address value..." to send (JSON values), "?" to print what comes: until half a
second of silence, the first of it within ten seconds.
"""
import json
import socket
import sys

from pythonosc.osc_bundle_builder import OscBundleBuilder
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder


def message(address, values):
    made = OscMessageBuilder(address=address)
    for value in values:
        made.add_arg(value)
    return made.build()


sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", 0))
sock.connect(("127.0.0.1", int(sys.argv[1])))
for line in sys.stdin:
    words = line.strip()
    if words == "?":
        sock.settimeout(10)
        try:
            while True:
                got = OscMessage(sock.recv(65536))
                params = [float(f"{p:.7g}") if isinstance(p, float) else p for p in got.params]
                print(got.address, *[json.dumps(p) for p in params], flush=True)
                sock.settimeout(0.5)
        except socket.timeout:
            print(".", flush=True)
        continue
    if words.startswith("raw "):
        sock.send(bytes.fromhex(words[4:]))
        continue
    bundle = words.startswith("bundle ")
    address, _, rest = words.removeprefix("bundle ").partition(" ")
    made = message(address, json.loads("[" + rest + "]"))
    if bundle:
        builder = OscBundleBuilder(0)
        builder.add_content(made)
        made = builder.build()
    sock.send(made.dgram)
