// The wire contract, from a client's side: which topics, what keeps values flowing, how a write is
// answered, and what happens when the connection or the bridge goes.
//
//   connecting ──▶ searching ──▶ live
//       ▲    no portal id yet      │ lost
//       └──────── waiting ◀────────┘      refused for its login: denied, until somebody has one

import { Client, PROPERTY } from './mqtt.js';

/** How often the bridge is told that somebody looks, in milliseconds; it forgets after a minute. */
const KEEP_ALIVE_MS = 25_000;
/** How long after subscribing values may be missing before they are asked for, in milliseconds. */
const QUIET_MS = 400;
/** The longest wait before the next try, in milliseconds. */
const RETRY_MS_MAX = 15_000;
/** How long a write may wait for its answer, in milliseconds. */
const ANSWER_MS = 30_000;
/** How long a heartbeat may be missing, in milliseconds: it comes every 3 s. */
const HEARTBEAT_MS = 15_000;

const decoder = new TextDecoder();
const random = () => [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, '0')).join('');

export class Session {
    /** `on` has `state()`, and `raw(topic, payload)` for whoever looks at what goes by. */
    constructor({ url, portal, prefix, store, on }) {
        Object.assign(this, { url, portal, prefix, store, on });
        this.id = random();
        this.version = 5;
        this.failures = 0;
        this.state = 'connecting';
        this.reason = '';
        this.bridge = 'unknown';
        this.answers = new Map();
        this.watched = [];
        // Other installations at the same broker.
        this.portals = new Set();
        addEventListener('online', () => this.hurry());
        document.addEventListener('visibilitychange', () => document.hidden || this.hurry());
        setInterval(() => this.look(), 1_000);
    }

    start() {
        clearTimeout(this.retry);
        // That one's end is no reason to try again.
        const before = this.client;
        this.client = undefined;
        before?.close();
        this.forget();
        this.set('connecting');
        const client = new Client(this.url, {
            version: this.version,
            login: this.login,
            clientId: `page-${this.id}`,
            on: {
                open: () => this.client === client && this.opened(),
                message: (...message) => this.client === client && this.message(...message),
                closed: (how) => this.client === client && this.closed(how),
            },
        });
        this.client = client;
    }

    /** Tries again now. */
    hurry() {
        if (this.state === 'waiting') this.start();
    }

    /** Waits for a login, and says what for. */
    deny(reason) {
        this.reason = reason;
        this.set('denied');
    }

    /** Tries with a user name and a password. */
    logIn(login) {
        this.login = login;
        this.start();
    }

    /** Looks at another installation. */
    choose(portal) {
        this.portal = portal;
        this.store.clear();
        this.start();
    }

    get canAnswer() {
        return this.version === 5;
    }

    /** Writes a value. Resolves with `{ok, value}`, `{error, message}`, or `{unknown: true}`. */
    write(item, value) {
        if (this.state !== 'live') return Promise.resolve({ error: 'offline', message: 'there is no connection just now' });
        const topic = this.topic('W', item);
        // A whole number for an item of fractions is the bridge's business.
        const text = JSON.stringify({ value });
        if (!this.canAnswer) {
            this.client.publish(topic, text);
            return Promise.resolve({ unknown: true });
        }
        const correlation = random();
        this.client.publish(topic, text, { responseTopic: this.answerTopic, correlation });
        return new Promise((resolve) => {
            const late = () => {
                this.answers.delete(correlation);
                resolve({ unknown: true });
            };
            this.answers.set(correlation, { resolve, timer: setTimeout(late, ANSWER_MS) });
        });
    }

    /** The topic of an item, to notify, read or write. */
    topic(letter, item) {
        return `${this.prefix}${letter}/${this.portal}/${item.type}/${item.instance}${item.path}`;
    }

    /** Has these filters too, below the portal id: `R/#`. */
    watch(filters) {
        this.watched = filters.map((filter) => `${this.prefix}${filter[0]}/${this.portal}${filter.slice(1)}`);
        if (this.state === 'live' && this.watched.length) this.client.subscribe(this.watched);
    }

    unwatch() {
        if (this.state === 'live' && this.watched.length) this.client.unsubscribe(this.watched);
        this.watched = [];
    }

