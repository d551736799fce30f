// Node's fetch (undici) as client: `with-fetch.mjs URL`.
import { alphabet, big, body, letters, tell } from './transcript.mjs';

const base = process.argv[2];

async function ask(name, path, options) {
  const response = await fetch(base + path, options);
  const fields = [...response.headers].sort();
  tell(name, { status: response.status, reason: response.statusText, redirected: response.redirected, fields, body: body(await response.arrayBuffer()) });
}

async function* parts(count) {
  for (let at = 0; at < count; at += 1) yield letters(10_000);
}

await ask('get', '/hello');
await ask('head', '/hello', { method: 'HEAD' });
await ask('fields', '/headers', { headers: [['X-MiXeD', '1'], ['x-twice', '1'], ['x-twice', '2'], ['x-empty', '']] });
await ask('query', '/headers?a=b%20c&u=%C3%BC&e=');
await ask('form', '/headers', { method: 'POST', body: new URLSearchParams({ a: '1', b: '2' }) });
await ask('json', '/echo', { method: 'PUT', body: JSON.stringify({ a: [1, 2] }), headers: { 'content-type': 'application/json' } });
await ask('a large upload', '/upload', { method: 'POST', body: letters(big) });
await ask('a generated upload', '/upload', { method: 'POST', body: parts(50), duplex: 'half' });
await ask('a large echo', '/echo', { method: 'POST', body: letters(big) });
await ask('a large download', `/bytes/${big}`);
await ask('chunks', '/chunked');
await ask('gzip', '/gzip');
await ask('a redirect', '/redirect');
await ask('cookies', '/cookies');
await ask('many fields', '/many');
for (const status of [204, 304, 404, 500]) await ask(`status ${status}`, `/status/${status}`);
for (const method of ['OPTIONS', 'DELETE', 'PATCH']) await ask(`method ${method}`, '/headers', { method });

const sizes = await Promise.all(Array.from({ length: 50 }, async (_, at) => (await (await fetch(`${base}/bytes/${at * 5000}`)).arrayBuffer()).byteLength));
tell('fifty at once', { sizes });

const name = `fetch-${alphabet.length}`;
const events = [];
for await (const part of (await fetch(`${base}/events/${name}`)).body) {
  events.push(Buffer.from(part).toString());
  await fetch(`${base}/confirm/${name}`);
}
tell('events as they happen', { events });

// An answer that is given up half read must not spoil the next one.
const given = new AbortController();
const half = await fetch(`${base}/bytes/${big}`, { signal: given.signal });
given.abort();
tell('given up half read', { status: half.status });
await ask('after one given up half read', '/hello');
