// The page: a client of the bridge, in modules that look down only.
//
//   dom, format, history ◀── schema, mqtt ◀── store, session ◀── names, alarms, system, energy, plot
//       ◀── overview, devices, raw ◀── main
//
// Values come in through the session into the store; once per frame, and only when something has changed,
// the view that is shown takes what changed. Nothing from the bus is ever HTML: the server forbids that too.

import { Alarms } from './alarms.js';
import { Devices } from './devices.js';
import { attribute, h, text } from './dom.js';
import { Energy } from './energy.js';
import { keep, recall } from './history.js';
import { Overview } from './overview.js';
import { Pins } from './plot.js';
import { Raw } from './raw.js';
import { Schema } from './schema.js';
import { Session } from './session.js';
import { Store } from './store.js';

const $ = (id) => document.getElementById(id);

class App {
    constructor(facts, schema, broker) {
        const query = new URLSearchParams(location.search);
        this.facts = facts;
        this.schema = new Schema(schema);
        this.store = new Store();
        const own = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/mqtt`;
        this.session = new Session({
            url: broker ?? own,
            portal: query.get('portal') ?? (broker ? '' : facts.portal ?? ''),
            prefix: query.get('prefix') ?? (broker ? '' : facts.prefix ?? ''),
            store: this.store,
            on: { state: () => this.showState(), raw: (topic, payload) => (this.raw.take(topic, payload), this.later()) },
        });
        this.broker = broker;
        this.readOnly = query.has('read-only') || (!broker && facts.readOnly === true);
        this.alarms = new Alarms(this.store, this.schema);
        this.energy = new Energy(this.store, this.session);
        this.pins = new Pins(this.session, () => this.later());
        this.views = { '': new Overview(this), devices: new Devices(this), raw: new Raw(this) };
        this.raw = this.views.raw;
        addEventListener('hashchange', () => this.route(true));
        this.route(false);
        // A covered tab has no frames, and still tells of alarms in its title.
        setInterval(() => (document.hidden ? this.frame() : this.later()), 1_000);
        setInterval(() => this.pins.record(this.store), 20_000);
        this.theme(recall('theme', 'auto'));
        $('theme').addEventListener('click', () => {
            const next = { auto: 'dark', dark: 'light', light: 'auto' };
            this.theme(next[document.documentElement.dataset.theme] ?? 'auto');
        });
        $('login').addEventListener('submit', (event) => {
            event.preventDefault();
            $('denied').close();
            this.session.logIn({ user: facts.login === 'password' ? 'page' : $('user').value, password: $('password').value });
            $('password').value = '';
        });
        // Without a login there is nothing to go on with.
        $('denied').addEventListener('cancel', (event) => event.preventDefault());
        $('portal').addEventListener('change', (event) => {
            this.alarms.clear();
            this.session.choose(event.target.value);
        });
        if (!broker && facts.login) {
            // Without one the bridge would refuse, and let us wait for that.
            attribute($('user-row'), 'hidden', facts.login === 'password');
            this.session.deny(facts.login === 'password' ? 'enter the password of this device' : 'enter user name and password');
        } else {
            this.session.start();
        }
    }

    /** Has the view that is shown look once more, with the next frame. */
    later() {
        this.waits ??= requestAnimationFrame(() => this.frame());
    }

    frame() {
        const { changed } = this.store;
        this.waits = undefined;
        this.alarmsDiffer = changed.size > 0 && this.alarms.take(changed);
        this.store.changed = new Set();
        this.view.update(changed);
        if (this.alarmsDiffer) this.showTitle();
    }

    route(byUser) {
        const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
        const [first, ...rest] = path.split('/').map((part) => {
            try {
                return decodeURIComponent(part);
            } catch {
                return part;
            }
        });
        const key = Object.hasOwn(this.views, first) ? first : '';
        const view = this.views[key];
        if (this.view !== view) {
            this.view?.hide();
            this.view = view;
            $('main').replaceChildren(view.element);
        }
        for (const link of document.querySelectorAll('nav a')) attribute(link, 'aria-current', link.dataset.view === key ? 'page' : null);
        view.show(rest, new URLSearchParams(query ?? ''));
        if (byUser) {
            // A screen reader begins with what is new.
            const heading = view.element.querySelector('h1');
            attribute(heading, 'tabindex', '-1');
            heading?.focus({ preventScroll: true });
            if (!query) scrollTo(0, 0);
        }
        this.showTitle();
    }

    showTitle() {
        const count = this.alarms.active.size;
        document.title = `${count ? `(${count}) ` : ''}${this.session.portal || 'dbus-mqtt'}`;
    }

    showState() {
        const { session } = this;
        const state = $('state');
        const seconds = Math.max(0, Math.ceil((session.retryAt - performance.now()) / 1000));
        const words = {
            connecting: 'Connecting…', searching: 'Looking for an installation…',
            live: { offline: 'The bridge is offline', silent: 'The bridge is silent' }[session.bridge] ?? 'Live',
            waiting: `Offline: ${session.reason}. Trying again${seconds ? ` in ${seconds} s` : ''}…`,
            denied: `Not connected: ${session.reason}`,
        }[session.state];
        const isWell = words === 'Live';
        text($('countdown'), words);
        // A screen reader is told of changes, not of seconds.
        text(state, session.state === 'waiting' ? `Offline: ${session.reason}. Trying again.` : words);
        attribute(document.documentElement, 'data-state', isWell ? 'live' : session.state === 'connecting' && !this.store.size ? 'first' : 'stale');
        const dialog = $('denied');
        if (session.state === 'denied' && !dialog.open) {
            text($('why'), session.reason);
            dialog.showModal();
        }
        const portals = [...session.portals].sort();
        attribute($('portals'), 'hidden', portals.length < 2);
        if (portals.length > 1) $('portal').replaceChildren(...portals.map((portal) => h('option', { value: portal, selected: portal === session.portal }, portal)));
        text($('broker'), this.broker ? `from ${session.url}` : '');
        text($('id'), session.portal);
        this.showTitle();
        this.later();
    }

    /** Says something for a moment, to a screen reader too. */
    say(words) {
        text($('toast'), words);
        attribute($('toast'), 'data-shown', true);
        clearTimeout(this.toast);
        this.toast = setTimeout(() => attribute($('toast'), 'data-shown', null), 4_000);
    }

    /** Asks before something that matters. */
    ask(question, detail) {
        const dialog = $('ask');
        text($('question'), question);
        text($('detail'), detail);
        return new Promise((resolve) => {
            dialog.returnValue = 'no';
            dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true });
            dialog.showModal();
        });
    }

    theme(theme) {
        document.documentElement.dataset.theme = theme;
        keep('theme', theme);
        const words = { auto: 'Colours: as the system', dark: 'Colours: dark', light: 'Colours: light' }[theme];
        attribute($('theme'), 'aria-label', words);
        attribute($('theme'), 'title', words);
    }
}

async function load(path, otherwise) {
    try {
        const response = await fetch(path);
        return response.ok ? await response.json() : otherwise;
    } catch {
        return otherwise;
    }
}

const broker = new URLSearchParams(location.search).get('broker') ?? undefined;
const [facts, schema] = await Promise.all([load('page.json', {}), load('schema.json', {})]);
text($('version'), facts.version ? `dbus-mqtt ${facts.version}` : '');
globalThis.page = new App(facts, schema, broker);