    async opened() {
        const client = this.client;
        if (!this.portal) {
            this.set('searching');
            await client.subscribe(['keepalive', 'system/0/Serial', 'bridge/status'].map((end) => `${this.prefix}N/+/${end}`));
            return;
        }
        const filters = [`${this.prefix}N/${this.portal}/#`, ...this.watched];
        if (this.canAnswer) filters.push(this.answerTopic);
        this.store.begin();
        const codes = await client.subscribe(filters);
        if (codes[0] >= 0x80) return this.refused(client);
        this.failures = 0;
        this.bridge = 'unknown';
        this.heartbeat = performance.now();
        this.set('live');
        // Who retains has sent it all by now; with one that does not, values must be asked for.
        this.renew('suppress-republish');
        const before = this.store.seen;
        const again = this.store.size > 0;
        setTimeout(() => {
            if (this.client === client && (again || this.store.seen - before < 10)) this.renew({ 'full-publish-completed-echo': `page-${this.id}` });
        }, QUIET_MS);
        clearInterval(this.renewing);
        this.renewing = setInterval(() => this.renew('suppress-republish'), KEEP_ALIVE_MS);
    }

    refused(client) {
        this.client = undefined;
        client.close();
        this.closed({ reason: 'the broker refused the subscription', login: true, version: false });
    }

    renew(option) {
        const text = JSON.stringify({ 'keepalive-options': [option] });
        this.client.publish(`${this.prefix}R/${this.portal}/keepalive`, text);
    }

    message(topic, payload, properties) {
        if (topic === this.answerTopic) return this.answered(payload, properties);
        const isCompressed = properties.get(PROPERTY.CONTENT_TYPE) === 'application/gzip';
        const text = isCompressed ? `(compressed: ${payload.length} bytes)` : decoder.decode(payload);
        this.on.raw(topic, text);
        const start = `${this.prefix}N/`;
        if (!topic.startsWith(start)) return;
        const rest = topic.slice(start.length);
        const slash = rest.indexOf('/');
        const portal = rest.slice(0, slash);
        if (!this.portal) {
            if (!text) return;
            this.portals.add(portal);
            if (this.portals.size === 1) setTimeout(() => this.state === 'searching' && this.choose([...this.portals].sort()[0]), QUIET_MS);
            return;
        }
        if (portal !== this.portal) return;
        const name = rest.slice(slash + 1);
        if (!name.includes('/') || name.startsWith('bridge/')) return this.told(name, text);
        this.store.take(name, text);
    }

    /** What the bridge says of itself. */
    told(name, text) {
        let value = null;
        let message = {};
        try {
            message = JSON.parse(text);
            value = message.value;
        } catch {
            // Taken back, or not ours.
        }
        switch (name) {
            case 'heartbeat':
                this.heartbeat = performance.now();
                if (this.bridge !== 'online') this.setBridge('online');
                break;
            case 'bridge/status': {
                const was = this.bridge;
                this.setBridge(value === 'offline' ? 'offline' : 'online');
                if (was === 'offline' && value === 'online') this.renew('suppress-republish');
                break;
            }
            case 'bridge/stats':
                this.stats = value;
                break;
            case 'full_publish_completed':
                if (message['full-publish-completed-echo'] === `page-${this.id}`) this.store.sweep();
                break;
        }
    }

    answered(payload, properties) {
        const correlation = decoder.decode(properties.get(PROPERTY.CORRELATION) ?? new Uint8Array(0));
        const answer = this.answers.get(correlation);
        if (!answer) return;
        this.answers.delete(correlation);
        clearTimeout(answer.timer);
        try {
            const told = JSON.parse(decoder.decode(payload));
            answer.resolve(told.status === 'ok' ? { ok: true, value: told.value } : { error: told.error, message: told.message });
        } catch {
            answer.resolve({ unknown: true });
        }
    }

    /** What was under way on a connection is not any more. */
    forget() {
        clearInterval(this.renewing);
        for (const { resolve, timer } of this.answers.values()) {
            clearTimeout(timer);
            resolve({ unknown: true });
        }
        this.answers.clear();
    }

    closed({ reason, login, version }) {
        this.forget();
        this.client = undefined;
        this.reason = reason;
        if (version && this.version === 5) {
            this.version = 4;
            return this.start();
        }
        if (login) return this.deny(reason);
        // Not all tabs at once.
        const wait = Math.min(RETRY_MS_MAX, 1_000 * 2 ** this.failures++) * (0.5 + Math.random() / 2);
        this.retryAt = performance.now() + wait;
        this.retry = setTimeout(() => this.start(), wait);
        this.set('waiting');
    }

    look() {
        if (this.state === 'waiting') this.on.state();
        const silent = this.state === 'live' && performance.now() - this.heartbeat > HEARTBEAT_MS;
        if (silent && this.bridge !== 'offline') this.setBridge('silent');
    }

    setBridge(bridge) {
        if (this.bridge === bridge) return;
        this.bridge = bridge;
        this.on.state();
    }

    set(state) {
        this.state = state;
        this.on.state();
    }

    get answerTopic() {
        return `${this.prefix}dbus-mqtt/page/${this.id}`;
    }
}
