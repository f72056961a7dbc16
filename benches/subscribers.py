#!/usr/bin/env python3
"""Connects many MQTT clients to a broker or a listener, subscribes each to a filter, and reads what comes until it is
ended: what fans out has to do then is to be measured from outside (docs/performance.md says how).

    subscribers.py 127.0.0.1:1883 50 'N/#'
"""

import selectors
import socket
import sys
import time


def packet(first, body):
    assert len(body) < 128
    return bytes([first, len(body)]) + body


def text(value):
    data = value.encode()
    return len(data).to_bytes(2, "big") + data


def connect(host, port, number, filters):
    while True:
        try:
            client = socket.create_connection((host, port))
            break
        except ConnectionRefusedError:
            time.sleep(0.02)  # not there yet
    name = text(f"subscriber-{number}")
    client.sendall(packet(0x10, text("MQTT") + bytes([4, 2, 0, 0]) + name))
    answer = client.recv(4)
    assert answer == b"\x20\x02\0\0", answer
    for at, wanted in enumerate(filters):
        client.sendall(packet(0x82, (at + 1).to_bytes(2, "big") + text(wanted) + b"\0"))
    client.setblocking(False)
    return client


def main():
    place, count, *filters = sys.argv[1:]
    host, port = place.rsplit(":", 1)
    clients = selectors.DefaultSelector()
    for number in range(int(count)):
        client = connect(host, int(port), number, filters or ["#"])
        clients.register(client, selectors.EVENT_READ)
    while clients.get_map():
        for key, _ in clients.select():
            try:
                if not key.fileobj.recv(1 << 16):
                    clients.unregister(key.fileobj)
            except ConnectionError:
                clients.unregister(key.fileobj)
        # What each read costs is not of interest here: fewer of them leave the processor to what is measured.
        time.sleep(0.01)


if __name__ == "__main__":
    main()
