// A client of MQTT 5 and 3.1.1 in a WebSocket: what the page needs of it, and no more.
//
// Everything goes with QoS 0. What comes from the network is read by length, so that a packet may be
// split over frames anywhere; what is malformed ends the connection with a sentence.

const CONNECT = 1, CONNACK = 2, PUBLISH = 3, PUBACK = 4, PUBREC = 5, PUBREL = 6, PUBCOMP = 7;
const SUBSCRIBE = 8, SUBACK = 9, UNSUBSCRIBE = 10, PINGREQ = 12, PINGRESP = 13, DISCONNECT = 14;

/** The longest packet that is taken, in bytes. */
const PACKET_BYTES_MAX = 16 * 1024 * 1024;
/** How long the broker may take to answer CONNECT and PINGREQ, in milliseconds. */
const PATIENCE_MS = 10_000;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Bytes that grow. */
class Writer {
    constructor() {
        this.bytes = new Uint8Array(256);
        this.length = 0;
    }

    room(count) {
        if (this.length + count <= this.bytes.length) return;
        const more = new Uint8Array(Math.max(this.bytes.length * 2, this.length + count));
        more.set(this.bytes.subarray(0, this.length));
        this.bytes = more;
    }

    u8(value) {
        this.room(1);
        this.bytes[this.length++] = value;
    }

    u16(value) {
        this.u8(value >> 8);
        this.u8(value & 0xff);
    }

    raw(bytes) {
        this.room(bytes.length);
        this.bytes.set(bytes, this.length);
        this.length += bytes.length;
    }

    /** A length of one to four bytes, seven bits in each. */
    varint(value) {
        do {
            const rest = Math.floor(value / 128);
            this.u8((value % 128) | (rest ? 128 : 0));
            value = rest;
        } while (value);
    }

    binary(bytes) {
        this.u16(bytes.length);
        this.raw(bytes);
    }

    text(text) {
        this.binary(encoder.encode(text));
    }

    taken() {
        return this.bytes.subarray(0, this.length);
    }
}

/** Reads what one packet holds. */
class Reader {
    constructor(bytes) {
        this.bytes = bytes;
        this.at = 0;
    }

    get rest() {
        return this.bytes.length - this.at;
    }

    take(count) {
        if (count > this.rest) throw new Error('the broker sent a packet that is cut off');
        const from = this.at;
        this.at += count;
        return this.bytes.subarray(from, this.at);
    }

    u8() {
        return this.take(1)[0];
    }

    u16() {
        return (this.u8() << 8) | this.u8();
    }

    varint() {
        let value = 0;
        for (let shift = 1; shift <= 128 ** 3; shift *= 128) {
            const byte = this.u8();
            value += (byte & 127) * shift;
            if (byte < 128) return value;
        }
        throw new Error('the broker sent a length that is none');
    }

    binary() {
        return this.take(this.u16());
    }

    text() {
        return decoder.decode(this.binary());
    }

    /** The properties of MQTT 5 that matter here, by their number. */
    properties() {
        const found = new Map();
        const end = this.varint() + this.at;
        if (end > this.bytes.length) throw new Error('the broker sent properties that are cut off');
        while (this.at < end) {
            const id = this.u8();
            if (BYTE.has(id)) found.set(id, this.u8());
            else if (TWO.has(id)) found.set(id, this.u16());
            else if (FOUR.has(id)) this.take(4);
            else if (id === 0x0b) this.varint();
            else if (id === 0x26) (this.text(), this.text());
            else if (id === CORRELATION || id === 0x16) found.set(id, this.binary().slice());
            else found.set(id, this.text());
        }
        return found;
    }
}

const BYTE = new Set([0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2a]);
const TWO = new Set([0x13, 0x21, 0x22, 0x23]);
const FOUR = new Set([0x02, 0x11, 0x18, 0x27]);
const CONTENT_TYPE = 0x03, RESPONSE_TOPIC = 0x08, CORRELATION = 0x09, SERVER_KEEP_ALIVE = 0x13, REASON = 0x1f;

