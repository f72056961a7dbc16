// The first page: alarms, the picture of where power goes, today's energy, what is pinned, tanks and
// temperatures. Shows what there is, and makes its elements anew only when that changes.

import { attribute, h, icon, text } from './dom.js';
import { duration, number, power, plain } from './format.js';
import { linkTo, name, title } from './names.js';
import { look, tanks, temperatures } from './system.js';
import { Flow } from './flow.js';
import { Plot, pinButton } from './plot.js';

/** Numbers are shown this often at most, in milliseconds: faster ones nobody reads. */
const PACE_MS = 250;
/** Parts whose note does not come and go: without one they need no room for it. */
const STEADY = new Set(['solar', 'loads', 'dc', 'wind']);

export class Overview {
    constructor(app) {
        this.app = app;
        this.shape = '';
        this.shownAt = 0;
        this.cards = new Map();
        this.alarms = h('section', { class: 'alarms', 'aria-label': 'Alarms', role: 'region', 'aria-live': 'polite' });
        this.flow = new Flow();
        this.picture = h('section', { class: 'picture', 'aria-label': 'Where power goes' });
        this.today = h('section', { class: 'panel today', 'aria-labelledby': 'today' });
        this.pins = h('section', { class: 'panel pins', 'aria-labelledby': 'pinned' });
        this.tanks = h('section', { class: 'panel tanks', 'aria-labelledby': 'tanks' });
        this.temperatures = h('section', { class: 'panel temperatures', 'aria-labelledby': 'temperatures' });
        this.empty = h('p', { class: 'empty' }, 'Waiting for values…');
        this.element = h('div', { class: 'overview' }, h('h1', { class: 'quiet' }, 'Overview'), this.alarms, this.empty, this.picture,
            h('div', { class: 'panels' }, this.today, this.tanks, this.temperatures, this.pins));
    }

    show() {
        this.shape = '';
        this.pinned = '';
        this.showAlarms();
        this.update(new Set(), true);
    }

    hide() {
        this.flow.stop();
    }

    update(changed, now = false) {
        if (this.app.alarmsDiffer) this.showAlarms();
        const at = performance.now();
        if (!now && at - this.shownAt < PACE_MS) return this.app.later();
        this.shownAt = at;
        const { store, schema } = this.app;
        const all = look(store, schema);
        const list = [...all.sources, ...all.sinks, ...(all.battery ? [all.battery] : []), ...(all.hub ? [all.hub] : [])];
        attribute(this.empty, 'hidden', list.length > 0 || store.size > 50);
        attribute(this.picture, 'hidden', list.length === 0);
        const levels = tanks(store, schema);
        const degrees = temperatures(store);
        const shape = JSON.stringify([list.map((part) => [part.id, part.title, part.phases.length, part.others?.length]), levels.map((tank) => tank.device.key), degrees.map((one) => one.device.key)]);
        if (shape !== this.shape) {
            this.shape = shape;
            this.build(all);
            this.buildList(this.tanks, 'tanks', 'Tanks', levels, (tank) => this.tank(tank));
            this.buildList(this.temperatures, 'temperatures', 'Temperatures', degrees, (one) => this.temperature(one));
        }
        for (const part of list) this.fill(this.cards.get(part.id), part);
        this.flow.update(list);
        for (const tank of levels) this.fillTank(tank);
        for (const one of degrees) this.fillTemperature(one);
        this.showToday();
        this.showPins(changed);
    }

    showAlarms() {
        const list = this.app.alarms.list();
        attribute(this.alarms, 'hidden', list.length === 0);
        this.alarms.replaceChildren(...list.slice(0, 20).map(({ level, title, device, item }) => h('a', { class: `alarm ${level}`, href: linkTo(item.device, item.path) },
            icon('alarm'), h('strong', {}, title), h('span', {}, `${level} · ${device}`))));
        if (list.length > 20) this.alarms.append(h('p', {}, `and ${list.length - 20} more`));
    }

