#!/usr/bin/env python3
"""Works out what a month of a recorded system costs on a broker: as single topics, with topic aliases, and in batches.
Nothing is sent: the packets of MQTT 5 are counted as the bridge writes them (docs/fleets.md has the figures).

    batches.py [--every 5] [--full 300] 'recordings/sim-j-*.jsonl' …     the recordings of one system each
"""

import argparse
import collections
import glob
import json
import pathlib

MONTH_S = 30 * 86_400
HEARTBEAT_S = 3
PART_BYTES_MAX = 65_536
HEAD = "N/e0ff50a097c0/"


def length_bytes(number):
    """How many bytes MQTT takes to say a length."""
    return 1 if number < 128 else 2 if number < 16_384 else 3


def packet(topic_bytes, payload_bytes, property_bytes=0):
    rest = 2 + topic_bytes + 1 + property_bytes + payload_bytes
    return 1 + length_bytes(rest) + rest


def value_text(line):
    return "null" if line["v"] == [] else json.dumps(line["v"], ensure_ascii=False)


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
        last = 0
        for line in lines[1:]:
            changes.append((line["ts_ms"] / 1000, device + line["path"], value_text(line)))
    changes.sort(key=lambda change: change[0])
    return first, changes, max(change[0] for change in changes)


def batch_bytes(values):
    """The packets of one batch, in parts."""
    parts, size = [], 0
    fixed = len('{"ts": 1764345600000, "values": {}}')
    for topic, value in values.items():
        entry = len(f'"{topic}": {value}, '.encode())
        if size and size + entry + fixed > PART_BYTES_MAX:
            parts.append(size)
            size = 0
        size += entry
    parts.append(size)
    return [packet(len(HEAD + "batch"), fixed + size) for size in parts]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--full", type=int, default=300)
    parser.add_argument("systems", nargs="+")
    args = parser.parse_args()
    for pattern in args.systems:
        first, changes, seconds = load(pattern)
        month = MONTH_S / seconds
        beat = packet(len(HEAD + "heartbeat"), len('{"value": 1764345600}'))
        beats = MONTH_S // HEARTBEAT_S
        single = alias = 0
        for _, topic, value in changes:
            payload = len(f'{{"value": {value}}}'.encode())
            single += packet(len((HEAD + topic).encode()), payload)
            alias += packet(0, payload, 3)
        batches = collections.defaultdict(dict)
        for at, topic, value in changes:
            batches[int(at // args.every)][topic] = value
        sizes = [size for batch in batches.values() for size in batch_bytes(batch)]
        fulls = batch_bytes(first)
        full_count = MONTH_S // args.full
        rows = [
            ("single", len(changes) * month + beats, single * month + beat * beats),
            ("aliases", len(changes) * month + beats, alias * month + beat * beats),
            ("batch", len(sizes) * month + len(fulls) * full_count, sum(sizes) * month + sum(fulls) * full_count),
        ]
        for name, messages, size in rows:
            row = {
                "system": pathlib.Path(pattern).name,
                "topics": len(first),
                "seconds": round(seconds),
                "way": name,
                "messages_a_month": round(messages),
                "mb_a_month": round(size / 1e6, 1),
            }
            print(json.dumps(row))


if __name__ == "__main__":
    main()
