// The installation as a whole, from its values: what there is, and where power goes. `system/0/…` has the
// sums where the GX device's own service is there; where it is not, they are made of the devices.
//
// All numbers are watts; null where nothing is known of it. Powers of sources are positive when they
// deliver, of the battery when it is charged, of loads when they take.

import { linkTo } from './names.js';

const PHASES = [1, 2, 3];

/** The sum of those numbers that are there; null where none is. */
function sum(numbers) {
    const known = numbers.filter((number) => number !== null && number !== undefined);
    return known.length ? known.reduce((all, number) => all + number, 0) : null;
}

const phases = (device, before, after = '/Power') => {
    const found = device ? PHASES.map((phase) => device.number(`${before}/L${phase}${after}`)) : [];
    while (found.length && found.at(-1) === null) found.pop();
    return found;
};

const dcPower = (device) => device.number('/Dc/0/Power') ?? product(device.number('/Dc/0/Voltage'), device.number('/Dc/0/Current'));
const product = (a, b) => (a === null || b === null ? null : a * b);

/** A part of the picture. `null` where the installation has none. */
const part = (id, fields) => ({ id, note: '', phases: [], link: '#/devices', ...fields });
const link = (device) => (device ? linkTo(device) : '#/devices');

export function look(store, schema) {
    // The bridge itself says the serial number, also where there is no such service.
    const system = store.of('system').find((device) => device.items.size > 3);
    const read = (path) => system?.number(path) ?? null;
    const word = (device, path) => {
        const told = device?.value(path);
        return told === null || told === undefined ? '' : schema.of(device.type, path).rule.words?.get(Number(told)) ?? '';
    };
    const inverter = store.of('vebus')[0] ?? store.of('acsystem')[0] ?? store.of('multi')[0] ?? store.of('inverter')[0];
    const parts = { sources: [], sinks: [], battery: null, hub: null };

    const chargers = store.of('solarcharger');
    const pvInverters = store.of('pvinverter');
    const pvAc = ['PvOnGrid', 'PvOnOutput', 'PvOnGenset'].map((where) => sum(phases(system, `/Ac/${where}`)));
    const multis = [...store.of('multi'), ...store.of('inverter'), ...store.of('acsystem')].map((device) => device.number('/Yield/Power'));
    const solar = sum([
        read('/Dc/Pv/Power') ?? sum(chargers.map((device) => device.number('/Yield/Power') ?? dcPower(device))),
        sum(pvAc) ?? sum(pvInverters.map((device) => device.number('/Ac/Power'))),
        system ? null : sum(multis),
    ]);
    if (solar !== null || chargers.length || pvInverters.length) {
        const one = chargers[0] ?? pvInverters[0];
        const count = chargers.length + pvInverters.length;
        const state = chargers.length === 1 ? word(chargers[0], '/State') : '';
        parts.sources.push(part('solar', { title: 'Solar', icon: 'sun', power: solar, link: count === 1 ? link(one) : '#/devices', note: state || (count > 1 ? `${count} devices` : '') }));
    }

    // The AC input: a meter, else what the inverter/charger measures.
    const active = read('/Ac/ActiveIn/Source') ?? inverter?.number('/Ac/ActiveIn/ActiveInput');
    const meter = store.of('grid')[0];
    // What is connected to each AC input: 1 the grid, 2 a generator, 3 shore.
    const kinds = inputKinds(store);
    const shore = active === 3 || (kinds.includes(3) && !kinds.includes(1));
    let grid = phases(system, '/Ac/Grid');
    if (!grid.length) grid = meter ? phases(meter, '/Ac') : [];
    let gridPower = sum(grid) ?? meter?.number('/Ac/Power') ?? null;
    const gensets = store.of('genset');
    let generator = phases(system, '/Ac/Genset');
    if (!generator.length && gensets.length) generator = phases(gensets[0], '/Ac');
    let generatorPower = sum(generator) ?? sum(gensets.map((device) => device.number('/Ac/Power')));
    const input = inverter ? phases(inverter, '/Ac/ActiveIn', '/P') : [];
    const isConnected = inverter ? inverter.number('/Ac/ActiveIn/Connected') !== 0 : false;
    let hasGrid = gridPower !== null || meter !== undefined;
    const isKnown = kinds.some((kind) => kind > 0);
    const measuresInput = inverter && (input.length > 0 || inverter.number('/Ac/ActiveIn/P') !== null);
    if (!system && measuresInput && !hasGrid && (isKnown ? kinds.includes(1) || kinds.includes(3) : !gensets.length || isConnected)) {
        const kind = kinds[inverter.number('/Ac/ActiveIn/ActiveInput')];
        const isUsed = isConnected && kind !== 2;
        grid = input.map((watts) => (isUsed ? watts : 0));
        gridPower = isUsed ? sum(input) ?? inverter.number('/Ac/ActiveIn/P') : 0;
        hasGrid = true;
    }
    const lost = inverter?.number('/Alarms/GridLost') > 0 || (hasGrid && gridPower === null && active === 240);
    if (hasGrid || [1, 3].includes(read('/Ac/In/0/Source'))) {
        const name = shore ? 'Shore' : meter || !(!system && inverter) ? 'Grid' : 'AC input';
        const note = lost ? 'lost' : gridPower === null || (!system && !isConnected && inverter && !meter) ? 'not connected' : Math.abs(gridPower) < 5 ? '' : gridPower < 0 ? 'feeding in' : '';
        parts.sources.push(part('grid', { title: name, icon: shore ? 'shore' : 'grid', power: gridPower, phases: grid, note, lost, link: link(meter ?? inverter) }));
    }
    const control = store.of('generator')[0];
    if (generatorPower !== null || gensets.length || control) {
        const device = gensets[0] ?? control;
        const state = word(gensets[0], '/StatusCode') || word(control, '/State');
        parts.sources.push(part('generator', { title: 'Generator', icon: 'engine', power: generatorPower, phases: generator, note: state, link: link(device) }));
    }

    const alternators = [...store.of('alternator'), ...store.of('dcgenset')];
    const alternator = read('/Dc/Alternator/Power') ?? sum(alternators.map(dcPower));
    if (alternators.length || alternator) parts.sources.push(part('alternator', { title: 'Alternator', icon: 'alternator', power: alternator, note: word(alternators[0], '/State'), link: link(alternators[0]) }));
    const others = [...store.of('dcsource'), ...store.of('fuelcell')];
    if (others.length) {
        const wind = others.every((device) => [-2, -3].includes(device.number('/Settings/MonitorMode')) || /wind/i.test(device.value('/CustomName') ?? ''));
        parts.sources.push(part('wind', { title: wind ? 'Wind' : 'DC source', icon: wind ? 'wind' : 'dc', power: sum(others.map(dcPower)), link: link(others[0]) }));
    }

    const batteries = store.of('battery');
    const main = mainBattery(batteries, system);
    const soc = read('/Dc/Battery/Soc') ?? main?.number('/Soc') ?? inverter?.number('/Soc') ?? null;
    const volts = read('/Dc/Battery/Voltage') ?? main?.number('/Dc/0/Voltage') ?? inverter?.number('/Dc/0/Voltage') ?? chargers[0]?.number('/Dc/0/Voltage') ?? null;
    const amps = read('/Dc/Battery/Current') ?? main?.number('/Dc/0/Current') ?? null;
    let battery = read('/Dc/Battery/Power') ?? (main ? dcPower(main) : null);
    if (battery === null && !main && inverter) battery = product(inverter.number('/Dc/0/Voltage'), inverter.number('/Dc/0/Current'));
    if (soc !== null || battery !== null || main || (volts !== null && inverter)) {
        const toGo = read('/Dc/Battery/TimeToGo') ?? main?.number('/TimeToGo') ?? null;
        const temperature = read('/Dc/Battery/Temperature') ?? main?.number('/Dc/0/Temperature') ?? null;
        const state = battery === null ? '' : battery > 15 ? 'charging' : battery < -15 ? 'discharging' : 'idle';
        parts.battery = part('battery', { title: 'Battery', icon: 'battery', power: battery, soc, volts, amps, toGo: battery < 0 ? toGo : null, temperature, note: state, link: link(main), others: batteries.filter((device) => device !== main) });
    }

    let loads = phases(system, '/Ac/Consumption');
    if (!loads.length && inverter) loads = phases(inverter, '/Ac/Out', '/P');
    let load = sum(loads) ?? inverter?.number('/Ac/Out/P') ?? sum(store.of('acload').map((device) => device.number('/Ac/Power')));
    if (!system && meter && inverter && load !== null) {
        // Loads before the inverter/charger: what the meter sees and the inverter/charger does not take.
        const before = (gridPower ?? 0) + (sum(pvInverters.map((device) => device.number('/Ac/Power'))) ?? 0) - (sum(input) ?? 0);
        if (before > 0) [load, loads] = [load + before, []];
    }
    if (load !== null || inverter) parts.sinks.push(part('loads', { title: inverter || read('/Dc/System/Power') === null ? 'AC loads' : 'Loads', icon: 'home', power: load, phases: loads, link: link(system) }));
    const dcDevices = [...store.of('dcsystem'), ...store.of('dcload')];
    const dc = read('/Dc/System/Power') ?? sum(dcDevices.map(dcPower));
    if (dc !== null || dcDevices.length) parts.sinks.push(part('dc', { title: 'DC loads', icon: 'dc', power: dc, link: link(dcDevices[0] ?? system) }));
    const stations = store.of('evcharger');
    const cars = store.of('ev');
    if (stations.length || cars.length) {
        const power = sum(stations.map((device) => device.number('/Ac/Power'))) ?? sum(cars.map((device) => device.number('/Ac/Power')));
        const charge = cars[0]?.number('/Soc') ?? null;
        const note = charge === null ? word(stations[0], '/Status') : `${Math.round(charge)} %`;
        parts.sinks.push(part('vehicle', { title: 'Vehicle', icon: 'car', power, note, link: link(stations[0] ?? cars[0]) }));
    }

    if (!inverter && !system && parts.sources.some((part) => part.id === 'grid')) {
        // A house without an inverter/charger: what comes in is used there.
        const used = sum(parts.sources.map((part) => part.power));
        const known = parts.sinks.find((part) => part.id === 'loads');
        if (!known) parts.sinks.unshift(part('loads', { title: 'AC loads', icon: 'home', power: used === null ? null : Math.max(0, used) }));
        parts.hub = part('hub', { title: 'Distribution', icon: 'inverter', state: '\u00a0', mode: '' });
    }
    if (inverter || system) {
        const state = word(system, '/SystemState/State') || word(inverter, '/State');
        const mode = word(inverter, '/Mode');
        parts.hub = part('hub', { title: inverter ? 'Inverter/\u200bcharger' : 'System', icon: 'inverter', state, mode: mode && mode !== 'on' ? mode : '', link: link(inverter ?? system) });
    }
    return parts;
}

