// The origin that the clients ask, in Node: `origin.mjs http1 | http2 [CERTIFICATE KEY]`, HTTP/2 over TLS where these files
// are given. Says `ready PORT`. The same routes as origin.py.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createSecureServer, createServer as createServer2 } from 'node:http2';
import { gzipSync } from 'node:zlib';

const letters = 'abcdefghijklmnopqrstuvwxyz0123456789';
const http2 = process.argv[2] === 'http2';

async function received(request) {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const part of request) {
    bytes += part.length;
    hash.update(part);
  }
  return { bytes, sha256: hash.digest('hex'), trailers: request.rawTrailers };
}

function json(response, value, size = 0) {
  // A character of a field is a byte of it.
  const text = Buffer.from(JSON.stringify(value).padEnd(size), 'latin1');
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': text.length }).end(text);
}

// Writes `count` bytes as fast as the other side takes them, and no faster.
function bytes(response, count) {
  const block = Buffer.alloc(36 * 1024, letters);
  response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': count });
  let left = count;
  const go = () => {
    while (left > 0) {
      const part = block.subarray(0, Math.min(left, block.length));
      left -= part.length;
      if (!response.write(part)) return response.once('drain', go);
    }
    response.end();
  };
  go();
}

async function answer(request, response) {
  const [, route, argument] = request.url.replace(/^http:\/\/[^/]*/, '').split('?')[0].split('/');
  switch (route) {
    case 'hello':
      response.writeHead(200, { 'Content-Type': 'text/plain', 'X-Origin': 'node', ETag: '"1"', 'content-length': 5 });
      return response.end(request.method === 'HEAD' ? undefined : 'hello');
    case 'headers': {
      await received(request);
      // Of a fixed size, so that two accounts differ in nothing but what they tell.
      return json(response, { method: request.method, target: request.url, fields: request.rawHeaders }, 16_384);
    }
    case 'bytes':
      return bytes(response, Number(argument));
    case 'upload':
      return json(response, await received(request));
    case 'echo': {
      // All of it is read before the answer begins: not every server can do both at once.
      const parts = [];
      for await (const part of request) parts.push(part);
      response.writeHead(200, { 'content-type': request.headers['content-type'] ?? 'application/octet-stream' });
      return response.end(Buffer.concat(parts));
    }
    case 'turns':
      response.writeHead(200, { 'content-type': 'application/octet-stream' });
      return request.pipe(response);
    case 'status':
      await received(request);
      response.writeHead(Number(argument), ['204', '304'].includes(argument) ? { 'x-empty': '' } : { 'content-length': 6 });
      return response.end(['204', '304'].includes(argument) ? undefined : 'status');
    case 'reason':
      return response.writeHead(299, http2 ? undefined : 'Fine Enough', { 'content-length': 0 }).end();
    case 'chunked':
      response.writeHead(200, { 'content-type': 'text/plain', ...(request.httpVersion === '1.1' ? { Trailer: 'X-Checksum' } : {}) });
      for (const part of ['one ', 'two ', 'three']) response.write(part);
      if (request.httpVersion !== '1.0') response.addTrailers({ 'X-Checksum': '123' });
      return response.end();
    case 'events': {
      response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
      // The next event is told only after the client has confirmed, on another connection, that it has the last one.
      const told = Array.from({ length: 3 }, (_, at) => at);
      streams.set(argument, () => {
        const at = told.shift();
        if (at === undefined) return response.end();
        response.write(`id: ${at}\ndata: event ${at}\n\n`);
      });
      return streams.get(argument)();
    }
    case 'confirm':
      streams.get(argument)?.();
      return json(response, { confirmed: streams.has(argument) });
    case 'cookies':
      return response.writeHead(200, { 'Set-Cookie': ['a=1; Path=/', 'b=2; Path=/'], 'content-length': 0 }).end();
    case 'redirect':
      return response.writeHead(302, { location: '/hello', 'content-length': 0 }).end();
    case 'gzip': {
      const body = gzipSync(letters.repeat(100));
      return response.writeHead(200, { 'content-encoding': 'gzip', vary: 'Accept-Encoding', 'content-length': body.length }).end(body);
    }
    case 'many': {
      const fields = Object.fromEntries(Array.from({ length: 60 }, (_, at) => [`X-Field-${at}`, letters.repeat(at % 7)]));
      return response.writeHead(200, { ...fields, 'content-length': 0 }).end();
    }
    default:
      response.writeHead(404, { 'content-length': 9 }).end(request.method === 'HEAD' ? undefined : 'not found');
  }
}

const streams = new Map();
const [certificate, key] = process.argv.slice(3).map((file) => readFileSync(file));
const secure = () => createSecureServer({ cert: certificate, key });
const server = certificate ? secure() : http2 ? createServer2() : createServer({ keepAliveTimeout: 60_000 });
server.on('request', (request, response) => {
  response.on('error', () => {});
  answer(request, response).catch(() => response.destroy?.());
});
server.on('checkContinue', (request, response) => {
  if (request.url.startsWith('/refuse')) {
    response.writeHead(417, { 'content-length': 7, ...(http2 ? {} : { connection: 'close' }) });
    return response.end('refused');
  }
  response.writeContinue();
  answer(request, response).catch(() => response.destroy?.());
});
server.listen(0, '127.0.0.1', () => console.log(`ready ${server.address().port}`));
