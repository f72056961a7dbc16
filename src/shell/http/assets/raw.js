// Topics and payloads as they go by, what the bridge says of itself, and writes that were refused here.

import { attribute, h, icon, shown, text } from './dom.js';
import { duration, time } from './format.js';
import { copy } from './store.js';

/** So many messages are kept, and so many shown. */
const KEPT_MAX = 1_000, SHOWN_MAX = 200;
/** The list is renewed this often at most, in milliseconds. */
const PACE_MS = 200;
const REJECTED_MAX = 50;
/** So much of a payload is kept, in characters. */
const PAYLOAD_MAX = 4_000;

export class Raw {
    constructor(app) {
        this.app = app;
        this.kept = [];
        this.fresh = [];
        this.refused = [];
        this.passed = 0;
        this.shownAt = 0;
        this.isShown = false;
        this.filter = h('input', { type: 'search', placeholder: 'Filter: battery/+/Soc, or words', 'aria-label': 'Filter topics', autocomplete: 'off', autocapitalize: 'none', spellcheck: 'false', oninput: () => this.again() });
        this.pause = h('button', { type: 'button', 'aria-pressed': 'false', onclick: () => this.setPaused(!this.paused) }, 'Pause');
        this.requests = h('button', { type: 'button', 'aria-pressed': 'false', onclick: () => this.setRequests(!this.withRequests), title: 'What clients ask of the bridge: R/… and W/…' }, 'Requests too');
        this.count = h('span', { class: 'note' });
        this.list = h('ol', { class: 'messages', 'aria-label': 'Messages, the newest first' });
        this.stats = h('section', { class: 'panel stats', 'aria-labelledby': 'stats' });
        this.rejections = h('section', { class: 'panel', 'aria-labelledby': 'rejections', hidden: true });
        this.element = h('div', { class: 'raw' }, h('h1', {}, 'Raw'),
            h('div', { class: 'controls' }, this.filter, this.pause, this.requests, h('button', { type: 'button', onclick: () => this.clear() }, 'Clear'), this.copyButton('sub', () => this.line(), 'Copy as a command'), this.count),
            this.list, h('div', { class: 'panels' }, this.stats, this.rejections));
    }

    show() {
        this.isShown = true;
        if (this.withRequests) this.app.session.watch(['R/#', 'W/#']);
        this.again();
        this.showRejections();
    }

    hide() {
        this.isShown = false;
        this.app.session.unwatch();
    }

    /** A message. It is cheap: with nobody looking, it is counted and kept. */
    take(topic, payload) {
        this.passed++;
        if (this.paused) return;
        if (payload.length > PAYLOAD_MAX) payload = copy(payload.slice(0, PAYLOAD_MAX));
        const message = { at: Date.now(), topic, payload };
        this.kept.push(message);
        if (this.kept.length > 2 * KEPT_MAX) this.kept.splice(0, KEPT_MAX);
        if (!this.isShown) return;
        if (this.matches(message)) {
            this.fresh.push(message);
            if (this.fresh.length > SHOWN_MAX) this.fresh.shift();
        }
        this.app.later();
    }

    /** A write that was refused here. */
    rejected(item, told, { error, message }) {
        this.refused.unshift({ at: Date.now(), topic: this.app.session.topic('W', item), told, error, message });
        this.refused.length = Math.min(this.refused.length, REJECTED_MAX);
        if (this.isShown) this.showRejections();
    }

    update() {
        const now = performance.now();
        if (now - this.shownAt < PACE_MS) return this.app.later();
        this.shownAt = now;
        if (this.fresh.length && !this.paused) {
            const rows = this.fresh.reverse().map((message) => this.row(message));
            this.fresh = [];
            this.list.prepend(...rows);
            while (this.list.children.length > SHOWN_MAX) this.list.lastChild.remove();
        }
        const since = this.countedAt ? (now - this.countedAt) / 1000 : 0;
        if (since >= 1 || !this.countedAt) {
            const rate = since ? Math.round((this.passed - this.counted) / since) : 0;
            this.counted = this.passed;
            this.countedAt = now;
            text(this.count, `${rate} messages/s${this.paused ? ', paused' : ''}`);
            this.showStats();
        }
    }

