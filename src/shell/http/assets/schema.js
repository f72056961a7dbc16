// What is known of a value by its topic: its unit, its words, whether it can be written. From
// /schema.json, which the bridge makes of its tables and the operator's overlays.

const NOTHING = Object.freeze({ rule: {}, description: '', name: '' });

export class Schema {
    constructor({ types = {}, rules = [], descriptions = [], names = [] } = {}) {
        this.types = types;
        this.rules = rules.map((rule) => ({ ...rule, words: rule.labels && new Map(rule.labels) }));
        this.descriptions = descriptions;
        this.names = names;
        this.patterns = new Map();
        this.known = new Map();
    }

    /** What is known of a path of a service type. */
    of(type, path) {
        const key = `${type}${path}`;
        let found = this.known.get(key);
        if (!found) {
            found = this.find(type, path) ?? this.find('_default', path) ?? NOTHING;
            this.known.set(key, found);
        }
        return found;
    }

    describe(type) {
        return this.types[type]?.description ?? '';
    }

    find(type, path) {
        const items = Object.hasOwn(this.types, type) ? this.types[type].items : undefined;
        if (!items) return undefined;
        if (Object.hasOwn(items, path)) return this.entry(items[path]);
        let patterns = this.patterns.get(type);
        if (!patterns) {
            // A number before a text, as the bridge does; and the longer before the shorter.
            const open = Object.keys(items).filter((row) => row.includes('{'));
            const rank = (row) => row.replace(/\{n\}/g, '\u0001').replace(/\{\w+\}/g, '\u0002\uffff');
            open.sort((a, b) => (rank(a) < rank(b) ? -1 : 1));
            patterns = open.map((row) => [expression(row), items[row]]);
            this.patterns.set(type, patterns);
        }
        for (const [expression, entry] of patterns) {
            const match = expression.exec(path);
            if (match) return this.entry(entry, match.slice(1));
        }
        return undefined;
    }

    /** `places` is what stands in the open places of the path. */
    entry([rule, description, name], places = []) {
        // `{1}` is the first of them, `{1+1}` one more than the number there.
        const fill = (_, place, more) => (more ? String(Number(places[place - 1]) + Number(more)) : places[place - 1] ?? '');
        return {
            rule: this.rules[rule] ?? {},
            description: this.descriptions[description] ?? '',
            name: (this.names[name] ?? '').replace(/\{(\d+)(?:\+(\d+))?\}/g, fill),
        };
    }
}

function expression(row) {
    const parts = row.split(/(\{\w+\})/);
    const own = parts.map((part) => {
        if (part === '{n}') return '(\\d+)';
        if (/^\{\w+\}$/.test(part)) return '([^/]+)';
        return part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    });
    return new RegExp(`^${own.join('')}$`);
}
