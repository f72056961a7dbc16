// Every device and every value: a list of devices, one device in groups of its paths, and a search over
// all of them. A group makes its rows when it is opened; a row that changes sets one text.

import { attribute, h, icon, shown, text } from './dom.js';
import { Control, isWritable } from './control.js';
import { value, words } from './format.js';
import { glance, iconOf, linkTo, name, remark, title } from './names.js';
import { Plot, pinButton } from './plot.js';

/** A search shows this many values at first. */
const FOUND_MAX = 100;
/** The list of devices is renewed this often at most, in milliseconds. */
const PACE_MS = 500;
/** Groups that nobody opens first. */
const CLOSED = /^(History|Settings|About|Link|Mgmt|Devices|Debug|Interfaces|Pv\/Disable|Services|Diagnostics|Info)/;
/** Groups with a group for each of their members. */
const SPLIT = new Set(['Settings', 'SwitchableOutput', 'GenericInput']);
/** Groups whose path says little. */
const CALLED = { __proto__: null, Mgmt: 'Driver' };
/** What a device is, in separate items. */
const ABOUT = new Set(['Connected', 'CustomName', 'DeviceInstance', 'FirmwareVersion', 'GroupId', 'HardwareVersion', 'ProductId', 'ProductName', 'Serial', 'DeviceType', 'AllowedRoles', 'NrOfDistributors', 'Model', 'DeviceName', 'Identifier']);
/** Types that come last. */
const LAST = ['settings', 'platform', 'hub4', 'logger', 'modem', 'vecan', 'ble', 'shelly', 'fronius', 'modbusclient'];
const FIRST = ['system', 'vebus', 'multi', 'inverter', 'battery', 'solarcharger', 'pvinverter', 'grid', 'genset'];

export class Devices {
    constructor(app) {
        this.app = app;
        this.rows = new Map();
        this.cards = new Map();
        this.listedAt = 0;
        this.search = h('input', { type: 'search', id: 'search', placeholder: 'Search all values', autocomplete: 'off', spellcheck: 'false', 'aria-label': 'Search all values', oninput: () => this.later() });
        this.count = h('p', { class: 'note', role: 'status' });
        this.list = h('ul', { class: 'devices' });
        this.found = h('div', { class: 'found', hidden: true });
        this.detail = h('div', { class: 'detail' });
        this.element = h('div', { class: 'inventory' }, h('div', { class: 'side' }, h('h1', {}, 'Devices'), this.search, this.count, this.list), h('div', { class: 'content' }, this.found, this.detail));
    }

    show([type, ...instance], query) {
        this.selected = type ? `${type}/${instance.join('/')}` : '';
        this.at = query.get('at') ?? '';
        if (type) this.search.value = '';
        attribute(this.element, 'data-open', Boolean(type));
        this.shape = undefined;
        this.query = undefined;
        this.update(new Set(), true);
        if (this.at) this.find(this.at);
    }

    hide() {
        this.rows.clear();
        this.detail.replaceChildren();
        this.found.replaceChildren();
        this.shape = undefined;
    }

    later() {
        clearTimeout(this.typing);
        this.typing = setTimeout(() => (this.query = undefined, this.listedAt = 0, this.app.later()), 120);
    }

    update(changed, now = false) {
        const { store } = this.app;
        const at = performance.now();
        if (now || at - this.listedAt > PACE_MS) {
            this.listedAt = at;
            this.showList();
            const words = this.search.value.trim();
            if (words !== this.query || (words && store.shape !== this.foundShape)) this.showFound(words);
            const device = store.devices.get(this.selected);
            const shape = words ? '' : device ? `${device.id} ${device.shape}` : this.selected;
            // Who edits is left alone.
            if (shape !== this.shape && !this.detail.querySelector('[data-touched]')) {
                this.shape = shape;
                this.showDevice(device);
            }
        }
        for (const item of changed) this.rows.get(item)?.update();
        for (const row of this.plotted()) row.plot.update();
    }

    *plotted() {
        for (const row of this.rows.values()) if (row.plot) yield row;
    }

