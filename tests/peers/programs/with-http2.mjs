// Node's HTTP/2 client by prior knowledge: `with-http2.mjs URL ORIGIN`. One session for everything. What the named origin
// cannot do even by itself is left out.
import { connect } from 'node:http2';
import { big, body, letters, tell } from './transcript.mjs';

const [base, origin] = process.argv.slice(2);
const isNginx = origin.startsWith('nginx');
const isNode = origin.startsWith('Node');
const session = connect(base);
session.on('error', (error) => {
  console.error('session', error);
  process.exit(1);
});

function ask(path, { sends, trailers, ...fields } = {}, quiet) {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ':path': path, ...fields }, { endStream: !sends, waitForTrailers: !!trailers });
    const seen = { interim: [] };
    const parts = [];
    stream.on('error', reject);
    stream.on('continue', () => seen.interim.push(100));
    stream.on('headers', (head) => seen.interim.push(head[':status']));
    stream.on('response', (head, _flags, raw) => Object.assign(seen, { status: head[':status'], fields: raw ?? Object.entries(head) }));
    stream.on('trailers', (head) => Object.assign(seen, { trailers: Object.entries(head) }));
    stream.on('data', (part) => parts.push(part));
    stream.on('end', () => resolve({ ...seen, body: quiet ? undefined : body(Buffer.concat(parts)), bytes: Buffer.concat(parts).length }));
    if (trailers) stream.on('wantTrailers', () => stream.sendTrailers(trailers));
    if (sends) stream.end(sends);
  });
}

const cases = {
  get: ['/hello'],
  head: ['/hello', { ':method': 'HEAD' }],
  fields: ['/headers', { 'x-one': '1', 'x-twice': ['1', '2'], 'x-empty': '', cookie: ['a=1', 'b=2'] }],
  query: ['/headers?a=b%20c&u=%C3%BC&e='],
  authority: ['/headers', { ':authority': 'shop.test:8080' }],
  'a large upload': ['/upload', { ':method': 'POST', sends: letters(big) }],
  'an upload of known length': ['/upload', { ':method': 'POST', 'content-length': 1000, sends: letters(1000) }],
  // nginx ends the session where a request has trailers.
  ...(isNginx ? {} : { 'an upload with trailers': ['/upload', { ':method': 'POST', sends: letters(1000), trailers: { 'x-sum': '99' } }] }),
  '100-continue': ['/upload', { ':method': 'POST', expect: '100-continue', sends: letters(10) }],
  'a large download': [`/bytes/${big}`],
  'a large echo': ['/echo', { ':method': 'POST', sends: letters(big) }],
  'trailers of the answer': ['/chunked', { te: 'trailers' }],
  cookies: ['/cookies'],
  'many fields': ['/many'],
  gzip: ['/gzip'],
  'status 204': ['/status/204'],
  'status 304': ['/status/304'],
  'status 500': ['/status/500'],
  delete: ['/headers', { ':method': 'DELETE' }],
};
for (const [name, [path, options]] of Object.entries(cases)) tell(name, await ask(path, options));

const answers = await Promise.all(Array.from({ length: 80 }, (_, at) => ask(`/bytes/${at * 3000}`, {}, true)));
tell('eighty streams at once', { sizes: answers.map(({ bytes }) => bytes) });

// A stream that is not read must not hold up the others: more than a window's worth is waiting on it. (HAProxy itself has
// one connection for both.)
if (isNode) {
  const held = session.request({ ':path': `/bytes/${big}` });
  held.pause();
  await new Promise((resolve) => held.once('response', resolve));
  tell('beside a stream that is not read', await ask('/hello'));
  held.close(8);
}

const stream = session.request({ ':path': '/events/http2' });
const events = [];
for await (const part of stream) {
  events.push(part.toString());
  await ask('/confirm/http2');
}
tell('events as they happen', { events });

// Both directions at once: what is sent second depends on what came first.
if (!isNginx) {
  const duplex = session.request({ ':path': '/turns', ':method': 'POST' });
  const turns = [];
  duplex.write('turn 0');
  for await (const part of duplex) {
    turns.push(part.toString());
    if (turns.length < 5) duplex.write(`turn ${turns.length}`);
    else duplex.end();
  }
  tell('both directions at once', { turns });
}
session.close();
