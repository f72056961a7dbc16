// Chromium, driven by its own protocol over a pipe: nothing to install but Chromium and Node.js.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** How long anything may take, in milliseconds. */
export const PATIENCE = 40_000;
const PROGRAMS = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Waits until `check` gives something, and gives that. */
export async function until(what, check, patience = PATIENCE) {
    const end = Date.now() + patience;
    let last;
    for (;;) {
        try {
            const found = await check();
            if (found) return found;
            last = found;
        } catch (error) {
            last = error;
        }
        if (Date.now() > end) throw new Error(`${what} did not happen within ${patience} ms; the last look gave: ${last instanceof Error ? last.message : JSON.stringify(last)}`);
        await sleep(50);
    }
}

/** A Chromium with a separate profile, which goes with it. */
export class Browser {
    static async start(args = []) {
        const profile = mkdtempSync(join(tmpdir(), 'dbus-mqtt-page-'));
        const all = ['--headless=new', '--remote-debugging-pipe', `--user-data-dir=${profile}`, '--no-first-run', '--disable-gpu', '--disable-extensions',
            '--disable-background-networking', '--disable-component-update', '--disable-dev-shm-usage', '--hide-scrollbars', '--force-color-profile=srgb', ...args];
        // Chromium does not run its sandbox for root.
        if (process.getuid() === 0) all.push('--no-sandbox');
        for (const program of [process.env.CHROMIUM, ...PROGRAMS].filter(Boolean)) {
            const child = spawn(program, all, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
            const started = await new Promise((resolve) => {
                child.once('error', () => resolve(false));
                child.once('spawn', () => resolve(true));
            });
            if (started) return new Browser(child, profile);
        }
        rmSync(profile, { recursive: true });
        return undefined;
    }

    constructor(child, profile) {
        Object.assign(this, { child, profile, next: 1, waiting: new Map(), sessions: new Map() });
        let rest = Buffer.alloc(0);
        child.stdio[4].on('data', (bytes) => {
            rest = Buffer.concat([rest, bytes]);
            for (let end = rest.indexOf(0); end >= 0; end = rest.indexOf(0)) {
                this.take(JSON.parse(rest.subarray(0, end).toString()));
                rest = rest.subarray(end + 1);
            }
        });
        child.stdio[3].on('error', () => {});
    }

    take({ id, method, params, sessionId, result, error }) {
        if (id) {
            const { resolve, reject } = this.waiting.get(id);
            this.waiting.delete(id);
            return error ? reject(new Error(error.message)) : resolve(result);
        }
        this.sessions.get(sessionId)?.(method, params);
    }

    call(method, params = {}, sessionId = undefined) {
        const id = this.next++;
        this.child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
        return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
    }

    /** A tab with separate storage, or with that of the one beside it. Sizes are in CSS pixels. */
    async tab({ width = 1280, height = 800, dark = false, phone = false, scale = 1, moving = false, beside } = {}) {
        const browserContextId = beside?.context ?? (await this.call('Target.createBrowserContext')).browserContextId;
        const { targetId } = await this.call('Target.createTarget', { url: 'about:blank', browserContextId });
        const { sessionId } = await this.call('Target.attachToTarget', { targetId, flatten: true });
        const tab = new Tab(this, targetId, sessionId);
        tab.context = browserContextId;
        this.sessions.set(sessionId, (method, params) => tab.event(method, params));
        for (const domain of ['Page', 'Runtime', 'Log', 'Network', 'Performance']) await tab.call(`${domain}.enable`);
        await tab.call('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: scale, mobile: phone });
        // Pictures that move are drawn without a graphics card here: half a processor, for nobody.
        tab.moving = moving;
        await tab.dark(dark);
        // Frames come as if it were in front.
        await tab.call('Emulation.setFocusEmulationEnabled', { enabled: true });
        return tab;
    }

    async stop() {
        const ended = new Promise((resolve) => this.child.once('exit', resolve));
        await Promise.race([this.call('Browser.close').catch(() => {}), sleep(2_000)]);
        await Promise.race([ended, sleep(3_000)]);
        this.child.kill('SIGKILL');
        rmSync(this.profile, { recursive: true, force: true, maxRetries: 5 });
    }
}

/** One page. */
class Tab {
    constructor(browser, target, session) {
        Object.assign(this, { browser, target, session, errors: [], requests: [], bytes: 0, sockets: [] });
        this.listeners = [];
    }

    call(method, params) {
        return this.browser.call(method, params, this.session);
    }

    event(method, params) {
        if (method === 'Runtime.exceptionThrown') this.errors.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
        if (method === 'Log.entryAdded' && params.entry.level === 'error') this.errors.push(`${params.entry.text} ${params.entry.url ?? ''}`);
        if (method === 'Runtime.consoleAPICalled' && params.type === 'error') this.errors.push(params.args.map((argument) => argument.value ?? argument.description).join(' '));
        if (method === 'Network.requestWillBeSent') this.requests.push(params.request.url);
        if (method === 'Network.webSocketCreated') this.sockets.push(params.url);
        if (method === 'Network.loadingFinished') this.bytes += params.encodedDataLength;
        for (const listener of this.listeners) listener(method, params);
    }

    async open(url) {
        await this.call('Page.navigate', { url });
    }

    dark(dark) {
        return this.call('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }, { name: 'prefers-reduced-motion', value: this.moving ? 'no-preference' : 'reduce' }] });
    }

    /** What an expression gives in the page. */
    async eval(expression) {
        const { result, exceptionDetails } = await this.call('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true, userGesture: true });
        if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
        return result.value;
    }

    /** The text of the first element of a selector. */
    text(selector) {
        return this.eval(`document.querySelector(${JSON.stringify(selector)})?.innerText.replaceAll('\\u00a0', ' ') ?? null`);
    }

    /** Waits for a text in the first element of a selector. */
    shows(selector, wanted, patience) {
        return until(`${selector} with ${wanted}`, async () => {
            const text = await this.text(selector);
            if (text !== null && (wanted instanceof RegExp ? wanted.test(text) : text.includes(wanted))) return text || true;
            throw new Error(`it is ${JSON.stringify(text)}`);
        }, patience);
    }

    click(selector) {
        return this.eval(`(() => { const node = document.querySelector(${JSON.stringify(selector)}); if (!node) throw new Error('no ' + ${JSON.stringify(selector)}); node.click(); })()`);
    }

    async key(key, { shift = false } = {}) {
        const codes = { Tab: 9, Enter: 13, Escape: 27, ' ': 32, ArrowDown: 40, ArrowUp: 38, ArrowRight: 39 };
        const text = key === 'Enter' ? '\r' : key.length === 1 ? key : undefined;
        const common = { key, code: key === ' ' ? 'Space' : key, windowsVirtualKeyCode: codes[key] ?? key.toUpperCase().charCodeAt(0), modifiers: shift ? 8 : 0 };
        await this.call('Input.dispatchKeyEvent', { type: text ? 'keyDown' : 'rawKeyDown', text, ...common });
        await this.call('Input.dispatchKeyEvent', { type: 'keyUp', ...common });
    }

    async type(text) {
        await this.call('Input.insertText', { text });
    }

    async picture(full = false) {
        const { data } = await this.call('Page.captureScreenshot', { format: 'png', captureBeyondViewport: full });
        return Buffer.from(data, 'base64');
    }

    async close() {
        this.browser.sessions.delete(this.session);
        await this.browser.call('Target.closeTarget', { targetId: this.target });
    }
}
