// The page in a real browser: `node tests/page/run.mjs target/debug/dbus-mqtt`. Needs Chromium, Node.js and
// mosquitto with its clients; what is missing is said, and the status is 0 then unless REQUIRE_PAGE is set.
//
// With `figures` as a further argument it measures instead: bytes, the first value, script per frame.

import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { Browser, PATIENCE, sleep, until } from './browser.mjs';
import { bridge as bridgeOf, bus, demo as demoOf, freePort, mosquitto, run, scratch, start, stop, stopAll } from './rig.mjs';

const program = process.argv[2] ?? 'target/debug/dbus-mqtt';
const wanted = process.argv.slice(3);
/** Recorded devices. */
const FIXTURES = fileURLToPath(new URL('../fixtures/recordings', import.meta.url));
const demo = (ports, ...more) => demoOf(program, ports, ...more);

/** What an HTTP server answers: status, headers and body. */
const ask = (port, path, headers = {}) => new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, path, headers, agent: false }, (response) => {
        let bytes = 0;
        response.on('data', (data) => (bytes += data.length));
        response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, bytes }));
    }).on('upgrade', (response, socket) => (socket.destroy(), resolve({ status: response.statusCode, headers: response.headers }))).on('error', reject);
});

function check(holds, sentence) {
    if (!holds) throw new Error(sentence);
}

const ports = { mqtt: await freePort(), web: await freePort() };
const base = `http://127.0.0.1:${ports.web}/`;
const client = async (...args) => (await run(program, [...args, '-q', `127.0.0.1:${ports.mqtt}`, '--json'])).stdout;
let browser;
let bridge;

/** Opens the demo's page, and waits for its values. */
async function opened(hash = '', options = {}) {
    const tab = await browser.tab(options);
    await tab.open(base + hash);
    await tab.shows('#countdown', 'Live');
    await until('the values', () => tab.eval('page.store.size > 1000'));
    return tab;
}

/** Enters user and password. */
const logIn = (tab, password) => tab.eval(`(() => { document.getElementById('user').value = 'me'; document.getElementById('password').value = '${password}'; document.querySelector('#login button').click(); })()`);

