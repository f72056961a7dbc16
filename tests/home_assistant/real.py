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
        self.client.on_connect = lambda client, *_: client.subscribe("#")
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", 1883)
        self.client.loop_start()

    def configs(self):
        for topic, payload in self.topics.items():
            if topic.startswith("homeassistant/device/") and topic.endswith("/config") and payload:
                yield topic, json.loads(payload)


def order(*words):
    """Has a part stopped, or started anew with these arguments."""
    with open("/orders", "w") as orders:
        orders.write(" ".join(words) + "\n")
    with open("/done") as done:
        done.readline()


async def until(what, check, patience=120):
    """Waits until `check` gives nothing to complain of."""
    end = time.monotonic() + patience
    while True:
        complaint = await check()
        if not complaint or time.monotonic() > end:
            return expect(what, not complaint, str(complaint or "")[:300])
        await asyncio.sleep(1)


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
        # The listener of the bridge has no subscription identifiers, and Home Assistant does without.
        known = "does not support Subscription Identifiers" if "--listener" in sys.argv else "\0"
        bad = [line for line in complaints() if "mqtt" in line and known not in line]
        expect("no warning or error of MQTT in the log", not bad, " | ".join(bad[:5]))
        before = len(complaints())
        await goings(session, token, broker)
        # While a part is away, Home Assistant may say so; of what it is told it has no complaint.
        bad = [line for line in complaints()[before:] if re.search(r"mqtt\.(?!client)|[Tt]emplate|unique", line)]
        expect("no complaint of what it was told afterwards", not bad, " | ".join(bad[:5]))


def complaints():
    """Warnings and errors that Home Assistant logged."""
    lines = LOG.read_text(errors="replace").splitlines() if LOG.exists() else []
    return [line for line in lines if re.search(r" (WARNING|ERROR) ", line)]


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
    if "--listener" not in sys.argv:
        lost = sorted(asked - seen)
        return expect("every write through it arrives", not lost, f"{len(asked)} written; {lost[:5]}")
    # Other clients of the listener do not see a write, but what comes of it.
    switches = [(entry["entity_id"], wanted[unique]["stat_t"]) for unique, entry in entries.items()
                if wanted.get(unique, {}).get("p") == "switch" and states[entry["entity_id"]]["state"] in ("on", "off")]
    before = {topic: broker.topics[topic] for _, topic in switches}
    for entity, _ in switches:
        await ask(type="call_service", domain="switch", service="toggle", service_data={"entity_id": entity})

    async def same():
        return sorted(topic for topic, payload in before.items() if broker.topics[topic] == payload)

    await until(f"{len(switches)} switches are switched", same, 30)


CONTROLS = {"number", "select", "switch", "text", "button", "time"}


async def goings(session, token, broker):
    """Null, gone and back, a restart of each part, read-only and back, and no Home Assistant any more."""
    ask = await socket(session, token)

    async def registry(enabled=False):
        entries = await ask(type="config/entity_registry/list")
        ours = [one for one in entries if one["platform"] == "mqtt" and not (enabled and one["disabled_by"])]
        return {(one["unique_id"], one["entity_id"]) for one in ours}

    async def states():
        return {one["entity_id"]: one["state"] for one in await ask(type="get_states")}

    async def not_there():
        """Entities without a state, or unavailable."""
        now = await states()
        return sorted(entity for _, entity in await registry(enabled=True) if now.get(entity, "unavailable") == "unavailable")

    async def still_there():
        now = await states()
        # What is not a value of the bus stays: nothing of MQTT but the devices that are gone.
        return sorted(entity for _, entity in await registry(enabled=True) if now.get(entity, "unavailable") != "unavailable")

    all_of_them = await registry()

    async def differs():
        now = await registry()
        return sorted(all_of_them ^ now)[:5] or await not_there()

    charge = next(entity for unique, entity in all_of_them if unique.endswith("battery_288/Soc"))
    full = ("--home-assistant", "--access", "full")

    async def is_state(wanted):
        found = (await states()).get(charge)
        return None if wanted(found) else f"{charge} is {found}"

    order("start", "replay", "null")
    await until("a value that is null is unknown", lambda: is_state(lambda state: state == "unknown"))
    order("start", "bridge", *full)
    await until("it stays so through a restart of the bridge", lambda: is_state(lambda state: state == "unknown"))
    await until("and has no entity less", differs)
    order("start", "replay")
    await until("it is known again", lambda: is_state(lambda state: state not in ("unknown", "unavailable", None)))

    order("stop", "replay")
    await until("devices that are gone are unavailable", still_there)
    order("start", "replay")
    await until("and are as they were when they come back", differs)

    order("stop", "bridge")
    await until("without the bridge all is unavailable", still_there)
    order("start", "bridge", *full)
    await until("a restart of the bridge changes nothing", differs)
    if "--listener" not in sys.argv:
        order("start", "broker")
        await until("a restart of the broker, which forgets all, changes nothing", differs)
    order("start", "hass")

    async def answers():
        nonlocal ask
        try:
            ask = await socket(session, token)
            return await differs()
        except (aiohttp.ClientError, AssertionError, TypeError) as error:
            return repr(error)

    await until("a restart of Home Assistant changes nothing", answers, 240)

    if "--listener" in sys.argv:
        # A bridge that is the broker too does not know what it said before it was started anew.
        return

    order("start", "bridge", "--home-assistant", "--access", "read-only")

    async def controls():
        now = await registry()
        kinds = [entity.split(".")[0] for _, entity in now]
        uniques = [unique for unique, _ in now]
        twins = sorted({unique for unique in uniques if uniques.count(unique) > 1})
        left = sorted(entity for _, entity in now if entity.split(".")[0] in CONTROLS)
        return twins[:5] or left[:5] or (None if len(kinds) > 100 else f"{len(kinds)} entities") or await not_there()

    await until("with read-only there is nothing to set, and nothing twice", controls)
    order("start", "bridge", *full)
    await until("with full access all is as it was", differs)

    order("start", "bridge", "--home-assistant=false", "--access", "full")

    async def left():
        kept = [topic for topic, payload in broker.topics.items() if topic.startswith("homeassistant/device/") and payload]
        return sorted(await registry())[:5] or kept[:5]

    await until("without --home-assistant nothing is left", left)


asyncio.run(main())
sys.exit(1 if failures else 0)