    showList() {
        const { store, schema } = this.app;
        if (store.shape !== this.listShape) {
            this.listShape = store.shape;
            const rank = ({ type }) => (FIRST.includes(type) ? FIRST.indexOf(type) : LAST.includes(type) ? 50 + LAST.indexOf(type) : 20);
            const sorted = [...store.devices.values()].sort((a, b) => rank(a) - rank(b) || (a.type < b.type ? -1 : a.type > b.type ? 1 : Number(a.instance) - Number(b.instance)));
            const known = new Set(sorted.map((device) => device.key));
            for (const key of this.cards.keys()) if (!known.has(key)) this.cards.delete(key);
            const cards = sorted.map((device) => {
                let card = this.cards.get(device.key);
                if (!card) {
                    card = { name: h('span', { class: 'name' }), type: h('span', { class: 'note type' }), glance: h('span', { class: 'glance' }) };
                    card.link = h('a', { href: linkTo(device) }, icon(iconOf(device)), card.name, card.type, card.glance);
                    card.element = h('li', {}, card.link);
                    this.cards.set(device.key, card);
                }
                card.device = device;
                return card.element;
            });
            const same = cards.length === this.list.children.length && cards.every((card, index) => this.list.children[index] === card);
            if (!same) this.list.replaceChildren(...cards);
        }
        for (const { device, name: called, type, glance: seen, link } of this.cards.values()) {
            text(called, name(device, schema));
            text(type, shown(device.key, 40));
            text(seen, glance(device, schema).join(' · ') || (device.items.size === 1 ? 'one value' : `${device.items.size.toLocaleString('en')} values`));
            attribute(link, 'aria-current', device.key === this.selected ? 'true' : null);
        }
        if (!this.search.value.trim()) text(this.count, `${this.cards.size} devices, ${store.size.toLocaleString('en')} values`);
    }

    showDevice(device) {
        this.rows.clear();
        if (!device) {
            const hint = this.selected ? `${shown(this.selected, 80)} is not there just now.` : 'Choose a device, or search all values: charge current, 48 V, alarm.';
            this.detail.replaceChildren(this.back(), h('p', { class: 'empty' }, hint));
            return;
        }
        const { schema } = this.app;
        const groups = new Map();
        for (const item of [...device.items.values()].sort(byPath)) {
            const parts = item.path.split('/').filter(Boolean);
            let group = parts.length > 1 ? parts[0] : ABOUT.has(parts[0]) ? 'About' : '';
            if (SPLIT.has(group) && parts.length > 2) group = `${parts[0]}/${parts[1]}`;
            if (!groups.has(group)) groups.set(group, []);
            groups.get(group).push(item);
        }
        const description = schema.describe(device.type);
        const opened = this.opened?.key === device.key ? this.opened : (this.opened = { key: device.key, groups: new Map() });
        // What a device is comes after what it does.
        const about = ['Mgmt', 'About'].map((group) => [group, groups.get(group)]).filter(([, items]) => items);
        for (const [group, items] of about) groups.delete(group), groups.set(group, items);
        const sections = [...groups].map(([group, items]) => this.group(group, items, groups.size, opened));
        this.detail.replaceChildren(this.back(), h('h2', { class: 'device' }, icon(iconOf(device)), name(device, schema)),
            h('p', { class: 'note' }, [shown(device.key, 80), description].filter(Boolean).join(' · ')), ...sections);
    }

    back() {
        return h('a', { class: 'back', href: '#/devices' }, '← All devices');
    }

    group(group, items, groups, opened) {
        const list = h('div', { class: 'rows' });
        const fill = () => {
            if (!list.firstChild) list.append(...items.filter((item) => item.device.items.has(item.path)).map((item) => this.row(item)));
        };
        if (!group) {
            fill();
            return h('section', { class: 'group', 'aria-label': 'General' }, list);
        }
        const wanted = items.some((item) => item.path === this.at);
        // What its owner calls an output.
        const { device } = items[0];
        const own = device.value(`/${group}/Settings/CustomName`) || device.value(`/${group}/Name`);
        const isOpen = wanted || (opened.groups.get(group) ?? !(CLOSED.test(group) || (items.length > 60 && groups > 3)));
        const details = h('details', { class: 'group', open: isOpen, ontoggle: () => {
            opened.groups.set(group, details.open);
            if (details.open) fill();
        } }, h('summary', {}, h('span', {}, CALLED[group] ?? words(`/${device.type === 'settings' ? group.replace(/^Settings\//, '') : group}`)), h('span', { class: 'note' }, own ? `${shown(own, 40)} · ${items.length}` : String(items.length))), list);
        if (isOpen) fill();
        return details;
    }

    row(item, withDevice = false) {
        const row = new Row(this.app, item, withDevice);
        this.rows.set(item, row);
        return row.element;
    }

    /** Goes to the row of a path. */
    find(path) {
        for (const [item, row] of this.rows) {
            if (item.path !== path) continue;
            row.element.scrollIntoView({ block: 'center' });
            attribute(row.element, 'data-found', true);
            row.openPlot();
            return;
        }
    }

