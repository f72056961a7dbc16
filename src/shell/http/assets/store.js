// The values: what was last told of each item, by device; which changed since the last look; and the last
// minutes of every number.

import { History } from './history.js';

/** A text is kept up to this length, in characters. */
const TEXT_MAX = 65_536;
/** More items than any installation has. */
const ITEMS_MAX = 200_000;

/** One value of one device. */
export class Item {
    constructor(device, path) {
        this.device = device;
        this.path = path;
        this.key = `${device.key}${path}`;
        this.value = null;
        this.min = this.max = undefined;
        this.at = 0;
        this.history = null;
        this.generation = 0;
    }

    get type() {
        return this.device.type;
    }

    get instance() {
        return this.device.instance;
    }
}

let devices = 0;

/** Everything with one service type and instance. */
class Device {
    constructor(type, instance) {
        this.type = type;
        this.instance = instance;
        this.key = `${type}/${instance}`;
        this.items = new Map();
        this.id = ++devices;
        // How often items came and went.
        this.shape = 0;
    }

    value(path) {
        return this.items.get(path)?.value ?? null;
    }

    /** A number that is one, or null. */
    number(path) {
        const value = this.value(path);
        return typeof value === 'number' ? value : null;
    }
}

export class Store {
    constructor() {
        this.devices = new Map();
        this.changed = new Set();
        // What came and went: lists of devices and items are to be made anew.
        this.shape = 0;
        this.seen = 0;
        this.size = 0;
        this.generation = 0;
    }

    clear() {
        this.devices.clear();
        this.changed.clear();
        this.size = 0;
        this.shape++;
    }

    /** All devices of a type, by instance. */
    of(type) {
        const found = [...this.devices.values()].filter((device) => device.type === type);
        return found.sort((a, b) => Number(a.instance) - Number(b.instance) || (a.instance < b.instance ? -1 : 1));
    }

    device(type, instance) {
        return this.devices.get(`${type}/${instance}`);
    }

    item(key) {
        const second = key.indexOf('/', key.indexOf('/') + 1);
        return second < 0 ? undefined : this.devices.get(key.slice(0, second))?.items.get(key.slice(second));
    }

    *items() {
        for (const device of this.devices.values()) yield* device.items.values();
    }

    /** A connection begins: what it does not bring again is gone, as `sweep` finds. */
    begin() {
        this.generation++;
    }

    sweep() {
        for (const item of [...this.items()]) {
            if (item.generation !== this.generation) this.remove(item);
        }
    }

    /** Takes what a topic below the portal id says. */
    take(name, text) {
        const first = name.indexOf('/');
        const second = name.indexOf('/', first + 1);
        if (second < 0) return;
        const key = name.slice(0, second);
        const path = name.slice(second);
        let device = this.devices.get(key);
        if (!text) {
            const item = device?.items.get(path);
            if (item) this.remove(item);
            return;
        }
        let message;
        try {
            message = JSON.parse(text);
        } catch {
            return;
        }
        if (message === null || typeof message !== 'object' || !('value' in message)) return;
        this.seen++;
        if (!device) {
            if (this.size >= ITEMS_MAX) return;
            device = new Device(name.slice(0, first), name.slice(first + 1, second));
            this.devices.set(key, device);
            this.shape++;
        }
        let item = device.items.get(path);
        if (!item) {
            if (this.size >= ITEMS_MAX) return;
            item = new Item(device, path);
            device.items.set(path, item);
            device.shape++;
            this.size++;
            this.shape++;
        }
        item.generation = this.generation;
        item.at = Date.now();
        item.value = exact(message.value, text);
        item.min = message.min ?? undefined;
        item.max = message.max ?? undefined;
        if (typeof item.value === 'number') {
            item.history ??= new History();
            item.history.add(item.at, item.value);
        }
        this.changed.add(item);
    }

    remove(item) {
        const { device } = item;
        if (!device.items.delete(item.path)) return;
        this.size--;
        device.shape++;
        if (!device.items.size) this.devices.delete(device.key);
        item.value = null;
        this.changed.add(item);
        this.shape++;
    }
}

/** The same text, without the long one that it was cut from. */
export const copy = (text) => JSON.parse(JSON.stringify(text));

/** A value as it was sent: numbers that JavaScript has not all digits of stay texts of digits. */
function exact(value, text) {
    if (typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value)) {
        const digits = /"value"\s*:\s*(-?\d+)\s*[,}]/.exec(text);
        if (digits) return BigInt(digits[1]);
    }
    if (typeof value === 'string' && value.length > TEXT_MAX) return copy(value.slice(0, TEXT_MAX));
    return value;
}
