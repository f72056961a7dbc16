// What the page is tried with: demos, bridges on a bus with recorded devices, and brokers. All of it ends with
// the process.

import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { sleep, until } from './browser.mjs';

export const run = promisify(execFile);
export const scratch = mkdtempSync(join(tmpdir(), 'dbus-mqtt-page-test-'));
const children = new Set();
process.on('exit', () => {
    for (const child of children) child.kill('SIGKILL');
    rmSync(scratch, { recursive: true, force: true });
});

/** A port that nobody has. */
export const freePort = () => new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
        const { port } = server.address();
        server.close(() => resolve(port));
    });
});

export const listens = (port) => until(`somebody on port ${port}`, () => new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => (socket.destroy(), resolve(true))).on('error', () => resolve(false));
}));

export function start(command, args) {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    child.log = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes) => (child.log += bytes));
    child.ended = new Promise((resolve) => child.once('exit', resolve));
    children.add(child);
    child.ended.then(() => children.delete(child));
    child.on('error', () => {});
    return child;
}

export async function stop(child) {
    child.kill('SIGTERM');
    await Promise.race([child.ended, sleep(10_000).then(() => child.kill('SIGKILL'))]);
}

export async function stopAll() {
    for (const child of [...children]) await stop(child);
}

/** A demo on these ports. */
export async function demo(program, ports, ...more) {
    const child = start(program, ['demo', '--port', String(ports.mqtt), '--web', String(ports.web), ...more]);
    await listens(ports.web);
    return child;
}

/** A bus with recorded devices on it. Gives its address. */
export async function bus(program, ...recordings) {
    const daemon = start('dbus-daemon', ['--session', '--nofork', '--print-address']);
    const address = await until('a bus', () => /^unix:\S+$/m.exec(daemon.log)?.[0]);
    const replay = start(program, ['replay', '--dbus', address, '--loop', ...recordings]);
    return { address, stop: async () => (await stop(replay), stop(daemon)) };
}

/** A bridge on a bus, with a page. */
export async function bridge(program, address, web, ...more) {
    const child = start(program, ['--dbus', address, '--portal-id', 'recorded', '--web', String(web), ...more]);
    await listens(web);
    return child;
}

/** A broker with a WebSocket, and with users where a password is given. */
export async function mosquitto(password) {
    const ports = { mqtt: await freePort(), ws: await freePort() };
    const lines = [`listener ${ports.mqtt} 127.0.0.1`, `listener ${ports.ws} 127.0.0.1`, 'protocol websockets', `allow_anonymous ${!password}`];
    if (password) {
        const file = join(scratch, 'users');
        await run('mosquitto_passwd', ['-b', '-c', file, 'me', password]);
        lines.push(`password_file ${file}`);
        if (process.getuid() === 0) lines.push('user root');
    }
    const file = join(scratch, `mosquitto-${ports.mqtt}.conf`);
    writeFileSync(file, lines.join('\n'));
    ports.child = start('mosquitto', ['-c', file]);
    await listens(ports.ws);
    ports.say = (topic, payload, ...more) => {
        const publish = run('mosquitto_pub', ['-p', String(ports.mqtt), '-r', '-t', topic, '-s', ...more]);
        publish.child.stdin.end(payload);
        return publish;
    };
    return ports;
}