    again() {
        this.matcher = matcher(this.filter.value.trim());
        this.fresh = [];
        const found = [];
        for (let index = this.kept.length - 1; index >= 0 && found.length < SHOWN_MAX; index--) {
            if (this.matches(this.kept[index])) found.push(this.row(this.kept[index]));
        }
        this.list.replaceChildren(...found);
        this.app.later();
    }

    matches(message) {
        return this.matcher(this.below(message.topic), message.payload);
    }

    /** A topic without prefix, letter and portal id. */
    below(topic) {
        const { prefix, portal } = this.app.session;
        const rest = topic.startsWith(prefix) ? topic.slice(prefix.length) : topic;
        return rest.slice(1).startsWith(`/${portal}/`) ? rest.slice(portal.length + 3) : rest;
    }

    row({ at, topic, payload }) {
        const copies = [this.copyButton('copy', () => this.line(topic), 'Copy a command to show this')];
        const item = this.app.store.item(this.below(topic));
        if (item) copies.push(this.copyButton('pub', () => this.write(item, payload), 'Copy a command to write this'));
        return h('li', {}, h('span', { class: 'time' }, time(at)), h('span', { class: 'topic' }, shown(topic, 300)), h('span', { class: 'payload' }, payload === '' ? '(empty: taken back)' : shown(payload, 500)), h('span', { class: 'tools' }, ...copies));
    }

    /** A command that shows a topic, or all that the filter lets through. */
    line(topic) {
        const { session } = this.app;
        const filter = topic ?? `${session.prefix}N/${session.portal}/${isFilter(this.filter.value) ? this.filter.value.trim() : '#'}`;
        const place = this.place();
        return place ? `mosquitto_sub ${place} -v -t ${quoted(filter)}` : `dbus-mqtt watch ${this.webPlace()} ${quoted(this.below(filter))}`;
    }

    /** A command that writes a value. */
    write(item, payload) {
        let { value } = item;
        try {
            ({ value } = JSON.parse(payload));
        } catch {
            // Taken back, or too long to be kept.
        }
        const text = JSON.stringify({ value });
        const place = this.place();
        if (place) return `mosquitto_pub ${place} -t ${quoted(this.app.session.topic('W', item))} -m ${quoted(text)}`;
        return `dbus-mqtt set ${this.webPlace()} ${quoted(`${item.type}/${item.instance}${item.path}`)} -- ${quoted(JSON.stringify(value))}`;
    }

    /** Where mosquitto's programs reach the values; nothing where they cannot, for they speak no WebSocket. */
    place() {
        const { facts, broker } = this.app;
        if (broker || !facts.mqtt) return undefined;
        const { host, port } = facts.mqtt;
        const own = location.hostname.replace(/[[\]]/g, '');
        // The loopback of another computer is out of reach.
        if (isLoopback(host) && !isLoopback(own)) return undefined;
        return `-h ${host || (isLoopback(own) ? '127.0.0.1' : own)} -p ${port}${this.user()}`;
    }

    /** The same for our own client, which takes the way of the page. */
    webPlace() {
        const { session } = this.app;
        const prefix = session.prefix ? ` --mqtt-prefix ${quoted(session.prefix)}` : '';
        return `-q ${quoted(session.url)} --portal-id ${quoted(session.portal)}${prefix}${this.user()}`;
    }

    /** The user that is logged in; nobody wants the password on the clipboard. */
    user() {
        const { login } = this.app.session;
        return login ? ` -u ${quoted(login.user)} -P PASSWORD` : '';
    }

    copyButton(kind, line, words) {
        const label = { copy: 'show', pub: 'write', sub: words }[kind];
        return h('button', { type: 'button', class: kind === 'sub' ? '' : 'plain small', title: words, 'aria-label': words, onclick: () => this.copy(line()) }, kind === 'sub' ? icon('copy') : '', h('span', {}, label));
    }

