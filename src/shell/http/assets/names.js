// What a device is called, and how it is: from the items that nearly every service has.

import { shown } from './dom.js';
import { capital, plain, value, words } from './format.js';

/** The name that its owner gave it, else the product's, else its type's. */
export function name(device, schema) {
    for (const path of ['/CustomName', '/ProductName', '/Name']) {
        const own = device.value(path);
        if (typeof own === 'string' && own.trim()) return shown(own.trim(), 60);
    }
    return TYPES[device.type] ?? capital(words(`/${device.type}`));
}

const TYPES = {
    __proto__: null,
    vebus: 'Inverter/charger', solarcharger: 'Solar charger', pvinverter: 'PV inverter', system: 'System', settings: 'Settings',
    grid: 'Grid meter', genset: 'Generator set', generator: 'Generator control', evcharger: 'EV charger', gps: 'GPS',
    platform: 'GX device', acload: 'AC load', dcload: 'DC load', dcsystem: 'DC system', dcsource: 'DC source', hub4: 'ESS control',
    digitalinput: 'Digital input', logger: 'VRM logger', vecan: 'VE.Can',
};

const ICON = {
    __proto__: null,
    battery: 'battery', vebus: 'inverter', inverter: 'inverter', multi: 'inverter', acsystem: 'inverter', solarcharger: 'sun', pvinverter: 'sun',
    grid: 'grid', genset: 'engine', generator: 'engine', dcgenset: 'engine', evcharger: 'car', ev: 'car', tank: 'tank', temperature: 'temperature',
    alternator: 'alternator', dcsource: 'wind', settings: 'settings', platform: 'settings', acload: 'home', dcload: 'dc', dcsystem: 'dc',
    switch: 'relay', gps: 'gps',
};

/** Where a device is shown, and one of its items perhaps. */
export const linkTo = (device, path) => `#/devices/${device.key.split('/').map(encodeURIComponent).join('/')}${path ? `?at=${encodeURIComponent(path)}` : ''}`;

export const iconOf = (device) => ICON[device.type] ?? 'device';

/** What one wants to know of a device at a glance, as texts: its state, and up to three measurements. */
export function glance(device, schema) {
    const parts = [];
    if (device.value('/Connected') === 0) parts.push('disconnected');
    for (const path of ['/State', '/Status', '/StatusCode', '/Mode', '/FluidType', '/Fix']) {
        const { rule } = schema.of(device.type, path);
        const told = device.value(path);
        if (told !== null && rule.words?.has(Number(told))) {
            parts.push(value(told, rule).text);
            break;
        }
    }
    for (const path of GLANCE) {
        if (parts.length >= 4) break;
        const number = device.number(path);
        if (number !== null) parts.push(plain(number, schema.of(device.type, path).rule));
    }
    return parts;
}

const GLANCE = [
    '/Soc', '/Level', '/Temperature', '/Yield/Power', '/Ac/Power', '/Ac/Out/P', '/Dc/0/Voltage', '/Dc/0/Power', '/Dc/Battery/Soc', '/Dc/0/Current',
    '/Humidity', '/Speed',
];

/** A title for an item: what people call it, else what the schema says of it, else its path in words. */
export function title(item, schema) {
    const { description, name } = schema.of(item.type, item.path);
    if (name) return name;
    // An output stands in a group with its name.
    return description ? capital(description) : words(item.path.replace(/^\/(SwitchableOutput|GenericInput)\/[^/]+(?=\/)/, ''));
}

/** What the schema says of an item besides its title; nothing where that says as much. */
export function remark(item, schema) {
    const { description, name } = schema.of(item.type, item.path);
    if (!name) return '';
    const said = new Set(name.toLowerCase().split(/\W+/));
    if (/\bL[123]\b/.test(name)) said.add('phase');
    return description.toLowerCase().split(/\W+/).every((word) => said.has(word) || FILLERS.has(word)) ? '' : description;
}

/** Words that say nothing by themselves. */
const FILLERS = new Set(['', 'of', 'the', 'a', 'an', 'it', 'its', 'is', 'are', 'at', 'in', 'on', 'to', 'for', 'that', 'this', 'there', 'how', 'many', 'much', 'what', 'which', 'whether']);