const tests = {
    async 'values appear and follow, within the origin, without a violation'() {
        const tab = await opened();
        await tab.shows('.card.battery .soc', '%');
        await tab.shows('.card.solar .number', /\d/);
        const load = () => tab.text('.card.loads .number');
        const first = await load();
        await until('another number', async () => (await load()) !== first);
        check(tab.errors.length === 0, `errors: ${tab.errors.join('; ')}`);
        const strangers = [...tab.requests, ...tab.sockets].filter((url) => !url.startsWith(base) && !url.startsWith(base.replace('http', 'ws')));
        check(strangers.length === 0, `asked elsewhere: ${strangers}`);
        check(tab.bytes <= 120_000, `${tab.bytes} bytes over the wire`);
        await tab.close();
    },

    async 'a write asks first, arrives on the bus, and the answer is shown'() {
        const tab = await opened('#/devices/vebus/276');
        const row = `[...document.querySelectorAll('.value-row')].find((row) => row.querySelector('.path').innerText === '/Mode')`;
        await until('the row', () => tab.eval(`Boolean(${row})`));
        const choose = (code) => tab.eval(`(() => { const list = ${row}.querySelector('select'); list.value = '${code}'; list.dispatchEvent(new Event('change')); ${row}.querySelector('.control > button').click(); })()`);
        const answer = () => tab.eval(`${row}.querySelector('.answer').innerText`);
        await choose(4);
        await tab.shows('#question', 'off');
        await tab.click('#ask button[value=no]');
        await sleep(300);
        check(/3/.test(await client('get', 'vebus/276/Mode')), 'cancelled, and yet it was done');
        await choose(4);
        await tab.shows('#question', 'off');
        await tab.click('#ask button[value=yes]');
        await until('taken', async () => (await answer()) === 'taken');
        await until('the value', async () => (await tab.eval(`${row}.querySelector('.value').innerText`)) === 'off');
        check(/4/.test(await client('get', 'vebus/276/Mode')), 'it is not on the bus');
        await choose(3);
        await tab.click('#ask button[value=yes]');
        await until('taken again', async () => (await answer()) === 'taken');
        await tab.close();
    },

    async 'a refused write says why'() {
        const tab = await opened('#/devices/vebus/276');
        const result = await tab.eval(`(async () => { const item = page.store.item('vebus/276/Mode'); return page.session.write(item, 'nonsense'); })()`);
        check(result.error && result.message, `told: ${JSON.stringify(result)}`);
        const row = `[...document.querySelectorAll('.value-row')].find((row) => row.querySelector('.path').innerText === '/Mode')`;
        await until('the row', () => tab.eval(`Boolean(${row})`));
        await tab.eval(`(() => { const list = ${row}.querySelector('select'); const none = document.createElement('option'); none.value = '5'; list.append(none); list.value = '5'; list.dispatchEvent(new Event('change')); ${row}.querySelector('.control > button').click(); })()`);
        await tab.click('#ask button[value=yes]');
        await until('the reason', async () => /^refused: .+/.test(await tab.eval(`${row}.querySelector('.answer').innerText`)));
        await tab.eval(`location.hash = '#/raw'`);
        await tab.shows('.raw', 'Refused here');
        await tab.close();
    },

    async 'the bridge goes and comes back'() {
        const tab = await opened();
        // Values are there before they are drawn.
        await tab.shows('.card.battery .soc', '%');
        await stop(bridge);
        try {
            await tab.shows('#countdown', 'Offline');
            await tab.shows('.card.battery .soc', '%');
        } finally {
            // The tests that follow need one.
            bridge = await demo(ports);
        }
        await tab.shows('#countdown', 'Live');
        const seen = await tab.eval('page.store.seen');
        await until('new values', async () => (await tab.eval('page.store.seen')) > seen);
        await tab.close();
    },

    async 'a phone shows all without scrolling sideways'() {
        for (const hash of ['#/', '#/devices', '#/devices/vebus/276', '#/devices/settings/0', '#/raw']) {
            const tab = await opened(hash, { width: 360, height: 740, phone: true });
            await sleep(300);
            const width = await tab.eval('document.documentElement.scrollWidth');
            check(width <= 360, `${hash} is ${width} pixels wide`);
            await tab.close();
        }
    },

    async 'dark where the system is dark, and as chosen'() {
        const tab = await opened('', { dark: true });
        const ground = () => tab.eval('getComputedStyle(document.documentElement).backgroundColor');
        const isDark = async () => Number(/\d+/.exec(await ground())[0]) < 60;
        check(await isDark(), `dark: ${await ground()}`);
        await tab.dark(false);
        check(!(await isDark()), `light: ${await ground()}`);
        await tab.click('#theme');
        check(await isDark(), `chosen: ${await ground()}`);
        await tab.close();
    },

    async 'the keyboard alone gets everywhere'() {
        const tab = await opened();
        const focused = () => tab.eval('document.activeElement.innerText || document.activeElement.id');
        const tabTo = async (words) => {
            for (let steps = 0; steps < 40; steps++) {
                await tab.key('Tab');
                if (((await focused()) ?? '').includes(words)) return;
            }
            throw new Error(`no way to ${words}`);
        };
        await tabTo('Devices');
        await tab.key('Enter');
        await tab.shows('h1', 'Devices');
        await tabTo('search');
        await tab.type('relay 0 state');
        await tab.shows('.found h2', 'relay');
        await tab.eval(`location.hash = '#/devices/vebus/276'`);
        await until('the list', () => tab.eval(`Boolean(document.querySelector('.control select'))`));
        await tab.eval(`document.querySelector('.control select').focus()`);
        await tab.key('Tab');
        check((await focused()) === 'Set', `after the list comes ${await focused()}`);
        await tab.key('Enter');
        await until('the question', () => tab.eval(`document.getElementById('ask').open`));
        check((await focused()) === 'Cancel', `the question begins with ${await focused()}`);
        await tab.key('Escape');
        await until('no question', () => tab.eval(`!document.getElementById('ask').open`));
        await tab.close();
    },

    async 'with read-only nothing can be written'() {
        const tab = await browser.tab();
        await tab.open(`${base}?read-only#/devices/vebus/276`);
        await until('rows', () => tab.eval(`document.querySelectorAll('.value-row').length > 5`));
        check(await tab.eval(`document.querySelectorAll('.control').length === 0`), 'there are controls');
        await tab.close();
    },

    async 'markup is text, whatever is called so, and other brokers work'() {
        const broker = await mosquitto();
        const evil = '<img src=x onerror="document.title=\'evil\'"><script>document.title="evil"</script>';
        const say = (path, value) => broker.say(`N/other/${path}`, JSON.stringify({ value }));
        await broker.say('N/other/keepalive', '{"value": 1}');
        await say('system/0/Serial', 'other');
        await say('battery/1/CustomName', evil);
        await say('battery/1/Soc', 55.5);
        await say('battery/1/Dc/0/Power', -120);
        await say('battery/1/Alarms/LowVoltage', 2);
        await say(`battery/1/${evil.replace(/[/#+]/g, '')}`, evil);
        await say('tank/3/Level', null);
        await say('tank/3/CustomName', ['a', { b: null }]);
        await say('battery/1/Big', 'x'.repeat(100_000));
        await broker.say('N/other/battery/1/Broken', '{"value": ');
        await say('__proto__/constructor/toString', 1);
        await broker.say('N/other/batch', '\x1f\x08 no text', '-V', '5', '-D', 'publish', 'content-type', 'application/gzip');
        const tab = await browser.tab();
        await tab.open(`${base}?broker=ws://127.0.0.1:${broker.ws}/`);
        await tab.shows('.card.battery .soc', '56 %');
        await tab.shows('.alarms', '<img src=x');
        // One to look for the installation, and one to look at it.
        check(tab.sockets.length === 2, `${tab.sockets.length} connections`);
        for (const hash of ['#/devices', '#/devices/battery/1', '#/devices/__proto__/constructor', '#/raw']) {
            await tab.eval(`location.hash = ${JSON.stringify(hash)}`);
            await sleep(700);
        }
        await tab.shows('.raw', '<script>');
        await tab.shows('.raw', '(compressed: 10 bytes)');
        check(await tab.eval(`document.querySelectorAll('main img, main script').length === 0`), 'there is an element');
        check(!(await tab.eval('document.title')).includes('evil'), 'it ran');
        check(tab.errors.length === 0, `errors: ${tab.errors.join('; ')}`);
        await stop(broker.child);
        await tab.shows('#countdown', 'Offline');
        await tab.close();
    },

    async 'a wrong password is asked for again'() {
        const broker = await mosquitto('right');
        const tab = await browser.tab();
        await tab.open(`${base}?broker=ws://127.0.0.1:${broker.ws}/&portal=other`);
        await until('the question', () => tab.eval(`document.getElementById('denied').open`));
        await logIn(tab, 'wrong');
        await until('the question again', () => tab.eval(`document.getElementById('denied').open`));
        await logIn(tab, 'right');
        await until('live', () => tab.eval(`page.session.state === 'live'`));
        await tab.close();
        await stop(broker.child);
    },

    async 'with --web alone it has values, and a listener\'s login is asked for'() {
        const fixtures = readdirSync(FIXTURES).filter((name) => /battery|solarcharger/.test(name)).map((name) => join(FIXTURES, name));
        const recorded = await bus(program, ...fixtures);
        const web = await freePort();
        const alone = await bridgeOf(program, recorded.address, web);
        const first = await browser.tab();
        await first.open(`http://127.0.0.1:${web}/`);
        await first.shows('.card.battery .soc', '%');
        // What is copied works, though no broker is there.
        const line = await first.eval(`page.raw.line('N/recorded/' + page.store.of('battery')[0].key + '/Soc')`);
        check(/^dbus-mqtt watch /.test(line), line);
        const { stdout } = await run('sh', ['-c', `${line.replace('dbus-mqtt', program)} --count 1 --for 20`]);
        check(/Soc/.test(stdout), `${line}: ${stdout}`);
        await first.close();
        await stop(alone);

        const users = join(scratch, 'listener-users');
        // The password is "secret".
        writeFileSync(users, 'me:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n');
        const guarded = await bridgeOf(program, recorded.address, web, '--listen-auth', users, '--access', 'read-only');
        const tab = await browser.tab();
        await tab.open(`http://127.0.0.1:${web}/`);
        const asked = () => tab.eval(`document.getElementById('denied').open`);
        await until('the question', asked);
        check(tab.sockets.length === 0, 'it tried without a password');
        await tab.shows('#why', 'enter user name and password');
        await logIn(tab, 'wrong');
        await until('the question again', asked);
        check(!(await tab.eval('page.store.size')), 'there are values');
        await logIn(tab, 'secret');
        await tab.shows('.card.battery .soc', '%');
        check(await tab.eval('page.readOnly'), 'it could write');
        await tab.close();
        await stop(guarded);
        await recorded.stop();
    },

    async 'a copied command works as it is'() {
        const tab = await opened('#/raw');
        const shell = async (line, more) => (await run('sh', ['-c', `${line} ${more}`])).stdout;
        const all = await tab.eval('page.raw.line()');
        check((await shell(all, '-C 3 -W 20')).split('\n').length > 3, all);
        const write = (value) => tab.eval(`page.raw.write(page.store.item('vebus/276/Mode'), '{"value": ${value}}')`);
        await shell(await write(4), '');
        await until('it is off', async () => /4/.test(await client('get', 'vebus/276/Mode')));
        await shell(await write(3), '');
        await until('it is on', async () => /3/.test(await client('get', 'vebus/276/Mode')));
        await tab.close();
    },

    async 'an overlay that renames everything is shown as it says'() {
        const { types, rules } = await (await fetch(`${base}schema.json`)).json();
        const folder = join(scratch, 'overlay');
        mkdirSync(folder);
        const renamed = '<b>other</b> & "words"';
        for (const [type, { items }] of Object.entries(types)) {
            const rows = Object.keys(items).filter((path) => !/^.(DeviceInstance|Identifier|ProductName|CustomName|Serial|ProductId|Settings.Network.VrmPortal)$/.test(path) && type !== '_default').map((path) => {
                const { unit, access, type: data, labels } = rules[items[path][0]];
                const isCode = labels && data !== 's';
                const words = isCode ? `, labels = { ${labels.map(([code]) => `${code} = 'word ${code} <i>'`).join(', ')} }` : '';
                return `"${path}" = { ${data ? `type = "${data}"` : 'name = "x"'}${unit ? `, unit = "${unit}"` : ''}${access ? `, access = "${access}"` : ''}, description = '${renamed}'${words} }`;
            });
            if (type !== '_default') writeFileSync(join(folder, `${type}.toml`), `device = '${renamed}'\n[items]\n${rows.join('\n')}\n`);
        }
        const checked = await run(program, ['schema', 'check', folder]).catch((error) => error);
        // A row that the bridge works with says so again, or stays as it is.
        for (const [, file, line] of `${checked.stdout}${checked.stderr}`.matchAll(/([\w/.-]+\.toml):(\d+)/g)) {
            const rows = readFileSync(file, 'utf8').split('\n');
            rows[line - 1] = '';
            writeFileSync(file, rows.join('\n'));
        }
        await run(program, ['schema', 'check', folder]);
        const others = { mqtt: await freePort(), web: await freePort() };
        const child = await demo(others, '--schema', folder);
        const tab = await browser.tab();
        await tab.open(`http://127.0.0.1:${others.web}/#/devices/vebus/276`);
        await until('words', () => tab.eval(`document.querySelector('.detail')?.innerText.includes('word 3 <i>')`));
        check(await tab.eval(`document.querySelector('main').innerHTML.includes('&lt;b&gt;other')`), 'the descriptions are not there');
        await tab.eval(`location.hash = '#/'`);
        await tab.shows('.card.battery .soc', '%');
        await tab.shows('.card.loads .number', /\d/);
        check(await tab.eval(`document.querySelectorAll('main b i, main i').length === 0`), 'there is an element');
        check(tab.errors.length === 0, `errors: ${tab.errors.join('; ')}`);
        await tab.close();
        await stop(child);
    },

    async 'texts of a mebibyte, and the page lives'() {
        const broker = await mosquitto();
        const long = 'x'.repeat(1 << 20);
        const say = (path, value) => broker.say(`N/other/${path}`, JSON.stringify({ value }));
        await broker.say('N/other/keepalive', '{"value": 1}');
        for (const path of ['CustomName', 'ProductName', 'Serial', 'Firmware/Text']) await say(`battery/1/${path}`, long);
        await say('battery/1/Alarms/LowVoltage', 2);
        await say('battery/1/Soc', 40);
        await say('tank/3/Level', 50);
        await say('tank/3/CustomName', long);
        await say('tank/3/List', Array(100_000).fill('<b>'));
        // mosquitto's own WebSocket gives no such texts: the way is ours, as with a broker in the settings.
        const web = await freePort();
        const between = await bridgeOf(program, 'unix:path=/nowhere', web, '--mqtt-server', `127.0.0.1:${broker.mqtt}`);
        const tab = await browser.tab({ width: 360, height: 740, phone: true });
        for (const hash of ['#/', '#/devices', '#/devices/battery/1', '#/devices/tank/3', '#/raw']) {
            await tab.open(`http://127.0.0.1:${web}/?portal=other${hash}`);
            await until('the values', () => tab.eval(`globalThis.page?.store.item('battery/1/Soc')?.value === 40 && page.store.item('tank/3/List')?.value.length > 0`));
            const frame = await tab.eval('new Promise((done) => { const start = performance.now(); page.later(); requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start))); })');
            check(frame < 5_000, `${hash}: ${Math.round(frame)} ms for a frame`);
            const size = await tab.eval('[document.documentElement.scrollWidth, document.documentElement.outerHTML.length]');
            check(size[0] <= 360 && size[1] < 300_000, `${hash}: ${size[0]} pixels, ${size[1]} characters`);
        }
        check(tab.errors.length === 0, `errors: ${tab.errors.join('; ')}`);
        await tab.close();
        await stop(between);
        await stop(broker.child);
    },

    async 'two tabs: both follow, and neither undoes the other'() {
        const one = await opened('#/devices/vebus/276');
        const other = await browser.tab({ beside: one });
        await other.open(`${base}#/devices/battery/512`);
        await until('the values', () => other.eval('globalThis.page?.store.size > 1000'));
        const mode = (tab) => tab.eval(`page.store.item('vebus/276/Mode').value`);
        await one.eval(`page.session.write(page.store.item('vebus/276/Mode'), 4)`);
        for (const tab of [one, other]) await until('off', async () => (await mode(tab)) === 4);
        await other.eval(`page.session.write(page.store.item('vebus/276/Mode'), 3)`);
        for (const tab of [one, other]) await until('on', async () => (await mode(tab)) === 3);
        await one.eval(`page.pins.toggle('system/0/Dc/Pv/Power')`);
        await other.eval(`page.pins.toggle('system/0/Dc/Battery/Power')`);
        for (const tab of [one, other]) await until('both pins', () => tab.eval('page.pins.keys().length === 2'));
        await other.close();
        await until('values still', async () => {
            const seen = await one.eval('page.store.seen');
            await sleep(500);
            return (await one.eval('page.store.seen')) > seen;
        });
        await one.close();
    },

    async 'a stopped tab comes back to what is'() {
        const tab = await opened();
        const freeze = (state) => tab.call('Page.setWebLifecycleState', { state });
        // Some seconds of values wait for it.
        await freeze('frozen');
        await client('set', 'vebus/276/Mode', 'off');
        await sleep(4_000);
        check((await ask(ports.web, '/health', { host: `127.0.0.1:${ports.web}` })).status === 200, 'it holds up the bridge');
        await freeze('active');
        await until('the latest', () => tab.eval(`page.store.item('vebus/276/Mode').value === 4`));
        // The bridge went away and came back meanwhile.
        await freeze('frozen');
        await stop(bridge);
        bridge = await demo(ports);
        await freeze('active');
        await tab.shows('#countdown', 'Live');
        await until('the latest again', () => tab.eval(`page.store.item('vebus/276/Mode').value === 3`));
        await tab.close();
    },

    async 'hosts and origins are checked, and files are kept'() {
        const status = async (path, headers) => (await ask(ports.web, path, headers)).status;
        for (const host of ['evil.example', 'venus.local.evil.example']) check((await status('/', { host })) === 421, 'DNS rebinding');
        for (const host of ['venus.local', 'venus.lan:8080', '[fe80::1]:8080', '192.168.1.20']) check((await status('/', { host })) === 200, host);
        const upgrade = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==', 'sec-websocket-protocol': 'mqtt' };
        const own = { host: `127.0.0.1:${ports.web}` };
        for (const path of ['/mqtt', '/websocket-mqtt', '/']) check((await status(path, { ...upgrade, ...own })) === 101, path);
        check((await status('/mqtt', { ...upgrade, ...own, origin: base.slice(0, -1) })) === 101, 'our own page');
        check((await status('/mqtt', { ...upgrade, ...own, origin: 'http://evil.example' })) === 403, 'a page from elsewhere');
        check((await status('/mqtt', { ...upgrade, ...own, 'sec-websocket-protocol': 'chat' })) === 400, 'another protocol');
        check((await status('/nothing', own)) === 404, 'nothing');
        for (const path of ['/', '/main.js', '/schema.json']) {
            const first = await ask(ports.web, path, own);
            check(first.status === 200 && first.headers.etag && first.headers['content-encoding'] === 'gzip', path);
            const again = await ask(ports.web, path, { ...own, 'if-none-match': first.headers.etag });
            check(again.status === 304 && again.bytes === 0, `${path}: ${again.status}`);
        }
        check((await ask(ports.web, '/health', own)).status === 200, 'health');
        check((await ask(ports.web, '/metrics', own)).status === 200, 'metrics');
    },

    async 'mqtt.js gets values, reads and writes over WebSocket, in three versions of MQTT'() {
        const folder = await installed('mqtt@5');
        if (!folder) return 'SKIPPED: mqtt.js cannot be had here (npm install mqtt)';
        const mqtt = createRequire(join(folder, 'package.json'))('mqtt');
        for (const [protocolId, protocolVersion] of [['MQIsdp', 3], ['MQTT', 4], ['MQTT', 5]]) {
            const peer = await mqtt.connectAsync(`ws://127.0.0.1:${ports.web}/mqtt`, { protocolId, protocolVersion, reconnectPeriod: 0 });
            const seen = new Map();
            peer.on('message', (topic, payload, packet) => seen.set(topic, { text: String(payload), packet }));
            await peer.subscribeAsync('N/#');
            await until('the values', () => seen.size > 1000);
            const [serial] = [...seen.keys()].filter((topic) => topic.endsWith('/system/0/Serial'));
            const portal = serial.split('/')[1];
            const limit = `vebus/276/Ac/In/1/CurrentLimit`;
            const before = JSON.parse(seen.get(`N/${portal}/${limit}`).text);
            const wanted = before.value === 10 ? 11 : 10;
            seen.clear();
            await peer.publishAsync(`W/${portal}/${limit}`, `{"value": ${wanted}}`, { qos: 1 });
            await until('the written value', () => seen.get(`N/${portal}/${limit}`)?.text.includes(`"value": ${wanted}`));
            seen.clear();
            await peer.publishAsync(`R/${portal}/${limit}`, '');
            await until('the value read', () => seen.has(`N/${portal}/${limit}`));
            if (protocolVersion === 5) {
                const properties = { responseTopic: 'answers', correlationData: Buffer.from('7') };
                await peer.publishAsync(`R/${portal}/${limit}`, '', { properties });
                await until('the answer', () => seen.get('answers')?.packet.properties?.correlationData?.toString() === '7');
            }
            await peer.publishAsync(`W/${portal}/${limit}`, JSON.stringify({ value: before.value }));
            await peer.endAsync();
        }
    },

    async 'axe finds nothing serious'() {
        const source = await axe();
        if (!source) return 'SKIPPED: axe-core cannot be had here (npm install axe-core)';
        const tab = await browser.tab();
        await tab.call('Page.setBypassCSP', { enabled: true });
        await tab.open(base);
        await until('the values', () => tab.eval('globalThis.page?.store.size > 1000'));
        await tab.eval(source);
        for (const dark of [false, true]) {
            await tab.dark(dark);
            for (const hash of ['#/', '#/devices/vebus/276', '#/raw']) {
                await tab.eval(`location.hash = ${JSON.stringify(hash)}`);
                await sleep(800);
                // Hundreds of rows are all alike, and each is looked at for a tenth of a second.
                await tab.eval(`for (const rows of ['.value-row', '.messages li']) for (const row of [...document.querySelectorAll(rows)].slice(60)) row.remove()`);
                const found = await tab.eval(`axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations.map(({ id, impact, nodes }) => [impact, id, nodes.length, nodes[0].html.slice(0, 160), nodes[0].failureSummary]))`);
                const bad = found.filter(([impact]) => impact === 'serious' || impact === 'critical');
                check(bad.length === 0, `${hash}${dark ? ', dark' : ''}: ${JSON.stringify(bad, null, 1)}`);
            }
        }
        await tab.close();
    },

    async 'a thousand devices, and no list that freezes'() {
        const tab = await browser.tab();
        await tab.open(`${base}?portal=none#/devices`);
        await until('the page', () => tab.eval(`globalThis.page?.session.state === 'live'`));
        const took = await tab.eval(`(async () => {
            const started = performance.now();
            for (let device = 0; device < 1000; device++) for (let item = 0; item < 20; item++) page.store.take('battery/' + device + '/Group/Item' + item, '{"value": ' + item + '}');
            page.later();
            await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
            return performance.now() - started;
        })()`);
        check(took < 5_000, `it took ${Math.round(took)} ms`);
        await tab.shows('.side', '1000 devices');
        await tab.close();
    },
};

