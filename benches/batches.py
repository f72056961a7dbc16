#!/usr/bin/env python3
"""Works out what a month of a recorded system costs on a broker: as single topics, with topic aliases, in batches, and in
batches that are compressed. Nothing is sent: the packets of MQTT 5 are counted as the bridge writes them
(docs/fleets.md has the figures).

    batches.py [--every 5] [--full 300 3600] -- 'recordings/sim-j-*.jsonl' …     the recordings of one system each
"""

import argparse
import collections
import glob
import gzip
import json
import pathlib

MONTH_S = 30 * 86_400
HEARTBEAT_S = 3
PART_BYTES_MAX = 65_536
HEAD = "N/e0ff50a097c0/"
CONTENT_TYPE_BYTES = 3 + len("application/gzip")
# What AWS IoT Core counts as a message: each started 5 kB of a payload.
METERED_BYTES = 5_000

# What is sent: packets, messages as AWS counts them, bytes.
Cost = collections.namedtuple("Cost", "messages metered size")


def length_bytes(number):
    """How many bytes MQTT takes to say a length."""
    return 1 if number < 128 else 2 if number < 16_384 else 3


def packet(topic, payload_bytes, property_bytes=0):
    """What one packet costs. With an alias the topic is empty."""
    rest = 2 + len(topic.encode()) + 1 + property_bytes + payload_bytes
    metered = max(1, -(-payload_bytes // METERED_BYTES))
    return Cost(1, metered, 1 + length_bytes(rest) + rest)


def total(costs, times=1.0):
    """The sum, so many times."""
    costs = list(costs)
    return Cost(*(sum(column) * times for column in zip(*costs))) if costs else Cost(0, 0, 0)


def value_text(line):
    value = float(line["v"]) if line["t"] == "d" else line["v"]
    return "null" if value == [] else json.dumps(value, ensure_ascii=False)


def load(pattern):
    """The first values of all topics, the changes in their order, and how long that took."""
    first, changes = {}, []
    for file in sorted(glob.glob(pattern)):
        lines = [json.loads(line) for line in pathlib.Path(file).read_text().splitlines()]
        service = lines[0]["service"].split(".")[2]
        instance = lines[0]["items"].get("/DeviceInstance", {}).get("v", 0)
        device = f"{service}/{instance}"
        for path, item in lines[0]["items"].items():
            first[device + path] = value_text(item)
        for line in lines[1:]:
            changes.append((line["ts_ms"] / 1000, device + line["path"], value_text(line)))
    changes.sort(key=lambda change: change[0])
    return first, changes, max(change[0] for change in changes)


def batch(values, compressed, at=0.0):
    """The packets of one batch, in parts."""
    parts, entries, size = [], [], 0
    fixed = len('{"ts": 1764345600000, "values": {}}')
    for topic, value in values.items():
        entry = f'"{topic}": {value}'
        if entries and size + len(entry.encode()) + fixed > PART_BYTES_MAX:
            parts.append(entries)
            entries, size = [], 0
        entries.append(entry)
        size += len(entry.encode()) + 2
    parts.append(entries)
    for entries in parts:
        text = f'{{"ts": {1764345600000 + round(at * 1000)}, "values": {{{", ".join(entries)}}}}}'.encode()
        short = gzip.compress(text, 6)
        if compressed and len(short) + CONTENT_TYPE_BYTES < len(text):
            yield packet(HEAD + "batch", len(short), CONTENT_TYPE_BYTES)
        else:
            yield packet(HEAD + "batch", len(text))


def single(changes, aliases):
    for _, topic, value in changes:
        payload = len(f'{{"value": {value}}}'.encode())
        yield packet("", payload, 3) if aliases else packet(HEAD + topic, payload)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--full", type=int, nargs="+", default=[300, 3600])
    parser.add_argument("systems", nargs="+")
    args = parser.parse_args()
    fulls = [f"batches, full every {full} s" for full in args.full]
    columns = ["single topics", "aliases"] + [name + more for name in fulls for more in ["", ", compressed"]]
    print("| system | a month | " + " | ".join(columns) + " |")
    print("|" + " --- |" * (len(columns) + 2))
    for pattern in args.systems:
        first, changes, seconds = load(pattern)
        month = MONTH_S / seconds
        beats = total([packet(HEAD + "heartbeat", len('{"value": 1764345600}'))], MONTH_S // HEARTBEAT_S)
        costs = [total([total(single(changes, aliases), month), beats]) for aliases in [False, True]]
        batches = collections.defaultdict(dict)
        for at, topic, value in changes:
            batches[int(at // args.every)][topic] = value
        for full in args.full:
            for compressed in [False, True]:
                each = [cost for at, values in batches.items() for cost in batch(values, compressed, at * args.every)]
                whole = total(batch(first, compressed), MONTH_S // full)
                # One with everything is sent in the place of another.
                costs.append(total([total(each, month * (1 - args.every / full)), whole]))
        name = f"{pathlib.Path(pattern).name}, {len(first)} topics, {round(seconds)} s"
        for what, texts in [
            ("messages, millions", [f"{cost.messages / 1e6:.2f}" for cost in costs]),
            ("messages as AWS counts, millions", [f"{cost.metered / 1e6:.2f}" for cost in costs]),
            ("MB", [f"{cost.size / 1e6:,.0f}" for cost in costs]),
        ]:
            print(f"| {name} | {what} | " + " | ".join(texts) + " |")
            name = ""


if __name__ == "__main__":
    main()
