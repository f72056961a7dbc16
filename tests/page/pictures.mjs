// Makes the pictures of the README and of docs/page.md from the demo:
// `node tests/page/pictures.mjs target/release/dbus-mqtt docs`. Takes a minute.

import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { Browser, sleep, until } from './browser.mjs';

const [program = 'target/release/dbus-mqtt', folder = 'docs'] = process.argv.slice(2);
const web = 18_099;
const started = Date.now();
const pins = ['system/0/Dc/Pv/Power', 'system/0/Ac/Consumption/L1/Power', 'system/0/Dc/Battery/Power'];
const demo = spawn(program, ['demo', '--port', '18098', '--web', String(web), '--fast', '60'], { stdio: 'ignore' });
const browser = await Browser.start();
await until('the demo', () => fetch(`http://127.0.0.1:${web}/health`).then((response) => response.ok));
try {
    const open = async (options) => {
        const tab = await browser.tab(options);
        await tab.open(`http://127.0.0.1:${web}/`);
        await until('the page', () => tab.eval('Boolean(globalThis.page)'), 120_000);
        await tab.eval(`localStorage.setItem('dbus-mqtt/pins/demo00c0ffee', ${JSON.stringify(JSON.stringify(pins))})`);
        await tab.open(`http://127.0.0.1:${web}/`);
        await until('the values', () => tab.eval('globalThis.page?.store.size > 1000'), 120_000);
        return tab;
    };
    const wide = await open({ width: 1180, height: 820, scale: 1.25, moving: true });
    const phone = await open({ width: 375, height: 780, phone: true, scale: 2, dark: true, moving: true });
    // Ten o'clock of the first day.
    await sleep(Math.max(15_000, 60_000 - (Date.now() - started)));
    writeFileSync(join(folder, 'page.png'), await wide.picture());
    writeFileSync(join(folder, 'page-phone.png'), await phone.picture());
} finally {
    await browser?.stop();
    demo.kill('SIGTERM');
}
