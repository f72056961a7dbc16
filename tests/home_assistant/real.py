"""Drives a real Home Assistant through its own interfaces; started by `real`, inside of its system."""

import asyncio
import json
import re
import sys
import time
from pathlib import Path

import aiohttp
import paho.mqtt.client as mqtt

URL = "http://127.0.0.1:8123"
LOG = Path("/config/home-assistant.log")
failures = []


def expect(what, holds, more=""):
    print(("ok: " if holds else "FAILED: ") + what + (f": {more}" if more else ""), flush=True)
    if not holds:
        failures.append(what)


class Broker:
    """What is on MQTT, retained or seen."""

    def __init__(self):
        self.topics = {}
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self.client.on_message = lambda _client, _data, message: self.topics.__setitem__(message.topic, message.payload)
        self.client.connect("127.0.0.1", 1883)
        self.client.subscribe("#")
        self.client.loop_start()

    def configs(self):
        for topic, payload in self.topics.items():
            if topic.startswith("homeassistant/device/") and topic.endswith("/config") and payload:
                yield topic, json.loads(payload)


async def socket(session, token):
    ws = await session.ws_connect(URL + "/api/websocket", max_msg_size=0)
    await ws.receive_json()
    await ws.send_json({"type": "auth", "access_token": token})
    assert (await ws.receive_json())["type"] == "auth_ok"
    numbers = iter(range(1, 1_000_000))

    async def ask(**message):
        number = next(numbers)
        await ws.send_json({"id": number, **message})
        while True:
            answer = await ws.receive_json()
            if answer.get("id") == number and answer["type"] == "result":
                return answer.get("result")

    return ask


async def set_up(session):
    for _ in range(300):
        try:
            async with session.get(URL + "/api/onboarding") as answer:
                if answer.status == 200:
                    break
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(1)
    person = {"client_id": URL + "/", "name": "Test", "username": "test", "password": "test-test", "language": "en"}
    async with session.post(URL + "/api/onboarding/users", json=person) as answer:
        code = (await answer.json())["auth_code"]
    form = {"grant_type": "authorization_code", "code": code, "client_id": URL + "/"}
    async with session.post(URL + "/auth/token", data=form) as answer:
        token = (await answer.json())["access_token"]
    session.headers["Authorization"] = f"Bearer {token}"
    for step in ("core_config", "analytics"):
        await session.post(f"{URL}/api/onboarding/{step}", json={})
    await session.post(f"{URL}/api/onboarding/integration", json={"client_id": URL + "/", "redirect_uri": URL + "/"})
    flow = {"handler": "mqtt", "show_advanced_options": False}
    async with session.post(URL + "/api/config/config_entries/flow", json=flow) as answer:
        step = await answer.json()
    while step.get("type") in ("menu", "form"):
        data = {"next_step_id": "broker"} if step["type"] == "menu" else {"broker": "127.0.0.1", "port": 1883, "other_settings": {"set_client_cert": False, "set_ca_cert": "off"}}
        async with session.post(f"{URL}/api/config/config_entries/flow/{step['flow_id']}", json=data) as answer:
            step = await answer.json()
    expect("the MQTT integration is set up", step.get("type") == "create_entry", json.dumps(step)[:200])
    return token


async def settled(ask):
    before, since = -1, time.monotonic()
    while time.monotonic() - since < 240:
        await asyncio.sleep(5)
        count = len(await ask(type="config/entity_registry/list"))
        if count == before and count > 50:
            return count
        before = count
    return before


