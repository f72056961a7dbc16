// Today's energy. A solar charger counts its day itself; meters never start again, so that the page keeps what
// it saw first on each day, and says since when it counts.

import { keep, recall, forget } from './history.js';
import { time } from './format.js';

/** Counters: which service, which path, what to call it. */
const COUNTERS = [
    ['pv', 'pvinverter', '/Ac/Energy/Forward'],
    ['import', 'grid', '/Ac/Energy/Forward'],
    ['export', 'grid', '/Ac/Energy/Reverse'],
    ['generator', 'genset', '/Ac/Energy/Forward'],
    ['charged', 'battery', '/History/ChargedEnergy'],
    ['discharged', 'battery', '/History/DischargedEnergy'],
    ['vehicle', 'evcharger', '/Ac/Energy/Forward'],
];
const WORDS = {
    solar: ['Solar', 'sun'], import: ['From grid', 'grid'], export: ['To grid', 'grid'], generator: ['Generator', 'engine'],
    charged: ['To battery', 'battery'], discharged: ['From battery', 'battery'], vehicle: ['Vehicle', 'car'],
};
/** The first minutes of a day count as its beginning, in milliseconds. */
const EARLY_MS = 5 * 60_000;

export class Energy {
    constructor(store, session) {
        Object.assign(this, { store, session, day: '' });
    }

    /** Rows of what is known: `{id, words, icon, kwh, since}`. */
    today() {
        this.turn();
        const sums = new Map();
        const add = (id, kwh, from) => {
            const before = sums.get(id) ?? { kwh: 0, from: 0 };
            sums.set(id, { kwh: before.kwh + kwh, from: Math.max(before.from, from) });
        };
        for (const device of this.store.of('solarcharger')) {
            const kwh = device.number('/History/Daily/0/Yield');
            if (kwh !== null) add('solar', kwh, 0);
        }
        let differs = false;
        for (const [id, type, path] of COUNTERS) {
            for (const device of this.store.of(type)) {
                const now = device.number(path);
                if (now === null) continue;
                const key = `${device.key}${path}`;
                let first = this.first[key];
                // A meter that begins anew.
                if (!first || first[0] > now) {
                    first = this.first[key] = [now, Date.now()];
                    differs = true;
                }
                add(id === 'pv' ? 'solar' : id, now - first[0], first[1]);
            }
        }
        if (differs) keep(this.key, this.first);
        const midnight = new Date().setHours(0, 0, 0, 0);
        return Object.keys(WORDS).filter((id) => sums.has(id)).map((id) => {
            const { kwh, from } = sums.get(id);
            const since = from > midnight + EARLY_MS ? `since ${time(from).slice(0, 5)}` : '';
            return { id, words: WORDS[id][0], icon: WORDS[id][1], kwh, since };
        });
    }

    /** Takes up what was kept of this day, and forgets the one before. */
    turn() {
        const date = new Date();
        const day = `${this.session.portal}/${date.getFullYear()}-${date.getMonth() + 1}-${date.getDate()}`;
        if (day === this.day) return;
        const kept = recall('today', '');
        if (typeof kept === 'string' && kept && kept !== day && kept.split('/')[0] === this.session.portal) forget(`counters/${kept}`);
        keep('today', day);
        this.day = day;
        this.key = `counters/${day}`;
        this.first = recall(this.key, {}) ?? {};
    }
}
