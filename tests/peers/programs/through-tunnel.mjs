// HTTP/2 on a socket that CONNECT has opened: `through-tunnel.mjs HOST:PORT [PROXY]`, without a proxy directly.
import { request } from 'node:http';
import { connect } from 'node:http2';
import { connect as dial } from 'node:net';

const [origin, proxy] = process.argv.slice(2);
const [host, port] = origin.split(':');

const socket = await new Promise((resolve, reject) => {
  if (!proxy) return resolve(dial(port, host));
  const asked = request(proxy, { method: 'CONNECT', path: origin });
  asked.on('connect', (response, open, first) => {
    if (response.statusCode !== 200) return reject(new Error(response.statusCode));
    // The origin speaks first; what it said may have come along with the answer.
    open.unshift(first);
    resolve(open);
  });
  asked.on('error', reject);
  asked.end();
});
const session = connect(`http://${origin}`, { createConnection: () => socket });
for (const path of ['/hello', '/bytes/1000000', '/status/404']) {
  const stream = session.request({ ':path': path });
  let [status, size] = [0, 0];
  stream.on('response', (head) => (status = head[':status']));
  for await (const part of stream) size += part.length;
  console.log(path, status, size);
}
session.close();
