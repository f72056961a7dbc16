// What writes a value: a switch, a list, a slider or a field, as the schema and the service's limits say.
// What moves much power asks first: the schema says what that is. What the service made of it is said beside it.

import { attribute, h, text } from './dom.js';
import { plain, value } from './format.js';
import { name } from './names.js';

/** A list with more entries is a field. */
const WORDS_MAX = 200;
/** A slider has this many steps at most. */
const STEPS_MAX = 2_000;
/** How long after a write of MQTT 3.1.1, which has no answers, the value is looked at, in milliseconds. */
const LOOK_MS = 2_000;
/** Whether an item is one that can be written here. */
export function isWritable(app, item) {
    return !app.readOnly && app.schema.of(item.type, item.path).rule.access === 'rw';
}

/** The element for an item; it has `update()`. */
export class Control {
    constructor(app, item, label) {
        Object.assign(this, { app, item, label });
        this.rule = app.schema.of(item.type, item.path).rule;
        this.answer = h('output', { class: 'answer', role: 'status' });
        this.element = h('div', { class: 'control' });
        this.make();
        this.element.append(this.answer);
        this.update();
    }

    make() {
        const kind = this.kind();
        this.made = kind;
        this.button = h('button', { type: 'button', onclick: () => this.commit() }, 'Set');
        switch (kind) {
            case 'button':
                this.element.append(h('button', { type: 'button', 'aria-label': `Do it: ${this.label}`, onclick: () => this.write(1) }, 'Do it'));
                return;
            case 'switch':
                this.input = h('button', { type: 'button', role: 'switch', class: 'switch', 'aria-label': this.label, onclick: () => this.write(this.item.value ? this.off() : this.on()) }, h('span', { class: 'knob' }));
                this.element.append(this.input);
                return;
            case 'list': {
                this.codes = [...this.rule.words];
                this.input = h('select', { 'aria-label': this.label }, ...this.codes.map(([code, word]) => h('option', { value: code }, word)));
                this.input.addEventListener('change', () => this.touch());
                break;
            }
            case 'slider': {
                const [low, high] = this.range();
                this.input = h('input', { type: 'range', min: low, max: high, step: this.step(), 'aria-label': this.label });
                this.told = h('span', { class: 'told' });
                this.input.addEventListener('input', () => (this.touch(), this.tell()));
                this.input.addEventListener('keydown', (event) => event.key === 'Enter' && this.commit());
                break;
            }
            default:
                this.input = h('input', { type: 'text', 'aria-label': this.label, inputmode: kind === 'number' ? 'decimal' : null, autocomplete: 'off', autocapitalize: 'none', spellcheck: 'false' });
                this.input.addEventListener('input', () => this.touch());
                this.input.addEventListener('keydown', (event) => {
                    if (event.key === 'Enter') this.commit();
                    if (event.key === 'Escape') this.forget();
                });
        }
        this.element.append(this.input);
        if (this.told) this.element.append(this.told);
        if (kind === 'number' && this.rule.unit) this.element.append(h('span', { class: 'unit' }, this.rule.unit));
        this.element.append(this.button);
    }

    kind() {
        const { value } = this.item;
        const { words } = this.rule;
        if (this.rule.button) return 'button';
        if (typeof value === 'boolean' || this.rule.type === 'b') return 'switch';
        if (words && words.size === 2 && words.has(0) && words.has(1)) return 'switch';
        if (words && words.size <= WORDS_MAX) return 'list';
        const isNumber = typeof value === 'number' || (value === null && this.rule.type && this.rule.type !== 's');
        if (!isNumber) return 'text';
        const [low, high] = this.range();
        const steps = (high - low) / this.step();
        return Number.isFinite(steps) && steps > 1 && steps <= STEPS_MAX && value !== null ? 'slider' : 'number';
    }

    /** The service's own limits go before the schema's. */
    range() {
        const [low, high] = this.rule.range ?? [null, null];
        const of = (limit, other) => (typeof limit === 'number' ? limit : other ?? NaN);
        return [of(this.item.min, low), of(this.item.max, high)];
    }

    step() {
        if (/^[ynqiuxt]$/.test(this.rule.type ?? '')) return 1;
        if (this.rule.type !== 'd' && Number.isInteger(this.item.value ?? 0.5)) return 1;
        return { V: 0.01, '°C': 0.5, '%': 1, A: 0.1 }[this.rule.unit] ?? 0.1;
    }

