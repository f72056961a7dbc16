// Pictures of recorded installations, to be looked at:
//
//   node tests/page/look.mjs PROGRAM OUT NAME=FILE,FILE… …
//
// For each, the overview and every device that has something to see, wide and light; the overview and the first
// devices also as a phone shows them, dark.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { Browser, sleep, until } from './browser.mjs';
import { bridge, bus, freePort, stop, stopAll } from './rig.mjs';

const [program, out, ...installations] = process.argv.slice(2);
mkdirSync(out, { recursive: true });
const browser = await Browser.start();
try {
    for (const installation of installations) {
        const [name, files] = installation.split('=');
        const recorded = await bus(program, ...files.split(','));
        const web = await freePort();
        // No broker is there, and none is needed.
        const child = await bridge(program, recorded.address, web, '--stats', '2');
        for (const [kind, options] of [['wide', { width: 1180, height: 1500 }], ['phone', { width: 375, height: 1200, phone: true, scale: 1.5, dark: true }]]) {
            const tab = await browser.tab(options);
            await tab.open(`http://127.0.0.1:${web}/`);
            await until('the values', () => tab.eval('globalThis.page?.store.size > 20'));
            await sleep(2_500);
            const take = async (what) => writeFileSync(join(out, `${name}-${kind}-${what.replace(/\W+/g, '_')}.png`), await tab.picture());
            await take('overview');
            const devices = await tab.eval('[...page.store.devices.keys()]');
            const some = kind === 'wide' ? devices : devices.slice(0, 3);
            await tab.eval(`location.hash = '#/devices'`);
            await sleep(700);
            await take('devices');
            for (const device of some) {
                await tab.eval(`location.hash = ${JSON.stringify(`#/devices/${device}`)}`);
                await sleep(900);
                await take(device);
            }
            const wide = await tab.eval('document.documentElement.scrollWidth');
            console.log(`${name}, ${kind}: ${devices.length} devices${wide > options.width ? `; ${wide} PIXELS WIDE` : ''}${tab.errors.length ? `; ${tab.errors.join('; ')}` : ''}`);
            await tab.close();
        }
        await stop(child);
        await recorded.stop();
    }
} finally {
    await browser.stop();
    await stopAll();
}