    build({ sources, sinks, battery, hub }) {
        this.cards.clear();
        const card = (part) => {
            const phases = part.phases.length > 1 ? part.phases.map((_, index) => h('li', {}, h('span', {}, `L${index + 1}`), h('b', {}))) : [];
            const nodes = {
                number: h('span', { class: 'number' }), unit: h('span', { class: 'unit' }), note: h('span', { class: 'note' }), extra: h('span', { class: 'note extra' }), more: h('span', { class: 'note extra' }),
                phases: phases.map((phase) => phase.lastChild),
            };
            nodes.element = h('a', { class: `card ${part.id}`, href: part.link }, h('span', { class: 'head' }, icon(part.icon), h('span', { class: 'title' }, part.title)));
            if (part.id === 'battery') {
                nodes.level = h('span', { class: 'fill', 'aria-hidden': 'true' });
                nodes.soc = h('span', { class: 'soc' });
                nodes.element.append(nodes.level, nodes.soc);
            }
            if (part.id !== 'hub') nodes.element.append(h('span', { class: 'value' }, nodes.number, nodes.unit));
            nodes.element.append(nodes.note, nodes.extra, nodes.more);
            if (phases.length) nodes.element.append(h('ul', { class: 'phases' }, ...phases));
            this.cards.set(part.id, nodes);
            return nodes.element;
        };
        const left = h('div', { class: 'column' }, ...sources.map(card));
        const middle = h('div', { class: 'column middle' }, ...[hub, battery].filter(Boolean).map(card));
        const right = h('div', { class: 'column' }, ...sinks.map(card));
        this.flow.attach(this.picture, this.cards);
        this.picture.replaceChildren(this.flow.element, left, middle, right);
    }

    fill(nodes, part) {
        if (!nodes) return;
        attribute(nodes.element, 'href', part.link);
        if (part.id === 'hub') {
            text(nodes.note, part.state || '–');
            text(nodes.extra, part.mode);
            return;
        }
        // The sign is what the direction says.
        const [told, unit] = power(part.power === null ? null : Math.abs(part.power));
        text(nodes.number, told);
        text(nodes.unit, unit);
        nodes.hadNote ||= Boolean(part.note);
        text(nodes.note, part.note || (nodes.hadNote && !STEADY.has(part.id) ? '\u00a0' : ''));
        attribute(nodes.element, 'data-lost', part.lost);
        attribute(nodes.element, 'data-idle', part.power === null || Math.abs(part.power) < 5);
        nodes.phases.forEach((node, index) => text(node, power(part.phases[index]).join(' ')));
        if (part.id === 'battery') {
            text(nodes.soc, part.soc === null ? '' : `${number(part.soc, 0)} %`);
            const level = part.soc === null ? 0 : Math.max(0, Math.min(100, part.soc));
            nodes.level.style.height = `${level}%`;
            attribute(nodes.element, 'data-low', part.soc !== null && part.soc < 20);
            const words = [];
            if (part.volts !== null) words.push(`${number(part.volts, 2)}\u00a0V`);
            if (part.amps !== null) words.push(`${number(part.amps, 1)}\u00a0A`);
            text(nodes.extra, words.join(' · '));
            text(nodes.more, part.toGo > 0 ? `${duration(part.toGo)} to go` : part.temperature !== null ? `${number(part.temperature, 0)}\u00a0°C` : '');
        }
    }

    buildList(section, id, words, list, make) {
        attribute(section, 'hidden', list.length === 0);
        this[`${id}Nodes`] = new Map();
        section.replaceChildren(h('h2', { id }, words), h('ul', { class: 'meters' }, ...list.map(make)));
    }

    tank({ device, word }) {
        const nodes = { bar: h('span', { class: 'bar' }), level: h('b', {}), rest: h('span', { class: 'note' }), name: h('span', {}) };
        nodes.meter = h('span', { class: `meter ${/fuel|diesel|oil|gasoline|lng|lpg/.test(word) ? 'fuel' : /black|waste|sewage/.test(word) ? 'waste' : 'water'}`, role: 'meter', 'aria-valuemin': '0', 'aria-valuemax': '100' }, nodes.bar);
        this.tanksNodes.set(device.key, nodes);
        return h('li', {}, h('a', { href: linkTo(device) }, nodes.name, nodes.rest, nodes.level, nodes.meter));
    }

