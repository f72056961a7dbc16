// A plot of the last minutes of a value, and what is pinned.

import { attribute, h, icon, text } from './dom.js';
import { Day, keep, recall } from './history.js';
import { plain, time } from './format.js';

/** What a plot can show, in minutes. */
const SPANS = [[5, '5 min'], [30, '30 min'], [1_440, '1 day']];
/** A plot is drawn this often at most, in milliseconds. */
const PACE_MS = 1_000;
/** So many values can be pinned: each keeps a day in the browser. */
const PINS_MAX = 24;

/** What is pinned, in the order of pinning; kept in the browser, for each installation. */
export class Pins {
    /** `changed` is called when another tab has pinned something. */
    constructor(session, changed) {
        this.session = session;
        this.days = new Map();
        addEventListener('storage', () => {
            this.days.clear();
            this.portal = undefined;
            changed();
        });
    }

    keys() {
        const { portal } = this.session;
        if (this.portal !== portal) {
            this.portal = portal;
            const kept = recall(`pins/${portal}`, []);
            this.list = Array.isArray(kept) ? kept.filter((key) => typeof key === 'string').slice(0, PINS_MAX) : [];
        }
        return this.list;
    }

    has(key) {
        return this.keys().includes(key);
    }

    /** Pins or unpins. `false` where there is no more room. */
    toggle(key) {
        // Another tab may have been quicker.
        this.portal = undefined;
        const list = this.keys();
        if (list.includes(key)) {
            list.splice(list.indexOf(key), 1);
            this.day(key).forget();
            this.days.delete(key);
        } else if (list.length >= PINS_MAX) {
            return false;
        } else {
            list.push(key);
        }
        keep(`pins/${this.portal}`, list);
        return true;
    }

    day(key) {
        let day = this.days.get(key);
        if (!day) {
            day = new Day(`${this.portal}/${key}`);
            this.days.set(key, day);
        }
        return day;
    }

    /** Keeps what the pinned values are now. */
    record(store) {
        for (const key of this.keys()) {
            const value = store.item(key)?.value;
            if (typeof value === 'number') this.day(key).add(value);
        }
    }
}

export function pinButton(app, key, after = () => {}) {
    const button = h('button', {
        type: 'button', class: 'plain pin', onclick() {
            if (!app.pins.toggle(key)) app.say('There are enough pinned values already');
            show();
            after();
            app.later();
        },
    }, icon('pin'));
    const show = () => {
        const pinned = app.pins.has(key);
        attribute(button, 'aria-pressed', String(pinned));
        const words = pinned ? 'Unpin' : 'Pin to the overview';
        attribute(button, 'aria-label', words);
        attribute(button, 'title', words);
    };
    show();
    return button;
}

export class Plot {
    constructor(app, item, { small = false } = {}) {
        Object.assign(this, { app, item, small, span: SPANS[0][0], drawnAt: 0 });
        this.line = h('path', { class: 'line' });
        this.area = h('path', { class: 'area' });
        this.svg = h('svg', { class: 'plot', preserveAspectRatio: 'none', viewBox: '0 0 600 100', role: 'img' }, this.area, this.line);
        this.top = h('span', { class: 'top' });
        this.bottom = h('span', { class: 'bottom' });
        this.from = h('span', { class: 'from' });
        this.element = h('div', { class: small ? 'plotted small' : 'plotted' }, this.svg, this.top, this.bottom);
        if (!small) {
            const choices = SPANS.map(([minutes, words]) => h('button', {
                type: 'button', class: 'plain', 'aria-pressed': String(minutes === this.span), onclick: (event) => {
                    this.span = minutes;
                    for (const other of choices) attribute(other, 'aria-pressed', String(other === event.currentTarget));
                    this.update(true);
                },
            }, words));
            this.element.append(h('div', { class: 'spans' }, this.from, ...choices));
        }
    }

    update(now = false) {
        const at = performance.now();
        if (!now && at - this.drawnAt < PACE_MS) return;
        this.drawnAt = at;
        const end = Date.now(), start = end - this.span * 60_000;
        const { item } = this;
        let points = item.history?.since(start) ?? [];
        // The day that was kept comes before what this page has seen.
        if (this.app.pins.has(item.key) && !this.small) {
            const seen = points[0]?.[0] ?? end;
            points = [...this.app.pins.day(item.key).since(start).filter(([time]) => time < seen), ...points];
        }
        const last = points.at(-1);
        if (!last) {
            attribute(this.svg, 'aria-label', 'nothing to plot yet');
            return;
        }
        const values = points.map((point) => point[1]);
        let low = Math.min(...values), high = Math.max(...values);
        const { rule } = this.app.schema.of(item.type, item.path);
        text(this.top, plain(high, rule));
        text(this.bottom, plain(low, rule));
        if (high - low < 1e-9) [low, high] = [low - 1, high + 1];
        // As much as there is, if that is less than the span.
        const first = Math.max(start, Math.min(points[0][0], end - 30_000));
        const x = (at) => (600 * (Math.max(at, first) - first) / (end - first)).toFixed(1);
        const y = (value) => (96 - 92 * (value - low) / (high - low)).toFixed(1);
        let d = `M${x(points[0][0])} ${y(points[0][1])}`;
        for (const [at, value] of points.slice(1)) d += `H${x(at)}V${y(value)}`;
        d += 'H600';
        attribute(this.line, 'd', d);
        attribute(this.area, 'd', `${d}V100H${x(points[0][0])}Z`);
        text(this.from, `since ${time(first).slice(0, this.span > 60 ? 5 : 8)}`);
        attribute(this.svg, 'aria-label', `from ${time(first)}: lowest ${plain(Math.min(...values), rule)}, highest ${plain(Math.max(...values), rule)}, now ${plain(last[1], rule)}`);
    }
}
