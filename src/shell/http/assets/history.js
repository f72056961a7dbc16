// The last minutes of a number, in bounded memory; and the last day of the few that are pinned, kept in the
// browser.

/** Points per number: when there are more, every second one of the older half goes. */
const POINTS_MAX = 600;
/** Points first, so that a number that hardly changes costs little. */
const POINTS_FIRST = 8;
/** Changes closer than this, in milliseconds, are one point. */
const STEP_MS = 500;
/** A day of minutes. */
const DAY_POINTS_MAX = 1_440;
const MINUTE_MS = 60_000;

/** A number over time; it holds its value until the next point. */
export class History {
    constructor() {
        this.times = new Float64Array(POINTS_FIRST);
        this.values = new Float64Array(POINTS_FIRST);
        this.length = 0;
    }

    add(time, value) {
        const last = this.length - 1;
        if (last >= 0 && this.values[last] === value) return;
        if (last >= 1 && time - this.times[last] < STEP_MS && time - this.times[last - 1] < 2 * STEP_MS) {
            this.values[last] = value;
            return;
        }
        if (this.length === POINTS_MAX) this.thin();
        if (this.length === this.times.length) this.grow();
        this.times[this.length] = time;
        this.values[this.length++] = value;
    }

    grow() {
        const size = Math.min(POINTS_MAX, this.times.length * 4);
        for (const key of ['times', 'values']) {
            const more = new Float64Array(size);
            more.set(this[key]);
            this[key] = more;
        }
    }

    thin() {
        const half = POINTS_MAX / 2;
        let kept = 0;
        for (let index = 0; index < POINTS_MAX; index++) {
            if (index < half && index % 2) continue;
            this.times[kept] = this.times[index];
            this.values[kept++] = this.values[index];
        }
        this.length = kept;
    }

    /** Points since `from`, with the one before it. */
    since(from) {
        let index = this.length;
        while (index > 0 && this.times[index - 1] > from) index--;
        const points = [];
        for (index = Math.max(0, index - 1); index < this.length; index++) points.push([this.times[index], this.values[index]]);
        return points;
    }
}

/** A value of `localStorage`; a browser may refuse, and then nothing is kept. */
export function recall(key, otherwise) {
    try {
        const text = localStorage.getItem(`dbus-mqtt/${key}`);
        return text === null ? otherwise : JSON.parse(text);
    } catch {
        return otherwise;
    }
}

export function keep(key, value) {
    try {
        localStorage.setItem(`dbus-mqtt/${key}`, JSON.stringify(value));
    } catch {
        // Full, or forbidden.
    }
}

export function forget(key) {
    try {
        localStorage.removeItem(`dbus-mqtt/${key}`);
    } catch {
        // Forbidden.
    }
}

/** The last day of a pinned number: a point per minute, `[minute, value]`. */
export class Day {
    constructor(key) {
        this.key = `day/${key}`;
        const kept = recall(this.key, []);
        const oldest = Date.now() / MINUTE_MS - DAY_POINTS_MAX;
        const isPoint = (point) => Array.isArray(point) && point.length === 2 && point.every(Number.isFinite);
        this.points = Array.isArray(kept) ? kept.filter((point) => isPoint(point) && point[0] >= oldest) : [];
    }

    add(value) {
        const minute = Math.floor(Date.now() / MINUTE_MS);
        if (this.points.at(-1)?.[0] === minute) return;
        this.points.push([minute, Number(value.toPrecision(6))]);
        if (this.points.length > DAY_POINTS_MAX) this.points.splice(0, this.points.length - DAY_POINTS_MAX);
        keep(this.key, this.points);
    }

    since(from) {
        return this.points.map(([minute, value]) => [minute * MINUTE_MS, value]).filter(([time]) => time >= from);
    }

    forget() {
        forget(this.key);
    }
}