    on() {
        return typeof this.item.value === 'boolean' ? true : 1;
    }

    off() {
        return typeof this.item.value === 'boolean' ? false : 0;
    }

    /** Somebody edits: what comes from the bus leaves it alone. */
    touch() {
        this.touched = true;
        attribute(this.element, 'data-touched', true);
    }

    forget() {
        this.touched = false;
        attribute(this.element, 'data-touched', null);
        this.update();
    }

    update() {
        if (this.touched || this.pending || this.made === 'button') return;
        const { value } = this.item;
        if (this.made === 'switch') {
            attribute(this.input, 'aria-checked', String(Boolean(value)));
            attribute(this.input, 'disabled', value === null);
        } else if (this.made === 'list') {
            if (!this.rule.words.has(Number(value)) && value !== null) this.other(value);
            const wanted = value === null ? '' : String(Number(value));
            if (this.input.value !== wanted && document.activeElement !== this.input) this.input.value = wanted;
        } else if (document.activeElement !== this.input || this.made === 'slider') {
            const wanted = value === null ? '' : typeof value === 'object' ? JSON.stringify(value) : String(value);
            if (this.made === 'slider') {
                const [low, high] = this.range();
                attribute(this.input, 'min', low);
                attribute(this.input, 'max', high);
            }
            if (this.input.value !== wanted) this.input.value = wanted;
            this.tell();
        }
    }

    /** A code without a word. */
    other(code) {
        if ([...this.input.options].some((option) => option.value === String(Number(code)))) return;
        this.input.append(h('option', { value: Number(code) }, String(code)));
    }

    tell() {
        if (!this.told) return;
        const words = plain(Number(this.input.value), this.rule);
        text(this.told, words);
        attribute(this.input, 'aria-valuetext', words);
    }

    commit() {
        const wanted = this.read();
        if (wanted instanceof Error) this.say('refused', wanted.message);
        else this.write(wanted);
    }

    /** What is entered, as a value. */
    read() {
        const entered = this.input.value.trim();
        if (this.made === 'list') return entered === '' ? new Error('nothing is chosen') : Number(entered);
        if (this.made === 'slider') return Number(entered);
        if (this.made === 'number') {
            const number = Number(entered.replace(',', '.').replace('−', '-'));
            return entered === '' || !Number.isFinite(number) ? new Error(`“${entered}” is not a number`) : number;
        }
        if (typeof this.item.value === 'object' && this.item.value !== null) {
            try {
                return JSON.parse(entered);
            } catch {
                return new Error('this is not valid JSON');
            }
        }
        return this.input.value;
    }

    async write(wanted) {
        if (this.pending) return;
        const { app, item } = this;
        const told = plain(wanted, this.rule);
        if (this.rule.confirm) {
            const device = name(item.device, app.schema);
            const isButton = this.made === 'button';
            const before = isButton ? '' : ` It is ${plain(item.value, this.rule)} now.`;
            const sure = await app.ask(isButton ? `${this.label}?` : `${this.label}: ${told}?`, `${device}.${before} This changes what the installation does.`);
            if (!sure) return this.forget();
        }
        this.pending = true;
        attribute(this.element, 'data-pending', true);
        this.say('', 'sending…');
        const result = await app.session.write(item, wanted);
        if (result.unknown) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
        this.pending = false;
        attribute(this.element, 'data-pending', null);
        if (result.ok) {
            const same = result.value === undefined || Number(result.value) === Number(wanted) || result.value === wanted;
            this.say('taken', same ? 'taken' : `taken as ${plain(result.value, this.rule)}`);
        } else if (result.error) {
            this.say('refused', `refused: ${result.message || result.error}`);
            app.raw.rejected(item, told, result);
        } else {
            this.say('', `sent; it is ${plain(item.value, this.rule)} now`);
        }
        this.forget();
    }

    say(kind, words) {
        text(this.answer, words);
        attribute(this.answer, 'data-kind', kind);
        clearTimeout(this.clearing);
        if (kind === 'taken') this.clearing = setTimeout(() => text(this.answer, ''), 6_000);
    }
}
