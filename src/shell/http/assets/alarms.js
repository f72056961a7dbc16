// What is wrong: every item whose word, by the schema, is a warning or an alarm, and every error code.

import { name } from './names.js';
import { value, words } from './format.js';
import { shown } from './dom.js';

const QUIET = /^(no|none|ok)\b|no alarm|no error|no warning|not |inactive/i;

/** Looks at all items once, and then at what changes. */
export class Alarms {
    constructor(store, schema) {
        Object.assign(this, { store, schema, active: new Map() });
    }

    take(changed) {
        let differs = false;
        for (const item of changed) {
            const level = this.level(item);
            const before = this.active.get(item);
            if (level ? before !== `${level}${item.value}` : before !== undefined) {
                if (level) this.active.set(item, `${level}${item.value}`);
                else this.active.delete(item);
                differs = true;
            }
        }
        return differs;
    }

    clear() {
        this.active.clear();
    }

    /** `alarm`, `warning`, or nothing. */
    level(item) {
        const told = item.value;
        if (typeof told !== 'number' && typeof told !== 'boolean') return null;
        if (!Number(told)) return null;
        if (!/\/Alarms?(\/|$)|Error(Code)?$|\/Alarm$/.test(item.path) || item.type === 'settings' || item.path.startsWith('/Settings/')) return null;
        // Which alarms there are to be is a setting.
        if (/\/(Enable|Delay|Active|Restore|AlarmSetting)$/.test(item.path) || /\/(History|Diagnostics|LastErrors?)\//.test(item.path)) return null;
        const { rule } = this.schema.of(item.type, item.path);
        const word = rule.words?.get(Number(told));
        if (word !== undefined) {
            if (QUIET.test(word)) return null;
            return /warning/i.test(word) ? 'warning' : 'alarm';
        }
        if (rule.bits || rule.unit) return null;
        return told === 1 ? 'warning' : 'alarm';
    }

    /** All of them, the worst first: `{level, title, device, item}`. */
    list() {
        const all = [...this.active.keys()].map((item) => {
            const level = this.level(item) ?? 'warning';
            const { rule } = this.schema.of(item.type, item.path);
            const path = item.path.replace(/^\/Alarms/, '').replace(/\/(State|Alarm)$/, '');
            let title = words(path || item.path);
            const told = value(item.value, rule).text;
            if (!/^(alarm|warning)$/i.test(told)) title = `${title}: ${told}`;
            return { level, title: shown(title), device: name(item.device, this.schema), item };
        });
        for (const platform of this.store.of('platform')) all.push(...notifications(platform));
        return all.sort((a, b) => (a.level > b.level ? 1 : a.level < b.level ? -1 : a.title < b.title ? -1 : 1));
    }
}

/** What the GX device itself tells, newer ones of Venus OS. */
function notifications(platform) {
    const found = [];
    for (const item of platform.items.values()) {
        const match = /^\/Notifications\/(\d+)\/Active$/.exec(item.path);
        if (!match || !item.value) continue;
        const at = (end) => platform.value(`/Notifications/${match[1]}/${end}`);
        const title = at('Description') || at('AlarmValue');
        if (typeof title === 'string' && title) {
            found.push({ level: at('Type') === 1 ? 'alarm' : 'warning', title: shown(title), device: shown(at('DeviceName') ?? ''), item });
        }
    }
    return found;
}