/** Of which kind each AC input is, as it is set up; 0 where nothing is known of it. */
function inputKinds(store) {
    const settings = store.device('settings', '0');
    return [1, 2].map((input) => settings?.number(`/Settings/SystemSetup/AcInput${input}`) ?? 0);
}

/** The battery that the system goes by, else the one with the most to say. */
function mainBattery(batteries, system) {
    const chosen = system?.value('/ActiveBatteryService') ?? '';
    const instance = /^com\.victronenergy\.battery\/(\d+)$/.exec(chosen)?.[1];
    const known = batteries.find((device) => device.instance === instance);
    // One that sums up others goes before them.
    const score = (device) => (device.value('/NrOfBatteries') !== null || /parallel/i.test(device.value('/ProductName') ?? '') ? 4 : 0) + (device.number('/Soc') !== null ? 2 : 0) + (dcPower(device) !== null ? 1 : 0);
    return known ?? [...batteries].sort((a, b) => score(b) - score(a))[0];
}

/** Tanks, in the order of what they hold. */
export function tanks(store, schema) {
    return store.of('tank').filter((device) => device.number('/Level') !== null || device.value('/Status') !== null).map((device) => {
        const fluid = device.number('/FluidType');
        const rule = schema.of('tank', '/FluidType').rule;
        return { device, fluid, word: rule.words?.get(fluid) ?? '', level: device.number('/Level'), remaining: device.number('/Remaining'), capacity: device.number('/Capacity') };
    }).sort((a, b) => (a.fluid ?? 99) - (b.fluid ?? 99));
}

/** Temperatures of rooms, fridges and the like. */
export function temperatures(store) {
    return store.of('temperature').filter((device) => device.value('/Temperature') !== null || device.value('/Status') !== null).map((device) => ({
        device, degrees: device.number('/Temperature'), humidity: device.number('/Humidity'),
    }));
}