/** What a refused CONNECT means, by its code: whether a login helps, whether another version does. */
function refusal(code, said) {
    const login = [4, 5, 0x86, 0x87].includes(code);
    const words = {
        1: 'it does not speak this version of MQTT', 2: 'it does not take our client id',
        3: 'it is not available', 4: 'the user name or password is wrong', 5: 'it asks for a user name and a password',
        0x84: 'it does not speak this version of MQTT', 0x86: 'the user name or password is wrong',
        0x87: 'it asks for a user name and a password', 0x88: 'it is not available', 0x89: 'it is busy',
        0x97: 'a quota is used up', 0x9f: 'it takes no more connections just now',
    };
    const reason = said || words[code] || `code ${code}`;
    return { login, version: code === 1 || code === 0x84, reason: `the broker refused the connection: ${reason}` };
}

/**
 * One connection. `on` has: `open()`, `message(topic, payload, properties, retain)` with the payload as
 * bytes, and `closed({reason, login, version})`, once.
 */
export class Client {
    constructor(url, { version, login, clientId, on }) {
        this.version = version;
        this.on = on;
        this.ended = false;
        this.nextId = 1;
        this.waiting = new Map();
        // The pieces of a packet that is not whole, how long they are, and how long they must be.
        this.pieces = [];
        this.kept = this.needed = 0;
        this.silentSince = 0;
        try {
            this.socket = new WebSocket(url, ['mqtt']);
        } catch {
            queueMicrotask(() => this.end({ reason: `${url} is not the address of a WebSocket` }));
            return;
        }
        this.socket.binaryType = 'arraybuffer';
        this.socket.onopen = () => this.connect(clientId, login);
        this.socket.onmessage = ({ data }) => {
            this.heard = true;
            try {
                this.receive(new Uint8Array(data));
            } catch (error) {
                this.end({ reason: error.message });
            }
        };
        this.socket.onclose = ({ code, reason }) => {
            const words = this.heard ? 'the connection was lost' : 'the broker cannot be reached';
            this.end({ reason: reason || (code === 1006 || code === 1000 ? words : `${words} (code ${code})`) });
        };
        this.patience = setTimeout(() => this.end({ reason: 'the broker does not answer' }), PATIENCE_MS);
    }

    /** Asks for these filters; resolves with the codes of the broker, in their order. */
    subscribe(filters) {
        const id = this.id();
        this.packet((SUBSCRIBE << 4) | 2, (out) => {
            out.u16(id);
            if (this.version === 5) out.varint(0);
            for (const filter of filters) {
                out.text(filter);
                out.u8(0);
            }
        });
        return new Promise((resolve) => this.waiting.set(id, resolve));
    }

    unsubscribe(filters) {
        this.packet((UNSUBSCRIBE << 4) | 2, (out) => {
            out.u16(this.id());
            if (this.version === 5) out.varint(0);
            for (const filter of filters) out.text(filter);
        });
    }

    /** Publishes a text; with MQTT 5 it may say where an answer is to go. */
    publish(topic, text, { responseTopic, correlation } = {}) {
        this.packet(PUBLISH << 4, (out) => {
            out.text(topic);
            if (this.version === 5) {
                const own = new Writer();
                if (responseTopic) {
                    own.u8(RESPONSE_TOPIC);
                    own.text(responseTopic);
                    own.u8(CORRELATION);
                    own.text(correlation);
                }
                out.varint(own.length);
                out.raw(own.taken());
            }
            out.raw(encoder.encode(text));
        });
    }

    /** Ends the connection in order. */
    close() {
        if (!this.ended && this.socket?.readyState === WebSocket.OPEN) this.packet(DISCONNECT << 4, () => {});
        this.end({ reason: 'closed' });
    }

    connect(clientId, login) {
        this.packet(CONNECT << 4, (out) => {
            out.text('MQTT');
            out.u8(this.version);
            out.u8(2 | (login ? 0x80 | (login.password ? 0x40 : 0) : 0));
            out.u16(PING_S);
            if (this.version === 5) out.varint(0);
            out.text(clientId);
            if (login) {
                out.text(login.user);
                if (login.password) out.text(login.password);
            }
        });
    }

    packet(first, write) {
        if (this.ended || this.socket.readyState !== WebSocket.OPEN) return;
        const body = new Writer();
        write(body);
        const whole = new Writer();
        whole.u8(first);
        whole.varint(body.length);
        whole.raw(body.taken());
        this.socket.send(whole.taken().slice());
    }