    showFound(query) {
        this.query = query;
        this.foundShape = this.app.store.shape;
        const isSearch = query !== '';
        attribute(this.found, 'hidden', !isSearch);
        attribute(this.detail, 'hidden', isSearch);
        attribute(this.element, 'data-searching', isSearch);
        if (!isSearch) return this.found.replaceChildren();
        this.shape = undefined;
        this.rows.clear();
        const { store, schema } = this.app;
        const terms = query.toLowerCase().split(/\s+/);
        const found = [];
        for (const device of store.devices.values()) {
            const of = `${name(device, schema)} ${device.key}`.toLowerCase();
            for (const item of device.items.values()) {
                const { rule, description, name: called } = schema.of(item.type, item.path);
                const told = value(item.value, rule);
                const all = `${of}${item.path} ${words(item.path)} ${called} ${description} ${told.text} ${told.unit}`.toLowerCase();
                if (terms.every((term) => all.includes(term))) {
                    // What is said of the value itself goes before the name of its device.
                    const own = `${item.path} ${words(item.path)} ${called} ${description}`.toLowerCase();
                    const rank = terms.filter((term) => own.includes(term)).length + (item.value === null ? -2 : 0) + (item.type === 'settings' ? -1 : 0);
                    found.push([rank, item]);
                }
            }
        }
        found.sort((a, b) => b[0] - a[0] || (a[1].key < b[1].key ? -1 : 1));
        text(this.count, found.length === 1 ? 'One value' : `${found.length.toLocaleString('en')} values`);
        const rows = h('div', { class: 'rows' });
        let from = 0;
        const more = h('button', { type: 'button', onclick: () => add() }, 'Show more');
        const add = () => {
            rows.append(...found.slice(from, from += FOUND_MAX).map(([, item]) => this.row(item, true)));
            attribute(more, 'hidden', from >= found.length);
        };
        add();
        this.found.replaceChildren(h('h2', {}, found.length ? `Values with “${query}”` : `Nothing with “${query}”`), rows, more);
    }
}

/** One value, live. */
class Row {
    constructor(app, item, withDevice) {
        Object.assign(this, { app, item });
        this.rule = app.schema.of(item.type, item.path).rule;
        this.label = title(item, app.schema);
        const said = remark(item, app.schema);
        this.number = h('span', { class: 'number' });
        this.unit = h('span', { class: 'unit' });
        const path = withDevice ? h('a', { class: 'path', href: linkTo(item.device, item.path) }, `${name(item.device, app.schema)} · ${shown(item.path, 120)}`) : h('span', { class: 'path' }, shown(item.path, 120));
        this.buttons = h('span', { class: 'tools' });
        this.element = h('div', { class: 'value-row' }, h('span', { class: 'what' }, h('span', { class: 'label' }, this.label), said && h('span', { class: 'note' }, said), path), h('span', { class: 'value' }, this.number, this.unit), this.buttons);
        if (typeof item.value === 'number' && !this.rule.bits) {
            this.plotButton = h('button', { type: 'button', class: 'plain', 'aria-expanded': 'false', 'aria-label': `Plot ${this.label}`, title: 'Plot', onclick: () => this.togglePlot() }, icon('chart'));
            this.buttons.append(this.plotButton);
        }
        this.buttons.append(pinButton(app, item.key));
        if (isWritable(app, item)) {
            this.control = new Control(app, item, this.label);
            this.element.append(this.control.element);
        }
        this.update();
    }

    update() {
        const told = value(this.item.value, this.rule);
        text(this.number, told.text);
        text(this.unit, told.unit);
        attribute(this.element, 'data-none', this.item.value === null);
        attribute(this.element, 'data-text', typeof this.item.value !== 'number' || this.rule.words !== undefined);
        this.control?.update();
    }

    togglePlot() {
        if (this.plot) {
            this.plot.element.remove();
            this.plot = undefined;
        } else {
            this.plot = new Plot(this.app, this.item);
            this.element.append(this.plot.element);
            this.plot.update(true);
        }
        attribute(this.plotButton, 'aria-expanded', String(Boolean(this.plot)));
    }

    openPlot() {
        if (this.plotButton && !this.plot) this.togglePlot();
    }
}

/** Numbers in paths by their size. */
const collator = new Intl.Collator('en', { numeric: true });
/** What stands beside others goes before what lies below them. */
function byPath(a, b) {
    const one = a.path.split('/'), other = b.path.split('/');
    let at = 0;
    while (at < one.length - 1 && at < other.length - 1 && one[at] === other[at]) at++;
    const isLeaf = (parts) => Number(at === parts.length - 1);
    return isLeaf(other) - isLeaf(one) || collator.compare(one[at], other[at]);
}
