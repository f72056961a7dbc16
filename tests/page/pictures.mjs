// Makes the pictures of the README and of docs/page.md from the demo:
// `node tests/page/pictures.mjs target/release/dbus-mqtt docs`. Takes a minute: by then the demo has seen a
// cloud and a kettle.

import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { Browser, sleep, until } from './browser.mjs';

const [program = 'target/release/dbus-mqtt', folder = 'docs'] = process.argv.slice(2);
const web = 18_099;
const pins = ['system/0/Dc/Pv/Power', 'system/0/Ac/Consumption/L1/Power', 'system/0/Dc/Battery/Power'];
const demo = spawn(program, ['demo', '--port', '18098', '--web', String(web)], { stdio: 'ignore' });
const browser = await Browser.start();
try {
    const open = async (options) => {
        const tab = await browser.tab(options);
        await until('the page', async () => {
            await tab.open(`http://127.0.0.1:${web}/`);
            await sleep(500);
            return tab.eval('Boolean(globalThis.page)').catch(() => false);
        });
        await tab.eval(`localStorage.setItem('dbus-mqtt/pins/demo00c0ffee', ${JSON.stringify(JSON.stringify(pins))})`);
        await tab.open(`http://127.0.0.1:${web}/`);
        await until('the values', () => tab.eval('globalThis.page?.store.size > 1000'));
        return tab;
    };
    const wide = await open({ width: 1100, height: 820, scale: 1.5 });
    const phone = await open({ width: 375, height: 780, phone: true, scale: 2, dark: true });
    await sleep(40_000);
    writeFileSync(join(folder, 'page.png'), await wide.picture());
    writeFileSync(join(folder, 'page-phone.png'), await phone.picture());
} finally {
    await browser?.stop();
    demo.kill('SIGTERM');
}
