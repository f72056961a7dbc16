// Elements, made without HTML: a text from the bus can only become a text node or an attribute.

const SVG = 'http://www.w3.org/2000/svg';
const SVG_TAGS = new Set(['svg', 'path', 'circle', 'g', 'line', 'polyline', 'text', 'rect', 'title']);

/** An element: `h('button', {class: 'plain', onclick}, 'Text', other)`. */
export function h(tag, attributes = {}, ...children) {
    const element = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (value === undefined || value === null || value === false) continue;
        if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
        else element.setAttribute(name, value === true ? '' : value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
    return element;
}

/** Sets a text where it differs: nothing else of the page is laid out anew for it. */
export function text(node, value) {
    if (node.firstChild?.nodeType === 3 && !node.firstChild.nextSibling) {
        if (node.firstChild.data !== value) node.firstChild.data = value;
    } else {
        node.replaceChildren(value);
    }
}

/** Sets or removes an attribute where it differs. */
export function attribute(node, name, value) {
    if (value === null || value === undefined || value === false) {
        if (node.hasAttribute(name)) node.removeAttribute(name);
    } else if (node.getAttribute(name) !== String(value)) {
        node.setAttribute(name, value);
    }
}

/** Control characters and marks that turn the direction of a text, made visible. */
export function shown(text, max = 300) {
    const whole = String(text);
    const plain = whole.slice(0, max).replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g,
        (mark) => ({ '\n': '\\n', '\t': '\\t', '\r': '\\r' })[mark] ?? `\\u${mark.charCodeAt(0).toString(16).padStart(4, '0')}`);
    return whole.length > max ? `${plain}… (${whole.length.toLocaleString('en')} characters)` : plain;
}

/** A picture of 24 by 24, of one colour. */
export function icon(name) {
    return h('svg', { class: 'icon', viewBox: '0 0 24 24', 'aria-hidden': 'true' }, h('path', { d: ICONS[name] ?? ICONS.dot }));
}

const ICONS = {
    __proto__: null,
    dot: 'M12 8a4 4 0 1 0 0 8a4 4 0 1 0 0-8',
    sun: 'M12 7a5 5 0 1 0 0 10a5 5 0 1 0 0-10M12 1v3M12 20v3M1 12h3M20 12h3M4.2 4.2l2.1 2.1M17.7 17.7l2.1 2.1M4.2 19.8l2.1-2.1M17.7 6.3l2.1-2.1',
    grid: 'M9 2h6l4 20M15 2H9L5 22M7.6 9h8.8M6.4 15h11.2M3 9h18M8 15l8-6M16 15L8 9',
    shore: 'M9 2v6M15 2v6M6 8h12v4a6 6 0 0 1-12 0zM12 18v4',
    engine: 'M4 10h3l2-3h6l2 3h3v7h-3l-2 2H9l-2-2H4zM12 7V4M9 4h6M1 11v5',
    alternator: 'M12 4a8 8 0 1 0 0 16a8 8 0 1 0 0-16M8 13c1.500-4 2.500-4 4-1s2.500 3 4-1',
    wind: 'M12 11a1.500 1.500 0 1 0 0 3a1.500 1.500 0 1 0 0-3M12 11V2c3 2 3 6 0 9M13.300 13.300l7.700 4.500c-3.200 1.600-6.700-.4-7.700-4.500M10.700 13.300L3 17.800c3.200 1.600 6.700-.4 7.700-4.500M12 14v8',
    battery: 'M3 7h16v10H3zM19 10h2v4h-2M7 10v4M11 10v4',
    home: 'M3 11l9-8 9 8M5 9.500V21h14V9.500M10 21v-6h4v6',
    dc: 'M4 8h16M4 13h3M10.500 13h3M17 13h3M12 17v4',
    car: 'M5 11l2-5h10l2 5M3 11h18v6H3zM6 17v2M18 17v2M6.500 14h1.500M16 14h1.500',
    inverter: 'M4 4h16v16H4zM7 15c1.500-6 3-6 5-3s3.500 3 5-3',
    tank: 'M5 5c0-3 14-3 14 0v14c0 3-14 3-14 0zM5 12c3 2 5-2 7 0s5 2 7 0',
    temperature: 'M10 13V4a2 2 0 0 1 4 0v9a5 5 0 1 1-4 0M12 9v7',
    alarm: 'M12 3L1.500 21h21zM12 10v5M12 17.500v.500',
    device: 'M4 5h16v14H4zM8 9h8M8 13h5',
    settings: 'M4 7h10M18 7h2M16 5v4M4 17h2M10 17h10M8 15v4',
    pin: 'M12 2l3 6.500 7 .8-5.200 4.700 1.500 7L12 17.500 5.700 21l1.500-7L2 9.300l7-.8z',
    chart: 'M3 3v18h18M6 15l4-5 4 3 6-8',
    copy: 'M8 8h12v12H8zM16 8V4H4v12h4',
    relay: 'M2 17h6l8-8M16 17h6M8 17v.010M16 17v.010',
    gps: 'M12 22c-4-6-7-9-7-13a7 7 0 0 1 14 0c0 4-3 7-7 13M12 6.500a2.500 2.500 0 1 0 0 5a2.500 2.500 0 1 0 0-5',
};
