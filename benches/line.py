#!/usr/bin/env python3
"""Measures what a recorded system costs on a line: what the kernel says that a connection to mosquitto has sent, for single
topics, topic aliases, batches, and compressed batches, and beside it what batches.py works out for the same time.
One bridge has them all, so that all see the same changes (docs/fleets.md has the figures).

    line.py [--program target/release/dbus-mqtt] [--seconds 120] [--every 5] [--full 60] 'recordings/sim-j-*.jsonl'

Needs mosquitto, mosquitto_sub, dbus-daemon and ss. All is on this machine, and ends with this program.
"""

import argparse
import collections
import contextlib
import glob
import pathlib
import re
import socket
import subprocess
import tempfile
import time

import batches

# Of each TCP segment: the heads of IPv4 and TCP, with timestamps.
HEAD_BYTES = 52
# Packets of whoever asks mosquitto for the count: CONNECT, SUBSCRIBE, DISCONNECT.
ASKING = 3
# What is not counted: the services come, and all is published for the first time.
START_S = 10
WAYS = {
    "single topics": "",
    "topic aliases": "topic-aliases = true",
    "batches": "topics = false\nbatch = {every}\nbatch-full = {full}",
    "batches, compressed": "topics = false\nbatch = {every}\nbatch-full = {full}\nbatch-compress = true",
}

Sent = collections.namedtuple("Sent", "messages bytes segments")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


def sent_to(port):
    """What went over the bridge's connection so far: what mosquitto says and what the kernel says. Segments are those of
    both directions."""
    messages = "$SYS/broker/messages/received"
    command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-C", "1", "-t", messages]
    count = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    command = ["ss", "-tinHO", "state", "established", f"dport = :{port}"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    numbers = dict(re.findall(r"(\w+):(\d+)", text))
    return Sent(count, int(numbers["bytes_sent"]), int(numbers["segs_out"]) + int(numbers["segs_in"]))


def played(first, changes):
    """What of the changes the bridge can see: a recording has whole seconds, so that replay plays all of a second at once."""
    values = dict(first)
    for (at, topic), value in {(at, topic): value for at, topic, value in changes}.items():
        if values.get(topic) != value:
            values[topic] = value
            yield at, topic, value


def calculated(way, first, changes, args):
    """The bytes of the packets in that time."""
    changes = [change for change in played(first, changes) if START_S <= change[0] < START_S + args.seconds]
    if "topic" in way:
        beats = batches.packet(batches.HEAD + "heartbeat", len('{"value": 1764345600}'))
        costs = list(batches.single(changes, "aliases" in way)) + [beats] * (args.seconds // batches.HEARTBEAT_S)
        return batches.total(costs)
    gathered = collections.defaultdict(dict)
    for at, topic, value in changes:
        gathered[int(at // args.every)][topic] = value
    compressed = "compressed" in way
    costs = [cost for at, values in gathered.items() for cost in batches.batch(values, compressed, at * args.every)]
    full = list(batches.batch(first, compressed)) * (args.seconds // args.full)
    return batches.total([batches.total(costs, 1 - args.every / args.full), *full])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default="target/release/dbus-mqtt")
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--full", type=int, default=60)
    parser.add_argument("system")
    args = parser.parse_args()
    first, changes, seconds = batches.load(args.system)
    if seconds < START_S + args.seconds:
        raise SystemExit(f"{args.system} has only {seconds:.0f} s")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        folder = pathlib.Path(folder)

        def start(*command):
            log = stack.enter_context(open(folder / "log", "a"))
            process = subprocess.Popen([*map(str, command)], stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return process

        bus = f"unix:path={folder}/bus"
        start("dbus-daemon", "--session", "--nofork", f"--address={bus}")
        settings, ports = [], {}
        for way, lines in WAYS.items():
            ports[way] = port = free_port()
            conf = folder / f"{port}.conf"
            conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_topic_alias 2000\nsys_interval 1\n")
            start("mosquitto", "-c", conf)
            wait_for(port)
            lines = lines.format(every=args.every, full=args.full)
            settings.append(f'[[broker]]\nname = "{port}"\nserver = "127.0.0.1:{port}"\nmqtt-version = "5"\nkeep-alive = 0\n{lines}\n')
        config = folder / "config.toml"
        config.write_text("\n".join(settings))
        start(args.program, "--dbus", bus, "--portal-id", "e0ff50a097c0", "--config", config)
        time.sleep(5)
        start(args.program, "replay", "--dbus", bus, *sorted(glob.glob(args.system)))
        time.sleep(START_S)
        before = {way: sent_to(port) for way, port in ports.items()}
        time.sleep(args.seconds)
        after = {way: sent_to(port) for way, port in ports.items()}
    print("| way | messages, calculated | measured | bytes, calculated | measured | measured with TCP and IP |")
    print("| --- | --- | --- | --- | --- | --- |")
    for way in WAYS:
        cost = calculated(way, first, changes, args)
        messages, *_ = sent = Sent(*(late - early for late, early in zip(after[way], before[way])))
        with_heads = sent.bytes + sent.segments * HEAD_BYTES
        print(f"| {way} | {cost.messages:,.0f} | {messages - ASKING:,} | {cost.size:,.0f} | {sent.bytes:,} | {with_heads:,} |")


if __name__ == "__main__":
    main()
