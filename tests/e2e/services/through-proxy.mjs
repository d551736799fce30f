// Loads the shim (first argument) beside a proxy that answers with what it was asked, and claims what goes through it.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import http from 'node:http';
import { once } from 'node:events';

const server = http.createServer(async (request, response) => {
  let body = '';
  for await (const part of request) body += part;
  response.end(`${request.method} ${request.url} ${request.headers.host} ${body}`.trim());
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const { port } = server.address();

process.env.HTTP_PROXY = process.env.http_proxy = `http://127.0.0.1:${port}`;
process.env.NO_PROXY = process.env.no_proxy = '127.0.0.1,localhost,::1,.direct.invalid,other:81';
if (process.allowedNodeEnvironmentFlags.has('--use-env-proxy')) {
  console.log('ok'); // This Node does it by itself, and the shim stays out of its way.
  process.exit();
}
createRequire(import.meta.url)(process.argv[2]);

const fetched = async (...request) => (await fetch(...request)).text();
const asked = async (request) => {
  const [response] = await once(request.end(), 'response');
  let body = '';
  for await (const part of response) body += part;
  return body;
};

// fetch: names and ports, methods and bodies, Request objects, many at once.
assert.equal(await fetched('http://api/x?y=1#z'), 'GET http://api/x?y=1 api');
assert.equal(await fetched('http://api:8080/', { method: 'POST', body: 'hello' }), 'POST http://api:8080/ api:8080 hello');
assert.equal(await fetched(new Request('http://[fe80::1]:81/v6')), 'GET http://[fe80::1]:81/v6 [fe80::1]:81');
const many = await Promise.all(Array.from({ length: 50 }, (_, index) => fetched(`http://api/${index}`)));
assert.deepEqual(many, Array.from({ length: 50 }, (_, index) => `GET http://api/${index} api`));

// http.request, with every kind of agent and of headers.
const keepAlive = new http.Agent({ keepAlive: true });
assert.equal(await asked(http.request('http://api/plain')), 'GET http://api/plain api');
for (const agent of [keepAlive, keepAlive, false, undefined]) {
  const options = { host: 'api', port: 81, path: '/agent', agent };
  assert.equal(await asked(http.request(options)), 'GET http://api:81/agent api:81');
}
const listed = { host: 'api', path: '/list', headers: ['X-A', '1', 'Host', 'api'] };
assert.equal(await asked(http.request(listed)), 'GET http://api/list api');

// What NO_PROXY excepts is not asked of the proxy; neither is HTTPS.
assert.equal(await fetched(`http://127.0.0.1:${port}/direct`), `GET /direct 127.0.0.1:${port}`);
assert.equal(await asked(http.request(`http://localhost:${port}/direct`)), `GET /direct localhost:${port}`);
for (const url of ['http://a.direct.invalid/', 'http://other:81/', 'https://api.invalid/']) {
  await assert.rejects(fetched(url), TypeError, url);
}
assert.equal(await fetched('http://other:82/'), 'GET http://other:82/ other:82');

console.log('ok');
process.exit();