    async copy(line) {
        try {
            await navigator.clipboard.writeText(line);
        } catch {
            // Without HTTPS a browser has no clipboard for a page but this.
            const area = h('textarea', { class: 'quiet', readonly: true });
            area.value = line;
            document.body.append(area);
            area.select();
            document.execCommand('copy');
            area.remove();
        }
        this.app.say(`Copied: ${shown(line, 120)}`);
    }

    setPaused(paused) {
        this.paused = paused;
        attribute(this.pause, 'aria-pressed', String(paused));
        text(this.pause, paused ? 'Go on' : 'Pause');
        this.app.later();
    }

    setRequests(wanted) {
        this.withRequests = wanted;
        attribute(this.requests, 'aria-pressed', String(wanted));
        if (wanted) this.app.session.watch(['R/#', 'W/#']);
        else this.app.session.unwatch();
    }

    clear() {
        this.kept = [];
        this.again();
    }

    showStats() {
        const { stats } = this.app.session;
        if (!stats || typeof stats !== 'object') {
            if (!this.stats.firstChild) this.stats.append(h('h2', { id: 'stats' }, 'The bridge'), h('p', { class: 'note' }, 'It says nothing of itself; --stats 10 makes it do so.'));
            return;
        }
        const rows = [];
        for (const [key, told] of Object.entries(stats)) {
            if (key === 'refused' && typeof told === 'object') {
                for (const [reason, count] of Object.entries(told ?? {})) rows.push([`refused: ${reason}`, count.toLocaleString('en')]);
            } else {
                const words = { __proto__: null, uptime: () => duration(told), memory: () => `${(told / 1048576).toFixed(1)} MiB` }[key]?.() ?? (typeof told === 'number' ? told.toLocaleString('en') : String(told));
                rows.push([key.replace(/-/g, ' '), words]);
            }
        }
        const shape = rows.map(([key]) => key).join();
        if (shape !== this.statsShape) {
            this.statsShape = shape;
            this.statsNodes = rows.map(() => h('dd', {}));
            this.stats.replaceChildren(h('h2', { id: 'stats' }, 'The bridge'), h('dl', {}, ...rows.flatMap(([key], index) => [h('dt', {}, shown(key, 60)), this.statsNodes[index]])));
        }
        rows.forEach(([, words], index) => text(this.statsNodes[index], shown(words, 60)));
    }

    showRejections() {
        attribute(this.rejections, 'hidden', this.refused.length === 0);
        this.rejections.replaceChildren(h('h2', { id: 'rejections' }, 'Refused here'), h('ul', {}, ...this.refused.map(({ at, topic, told, error, message }) => h('li', {}, `${time(at)} ${shown(topic, 200)} = ${told}: ${shown(message || error, 300)}`))));
    }
}

const isLoopback = (host) => /^(localhost|127\..*|::1)$/.test(host);

const isFilter = (text) => /[+#/]/.test(text.trim()) && !/\s/.test(text.trim());

/** What a filter takes: a topic filter below the portal id, or words in topic and payload. */
function matcher(filter) {
    if (!filter) return () => true;
    if (isFilter(filter)) {
        const levels = filter.split('/');
        return (topic) => {
            const own = topic.split('/');
            for (let index = 0; index < levels.length; index++) {
                if (levels[index] === '#') return true;
                if (index >= own.length || (levels[index] !== '+' && levels[index].toLowerCase() !== own[index].toLowerCase())) return false;
            }
            return own.length === levels.length || !/[+#]/.test(filter);
        };
    }
    const terms = filter.toLowerCase().split(/\s+/);
    return (topic, payload) => {
        const all = `${topic} ${payload}`.toLowerCase();
        return terms.every((term) => all.includes(term));
    };
}

/** A text as a shell takes it. */
const quoted = (text) => `'${text.replace(/'/g, `'\\''`)}'`;