    receive(bytes) {
        if (this.pieces.length) {
            this.pieces.push(bytes);
            this.kept += bytes.length;
            // A long packet is put together once, not with each of its pieces.
            if (this.kept < this.needed) return;
            bytes = new Uint8Array(this.kept);
            let end = 0;
            for (const piece of this.pieces) {
                bytes.set(piece, end);
                end += piece.length;
            }
            this.pieces = [];
        }
        let at = 0;
        while (!this.ended) {
            // A head: one byte, and a length of one to four.
            let length = 0, size = 1;
            for (let shift = 1; ; shift *= 128, size++) {
                if (size > 4) throw new Error('the broker sent a length that is none');
                if (at + size >= bytes.length) return this.keep(bytes, at, size + 1);
                const byte = bytes[at + size];
                length += (byte & 127) * shift;
                if (byte < 128) break;
            }
            if (length > PACKET_BYTES_MAX) throw new Error(`the broker sent a packet of ${length} bytes`);
            const start = at + size + 1;
            if (start + length > bytes.length) return this.keep(bytes, at, size + 1 + length);
            this.handle(bytes[at], new Reader(bytes.subarray(start, start + length)));
            at = start + length;
        }
    }

    /** Keeps the beginning of a packet that is so long. */
    keep(bytes, at, needed) {
        this.kept = bytes.length - at;
        this.needed = needed;
        if (this.kept) this.pieces = [bytes.slice(at)];
    }

    handle(first, reader) {
        switch (first >> 4) {
            case CONNACK: {
                reader.u8();
                const code = reader.u8();
                const properties = this.version === 5 && reader.rest ? reader.properties() : new Map();
                if (code) return this.end(refusal(code, properties.get(REASON)));
                clearTimeout(this.patience);
                this.ping(properties.get(SERVER_KEEP_ALIVE) ?? PING_S);
                return this.on.open();
            }
            case PUBLISH: {
                const topic = reader.text();
                const qos = (first >> 1) & 3;
                const id = qos ? reader.u16() : 0;
                const properties = this.version === 5 ? reader.properties() : new Map();
                if (qos === 1) this.packet(PUBACK << 4, (out) => out.u16(id));
                if (qos === 2) this.packet(PUBREC << 4, (out) => out.u16(id));
                return this.on.message(topic, reader.take(reader.rest), properties, (first & 1) === 1);
            }
            case PUBREL: {
                const id = reader.u16();
                return this.packet(PUBCOMP << 4, (out) => out.u16(id));
            }
            case SUBACK: {
                const id = reader.u16();
                if (this.version === 5) reader.properties();
                this.waiting.get(id)?.([...reader.take(reader.rest)]);
                return void this.waiting.delete(id);
            }
            case PINGRESP:
                return clearTimeout(this.pong);
            case DISCONNECT: {
                const code = reader.rest ? reader.u8() : 0;
                const properties = reader.rest ? reader.properties() : new Map();
                const words = { 0x8b: 'the broker stops', 0x8e: 'another tab took over', 0x8d: 'the broker heard nothing of us' };
                return this.end({ reason: properties.get(REASON) || words[code] || `the broker ended the connection (code ${code})` });
            }
        }
    }

    ping(seconds) {
        if (!seconds) return;
        this.pinging = setInterval(() => {
            this.packet(PINGREQ << 4, () => {});
            clearTimeout(this.pong);
            this.pong = setTimeout(() => this.end({ reason: 'the broker does not answer' }), PATIENCE_MS);
        }, seconds * 500);
    }

    id() {
        const id = this.nextId;
        this.nextId = id >= 65_535 ? 1 : id + 1;
        return id;
    }

    end(how) {
        if (this.ended) return;
        this.ended = true;
        clearTimeout(this.patience);
        clearTimeout(this.pong);
        clearInterval(this.pinging);
        this.socket?.close();
        this.on.closed({ login: false, version: false, ...how });
    }
}

/** The keep-alive of the connection, in seconds. */
const PING_S = 30;
export const PROPERTY = { CONTENT_TYPE, CORRELATION };
