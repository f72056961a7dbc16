// The lines of the picture: from each card to the hub and on, with dots that run as power does. Their
// speed has five steps, so that a small change does not make them jump.

import { attribute, h } from './dom.js';

/** Below this, in watts, nothing runs. */
const IDLE_W = 5;
/** How round a corner is, in pixels. */
const ROUND = 14;
/** How far lines are apart, in pixels. */
const APART = 14;

export class Flow {
    constructor() {
        this.element = h('svg', { class: 'flow', 'aria-hidden': 'true' });
        this.lines = new Map();
        this.observer = new ResizeObserver(() => this.lay());
    }

    attach(picture, cards) {
        this.picture = picture;
        this.cards = cards;
        this.lines.clear();
        this.element.replaceChildren();
        for (const id of cards.keys()) {
            if (id === 'hub') continue;
            const nodes = { rail: h('path', { class: 'rail' }), dots: h('path', { class: `dots ${id}` }) };
            this.lines.set(id, nodes);
            this.element.append(nodes.rail, nodes.dots);
        }
        this.observer.disconnect();
        this.observer.observe(picture);
        for (const { element } of cards.values()) this.observer.observe(element);
    }

    stop() {
        this.observer.disconnect();
    }

    /** Measures the cards, and draws the lines between them. */
    lay() {
        const { width, height } = this.picture.getBoundingClientRect();
        if (!width) return;
        attribute(this.element, 'viewBox', `0 0 ${Math.round(width)} ${Math.round(height)}`);
        const box = (id) => {
            const { element } = this.cards.get(id);
            return { left: element.offsetLeft, top: element.offsetTop, right: element.offsetLeft + element.offsetWidth, bottom: element.offsetTop + element.offsetHeight };
        };
        const hub = this.cards.has('hub') ? box('hub') : this.cards.has('battery') ? box('battery') : null;
        // Lines side by side, not on top of each other: where each meets the hub, and where it turns.
        const sides = { left: [], right: [], own: [] };
        for (const id of this.lines.keys()) {
            const card = box(id);
            const side = !hub || (card.left < hub.right && card.right > hub.left) ? 'own' : card.right <= hub.left ? 'left' : 'right';
            sides[side].push([id, card]);
        }
        const places = new Map();
        for (const cards of Object.values(sides)) {
            const centre = (cards.length - 1) / 2;
            cards.sort((a, b) => a[1].top - b[1].top);
            cards.forEach(([id, card], index) => places.set(id, { card, meets: index - centre }));
            // Those from further away turn nearer to the hub, so that no line crosses another.
            const away = (card) => Math.abs(card.top + card.bottom - (hub ? hub.top + hub.bottom : 0));
            cards.sort((a, b) => away(a[1]) - away(b[1]));
            cards.forEach(([id], index) => (places.get(id).turns = index - centre));
        }
        const apart = hub ? Math.min(APART, (hub.bottom - hub.top - 24) / this.lines.size) : 0;
        for (const [id, { rail, dots }] of this.lines) {
            const { card, meets, turns } = places.get(id);
            const d = hub ? path(card, hub, meets * apart, turns) : '';
            attribute(rail, 'd', d);
            attribute(dots, 'd', d);
        }
    }

    update(parts) {
        for (const part of parts) {
            const nodes = this.lines.get(part.id);
            if (!nodes) continue;
            const watts = part.power ?? 0;
            const runs = Math.abs(watts) >= IDLE_W;
            // All lines are drawn towards the hub: sources run along them, sinks and a charging battery against.
            const isSink = ['loads', 'dc', 'vehicle', 'battery'].includes(part.id);
            const towards = isSink ? watts < 0 : watts > 0;
            const speed = Math.min(5, Math.max(1, Math.round(Math.log10(Math.abs(watts) + 1) * 2) - 2));
            attribute(nodes.dots, 'data-runs', runs ? (towards ? 'in' : 'out') : null);
            attribute(nodes.dots, 'data-speed', speed);
            attribute(nodes.rail, 'data-lost', part.lost);
        }
    }
}

/** From the edge of a card to the edge of the hub, with one step in the gap between. */
function path(card, hub, aside, turns) {
    const middle = (a, b) => Math.round((a + b) / 2);
    const y = middle(card.top, card.bottom), x = middle(card.left, card.right);
    const hubY = middle(hub.top, hub.bottom) + aside;
    if (card.left < hub.right && card.right > hub.left) {
        const [from, to] = card.top > hub.bottom ? [card.top, hub.bottom] : [card.bottom, hub.top];
        return `M${x} ${from}V${to}`;
    }
    const [from, to] = card.right <= hub.left ? [card.right, hub.left] : [card.left, hub.right];
    if (Math.abs(y - hubY) < 3) return `M${from} ${hubY}H${to}`;
    const turn = middle(from, to) + Math.sign(to - from) * turns * Math.min(APART, Math.abs(to - from) / 5);
    const across = Math.sign(to - from), down = Math.sign(hubY - y);
    const round = Math.min(ROUND, Math.abs(hubY - y) / 2, Math.abs(to - from) / 2);
    return `M${from} ${y}H${turn - across * round}Q${turn} ${y} ${turn} ${y + down * round}V${hubY - down * round}Q${turn} ${hubY} ${turn + across * round} ${hubY}H${to}`;
}