    fillTank({ device, word, level, remaining, capacity }) {
        const nodes = this.tanksNodes.get(device.key);
        if (!nodes) return;
        const own = device.value('/CustomName') || device.value('/ProductName') ? name(device, this.app.schema) : '';
        const generic = /tank (sensor|input|level)|^tank/i.test(own) || !own;
        const called = generic ? word || own || 'Tank' : own;
        text(nodes.name, called.charAt(0).toUpperCase() + called.slice(1));
        text(nodes.level, level === null ? '–' : `${number(level, 0)} %`);
        const litres = (cubic) => (cubic >= 1 ? number(cubic * 1000, 0) : number(cubic * 1000, 0));
        const kind = generic || called.toLowerCase().includes(word) ? '' : word;
        const amount = remaining !== null && capacity ? `${litres(remaining)} of ${litres(capacity)} l` : '';
        text(nodes.rest, [kind, amount].filter(Boolean).join(' · '));
        nodes.bar.style.width = `${Math.max(0, Math.min(100, level ?? 0))}%`;
        attribute(nodes.meter, 'aria-valuenow', Math.round(level ?? 0));
        attribute(nodes.meter, 'aria-label', called);
    }

    temperature({ device }) {
        const nodes = { name: h('span', {}), degrees: h('b', {}), rest: h('span', { class: 'note' }) };
        this.temperaturesNodes.set(device.key, nodes);
        return h('li', {}, h('a', { href: linkTo(device) }, nodes.name, nodes.rest, nodes.degrees));
    }

    fillTemperature({ device, degrees, humidity }) {
        const nodes = this.temperaturesNodes.get(device.key);
        if (!nodes) return;
        text(nodes.name, name(device, this.app.schema));
        text(nodes.degrees, degrees === null ? '–' : `${number(degrees, 1)} °C`);
        text(nodes.rest, humidity === null ? '' : `${number(humidity, 0)} % humidity`);
    }

    showToday() {
        const rows = this.app.energy.today();
        const shape = rows.map((row) => row.id).join();
        attribute(this.today, 'hidden', rows.length === 0);
        if (shape !== this.todayShape) {
            this.todayShape = shape;
            this.todayNodes = rows.map((row) => ({ value: h('b', {}), note: h('span', { class: 'note' }), words: row.words, icon: row.icon }));
            this.today.replaceChildren(h('h2', { id: 'today' }, 'Energy today'), h('ul', { class: 'meters' }, ...this.todayNodes.map((nodes) => h('li', { class: nodes.icon }, h('span', { class: 'row' }, h('span', { class: 'head' }, icon(nodes.icon), nodes.words), nodes.note, nodes.value)))));
        }
        rows.forEach((row, index) => {
            text(this.todayNodes[index].value, `${number(row.kwh, row.kwh >= 100 ? 0 : 2)} kWh`);
            text(this.todayNodes[index].note, row.since);
        });
    }

    showPins(changed) {
        const { pins, store, schema } = this.app;
        const keys = pins.keys();
        const shape = keys.map((key) => `${key}${store.item(key) ? 1 : 0}`).join();
        attribute(this.pins, 'hidden', keys.length === 0);
        if (shape !== this.pinned) {
            this.pinned = shape;
            this.plots = [];
            const list = keys.map((key) => {
                const item = store.item(key);
                if (!item) return h('li', { class: 'gone' }, h('span', { class: 'note' }, `${key} is not there`), pinButton(this.app, key));
                const nodes = { item, value: h('b', {}), plot: new Plot(this.app, item, { small: true }) };
                this.plots.push(nodes);
                return h('li', { class: 'pinned' }, h('a', { href: linkTo(item.device, item.path) }, h('span', {}, title(item, schema)), h('span', { class: 'note' }, name(item.device, schema)), nodes.value), pinButton(this.app, key), nodes.plot.element);
            });
            this.pins.replaceChildren(h('h2', { id: 'pinned' }, 'Pinned'), h('ul', { class: 'plots' }, ...list));
        }
        for (const { item, value, plot } of this.plots ?? []) {
            text(value, plain(item.value, schema.of(item.type, item.path).rule));
            plot.update();
        }
    }
}