async def main():
    broker = Broker()
    async with aiohttp.ClientSession() as session:
        token = await set_up(session)
        start = time.monotonic()
        ask = await socket(session, token)
        await settled(ask)
        entries = {one["unique_id"]: one for one in await ask(type="config/entity_registry/list") if one["platform"] == "mqtt"}
        print(f"{len(entries)} entities after {time.monotonic() - start:.0f} s", flush=True)
        enabled = [one for one in entries.values() if not one["disabled_by"]]
        print(f"{len(enabled)} of them enabled", flush=True)
        wanted = {}
        for _, config in broker.configs():
            for entity in config["cmps"].values():
                if "uniq_id" in entity:
                    wanted[entity["uniq_id"]] = entity
        missing = sorted(set(wanted) - {one["unique_id"] for one in await ask(type="config/entity_registry/list")} - set(entries))
        expect("every entity of the configurations is there", not missing, ", ".join(missing[:5]))
        for one in entries.values():
            if one["disabled_by"]:
                await ask(type="config/entity_registry/update", entity_id=one["entity_id"], disabled_by=None)
        # Home Assistant reloads the integration half a minute after the last one was enabled.
        await asyncio.sleep(45)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            states = {one["entity_id"]: one for one in await ask(type="get_states")}
            there = sum(one["entity_id"] in states for one in entries.values())
            if there == len(entries):
                break
            await asyncio.sleep(5)
        expect("all entities have a state", there == len(entries), f"{there} of {len(entries)}")
        odd, same = [], 0
        for unique, entry in entries.items():
            state, entity = states.get(entry["entity_id"]), wanted.get(unique)
            payload = broker.topics.get((entity or {}).get("stat_t", ""))
            if not state or not payload:
                continue
            value = json.loads(payload).get("value")
            if state["state"] == "unavailable":
                odd.append(f"{entry['entity_id']} is unavailable")
            elif value is None or value == []:
                same += state["state"] in ("unknown", "")
            elif state["state"] == "unknown" and entity["p"] not in ("update", "text"):
                odd.append(f"{entry['entity_id']} is unknown, {value!r} on MQTT")
            elif isinstance(value, (int, float)) and "{%" not in entity["val_tpl"] and entity["p"] in ("sensor", "number") and "ops" not in entity:
                near = abs(float(state["state"]) - value) <= abs(value) * 0.2 + 1
                same += near
                if not near:
                    odd.append(f"{entry['entity_id']} is {state['state']}, {value!r} on MQTT")
            else:
                same += 1
        expect("states are those on MQTT", not odd, f"{same} compared; " + "; ".join(odd[:10]))
        await writes(ask, broker, entries, wanted, states)
        problems = await ask(type="energy/validate")
        expect("the energy dashboard has no complaint", not any(problems.get("energy_sources", [])), json.dumps(problems)[:300])
        lines = LOG.read_text(errors="replace").splitlines() if LOG.exists() else []
        bad = [line for line in lines if re.search(r" (WARNING|ERROR) ", line) and "mqtt" in line]
        expect("no warning or error of MQTT in the log", not bad, " | ".join(bad[:5]))
        print(f"{len(lines)} lines in the log", flush=True)


async def writes(ask, broker, entries, wanted, states):
    """Sets every number and every select to what it is, and looks whether a write comes out of it."""
    seen = set()
    client = broker.client
    client.on_message = lambda _client, _data, message: (
        seen.add(message.topic) if message.topic.startswith("W/") else broker.topics.__setitem__(message.topic, message.payload))
    asked = set()
    for unique, entry in entries.items():
        entity, state = wanted.get(unique), states.get(entry["entity_id"])
        if not entity or not state or "cmd_t" not in entity or state["state"] in ("unavailable", "unknown"):
            continue
        call = {
            "number": ("set_value", {"value": state["state"]}),
            "select": ("select_option", {"option": state["state"]}),
            "switch": (f"turn_{state['state']}", {}),
        }.get(entity["p"])
        if call:
            asked.add(entity["cmd_t"])
            await ask(type="call_service", domain=entity["p"], service=call[0],
                      service_data={"entity_id": entry["entity_id"], **call[1]})
    await asyncio.sleep(3)
    lost = sorted(asked - seen)
    expect("every write through it arrives", not lost, f"{len(asked)} written; {lost[:5]}")


asyncio.run(main())
sys.exit(1 if failures else 0)