/** The folder of a package of npm; nothing where it cannot be had. */
async function installed(name) {
    const [folder] = name.split('@');
    try {
        await run('npm', ['install', '--prefix', scratch, '--no-audit', '--no-fund', '--silent', name], { timeout: 60_000 });
        return join(scratch, 'node_modules', folder);
    } catch {
        return undefined;
    }
}

/** The source of axe-core, from where it is or from npm. */
async function axe() {
    const file = process.env.AXE ?? join((await installed('axe-core@4')) ?? scratch, 'axe.min.js');
    return existsSync(file) ? readFileSync(file, 'utf8') : undefined;
}

/** What it costs, on a processor that is six times as slow. */
async function figures() {
    const cold = await browser.tab({ width: 390, height: 844, phone: true, moving: true });
    // Time of the page's thread, whatever else the machine does.
    await cold.call('Performance.disable');
    await cold.call('Performance.enable', { timeDomain: 'threadTicks' });
    await cold.open(base);
    await until('a value', () => cold.eval(`/\\d/.test(document.querySelector('.card .number')?.textContent)`));
    console.log(`${cold.bytes} bytes in ${cold.requests.length} requests`);
    // Told by the page itself: from the click on its address to the frame that has a value.
    const first = [];
    for (let turn = 0; turn < 7; turn++) {
        const tab = await browser.tab({ width: 390, height: 844, phone: true });
        const source = `(() => { const look = () => (/\\d/.test(document.querySelector('.card .number')?.textContent ?? '') ? globalThis.first_ = performance.now() : requestAnimationFrame(look)); look(); })()`;
        await tab.call('Page.addScriptToEvaluateOnNewDocument', { source });
        await tab.open(base);
        first.push(Math.round(await until('a value', () => tab.eval('globalThis.first_'))));
        await tab.close();
    }
    first.sort((a, b) => a - b);
    console.log(`first value after ${first[0]} to ${first.at(-1)} ms, median ${first[3]} ms, nothing cached`);
    for (const hash of ['#/', '#/devices/vebus/276', '#/raw']) {
        await cold.eval(`location.hash = ${JSON.stringify(hash)}`);
        await until('the values', () => cold.eval('page.store.size > 1000'));
        await cold.call('Emulation.setCPUThrottlingRate', { rate: 6 });
        await sleep(2_000);
        const metrics = async () => Object.fromEntries((await cold.call('Performance.getMetrics')).metrics.map(({ name, value }) => [name, value]));
        await cold.eval(`(() => { globalThis.frames_ = 0; const turn = () => { frames_++; requestAnimationFrame(turn); }; turn(); })()`);
        const [before, seen, frames] = [await metrics(), await cold.eval('page.store.seen'), await cold.eval('frames_')];
        await sleep(10_000);
        const [after, seenAfter, framesAfter] = [await metrics(), await cold.eval('page.store.seen'), await cold.eval('frames_')];
        const count = framesAfter - frames;
        const per = (name) => (1000 * (after[name] - before[name]) / count).toFixed(2);
        console.log(`${hash}: ${((seenAfter - seen) / 10).toFixed(0)} updates/s, ${(count / 10).toFixed(0)} frames/s, per frame: script ${per('ScriptDuration')} ms, style ${per('RecalcStyleDuration')} ms, layout ${per('LayoutDuration')} ms, all tasks ${per('TaskDuration')} ms`);
        await cold.call('Emulation.setCPUThrottlingRate', { rate: 1 });
    }
    await cold.close();
    const recorded = await bus(program, FIXTURES);
    const alone = { web: await freePort() };
    alone.child = await bridgeOf(program, recorded.address, alone.web);
    for (const [what, child, web] of [['the whole demo', bridge, ports.web], ['a bridge on a bus of recorded devices', alone.child, alone.web]]) {
        const memory = () => (Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))[1]) / 1024).toFixed(1);
        const none = memory();
        const tabs = [];
        for (const wanted of [1, 10]) {
            while (tabs.length < wanted) {
                const tab = await browser.tab();
                await tab.open(`http://127.0.0.1:${web}/`);
                await tab.shows('.card.battery .soc', '%');
                tabs.push(tab);
            }
            await sleep(3_000);
            tabs[`at${wanted}`] = memory();
        }
        console.log(`memory of ${what}: ${none} MiB, with one page ${tabs.at1} MiB, with ten ${tabs.at10} MiB`);
        for (const tab of tabs) await tab.close();
    }
}

browser = await Browser.start();
if (!browser) {
    console.log('SKIPPED: there is no Chromium here (apt-get install chromium)');
    process.exit(process.env.REQUIRE_PAGE ? 1 : 0);
}
let failed = 0;
try {
    if (wanted[0] === 'figures') {
        bridge = await demo(ports, ...wanted.slice(1));
        await figures();
    } else {
        bridge = await demo(ports);
        for (const [name, test] of Object.entries(tests)) {
            if (wanted.length && !wanted.some((word) => name.includes(word))) continue;
            const started = Date.now();
            try {
                const said = await test();
                console.log(`${said ?? 'ok'}: ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
            } catch (error) {
                failed++;
                console.log(`FAILED: ${name}: ${error.stack}`);
            }
        }
    }
} finally {
    await browser.stop();
    await stopAll();
}
process.exit(failed ? 1 : 0);
