// How values look: units, words, and as many digits as do not jump.

import { shown } from './dom.js';

const DIGITS = { W: 0, VA: 0, 'var': 0, V: 2, A: 1, Ah: 1, kWh: 2, '%': 1, '°C': 1, Hz: 2, s: 0, h: 1, min: 0, hPa: 0, 'm³': 3, L: 0, 'm/s': 1, rpm: 0, m: 1, '°': 4 };
/** Units that people read in another one: how many of it are one of these. */
const SHOWN = { __proto__: null, 's h': 1 / 3_600, 's min': 1 / 60, 'kPa hPa': 10, 'm³ L': 1_000 };
/** So many seconds are told in minutes, hours and days. */
const LONG_S = 120;
const formats = new Map();

/** A number with so many digits after the point, and a real minus. */
export function number(value, digits) {
    if (typeof value === 'bigint') return value.toString();
    let format = formats.get(digits);
    if (!format) {
        format = new Intl.NumberFormat('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
        formats.set(digits, format);
    }
    const told = format.format(value).replace('-', '−');
    // No minus before a zero.
    return /^−[0.,]*$/.test(told) ? told.slice(1) : told;
}

/** Digits of a number without a unit. */
function digits(value) {
    if (Number.isInteger(value)) return 0;
    const size = Math.abs(value);
    return size >= 1000 ? 1 : size >= 10 ? 2 : 3;
}

/** Watts as people say them: `[number, unit]`. */
export function power(watts) {
    if (watts === null || watts === undefined) return ['–', ''];
    return Math.abs(watts) >= 9_999.5 ? [number(watts / 1000, 1), 'kW'] : [number(watts, 0), 'W'];
}

/** Seconds as hours and minutes. */
export function duration(seconds) {
    const minutes = Math.round(seconds / 60);
    const days = Math.floor(minutes / 1440), hours = Math.floor((minutes % 1440) / 60);
    if (days) return `${days} d ${hours} h`;
    return hours ? `${hours} h ${String(minutes % 60).padStart(2, '0')} min` : `${minutes} min`;
}

/** What a value says, by its rule: `{text, unit}`. */
export function value(value, rule = {}) {
    if (value === null || value === undefined) return { text: '–', unit: '' };
    if (typeof value === 'number' || typeof value === 'bigint') {
        const word = rule.words?.get(Number(value));
        if (word !== undefined) return { text: word, unit: '' };
        if (rule.bits && Number.isInteger(value)) return { text: bits(value, rule.bits), unit: '' };
        if (rule.unit === 'unix s' && value > 1e8) return { text: clock(value), unit: '' };
        const factor = typeof value === 'number' && SHOWN[`${rule.unit} ${rule.shown}`];
        if (factor) return measured(value * factor, rule.shown);
        if (rule.unit === 's' && Math.abs(value) >= LONG_S) return { text: duration(Number(value)), unit: '' };
        return measured(value, rule.unit ?? '');
    }
    if (typeof value === 'boolean') return { text: rule.words?.get(Number(value)) ?? (value ? 'yes' : 'no'), unit: '' };
    if (typeof value === 'string') return { text: value === '' ? '(empty)' : shown(value), unit: '' };
    return { text: shown(JSON.stringify(value)), unit: '' };
}

function measured(value, unit) {
    const known = DIGITS[unit];
    const places = known === undefined || (known === 0 && Math.abs(value) < 10 && !Number.isInteger(value)) ? digits(value) : known;
    // Without a unit it may be a serial number.
    if (!unit && places === 0) return { text: String(value).replace('-', '−'), unit };
    return { text: number(value, places), unit };
}

function bits(value, words) {
    const set = words.filter(([bit]) => Math.floor(value / 2 ** bit) % 2 === 1);
    return set.length ? set.map(([, word]) => word).join(', ') : 'none';
}

function clock(seconds) {
    const date = new Date(seconds * 1000);
    return Number.isNaN(date.getTime()) ? String(seconds) : date.toISOString().replace('T', ' ').slice(0, 16);
}

/** The same as one text. */
export function plain(item, rule) {
    const { text, unit } = value(item, rule);
    // No line ends between a number and its unit.
    return unit ? `${text}\u00a0${unit}` : text;
}

/** The time of day. */
export function time(at) {
    const date = new Date(at);
    return [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, '0')).join(':');
}

/** A path as words: `/Alarms/LowVoltage` is `Alarms, low voltage`. */
export function words(path) {
    const parts = path.split('/').filter(Boolean).map((part) => part
        .replace(/_/g, ' ')
        .replace(/([a-z\d])([A-Z])/g, '$1 $2')
        .replace(/([A-Z]{2,})([A-Z][a-z])/g, '$1 $2')
        .split(' ')
        .map((word, index) => (ACRONYMS.test(word) ? word.toUpperCase() : index && /^[A-Z][a-z]+$/.test(word) ? word.toLowerCase() : word))
        .join(' '));
    return parts.join(' · ');
}

const ACRONYMS = /^(ac|dc|pv|soc|bms|gps|gui|vrm|mqtt|ess|usb|ip|id)$/i;

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
