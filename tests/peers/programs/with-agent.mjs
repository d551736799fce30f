// Node's own HTTP client on kept-alive connections: `with-agent.mjs URL`. Sees heads as they came, trailers and interim
// answers.
import { Agent, request } from 'node:http';
import { big, body, letters, tell } from './transcript.mjs';

const base = process.argv[2];
const agent = new Agent({ keepAlive: true, maxSockets: 1 });

function ask(name, path, { sends = [], trailers, ...options } = {}) {
  return new Promise((resolve, reject) => {
    const interim = [];
    const outgoing = request(base + path, { agent, ...options });
    outgoing.on('continue', () => interim.push(100));
    outgoing.on('information', (head) => interim.push(head.statusCode));
    outgoing.on('error', reject);
    outgoing.on('response', async (response) => {
      const parts = [];
      for await (const part of response) parts.push(part);
      const { statusCode: status, statusMessage: reason, httpVersion: version, rawHeaders: fields } = response;
      tell(name, { version, status, reason, interim, fields, body: body(Buffer.concat(parts)), trailers: response.rawTrailers });
      resolve();
    });
    const send = () => {
      for (const part of sends) outgoing.write(part);
      if (trailers) outgoing.addTrailers(trailers);
      outgoing.end();
    };
    if (options.headers?.Expect) outgoing.once('continue', send).flushHeaders();
    else send();
  });
}

await ask('get', '/hello');
await ask('head', '/hello', { method: 'HEAD' });
await ask('fields as sent', '/headers', { headers: { 'X-MiXeD-cAsE': '1', 'x-lower': '2', 'X-Twice': ['1', '2'], 'X-Empty': '' } });
await ask('trailers of the answer', '/chunked', { headers: { TE: 'trailers' } });
await ask('trailers of the request', '/upload', {
  method: 'POST',
  headers: { Trailer: 'X-Sum', 'Transfer-Encoding': 'chunked' },
  sends: ['one', 'two'],
  trailers: { 'X-Sum': '99' },
});
await ask('100-continue', '/upload', { method: 'POST', headers: { Expect: '100-continue', 'Content-Length': 6 }, sends: ['onetwo'] });
await ask('a large upload', '/upload', { method: 'POST', sends: [letters(big)] });
await ask('a large download', `/bytes/${big}`);
await ask('a large echo', '/echo', { method: 'POST', sends: [letters(big)] });
for (const status of [204, 304, 404, 500]) await ask(`status ${status}`, `/status/${status}`);
await ask('an odd reason', '/reason');
await ask('many fields', '/many');
for (let at = 0; at < 50; at += 1) await ask(`request ${at} of one connection`, `/bytes/${at * 100}`);
agent.destroy();
