// `ws` as WebSocket client: `websocket-client.mjs URL`. Resolved from target/peers/node by NODE_PATH.
import { createRequire } from 'node:module';
import { body, letters, tell } from './transcript.mjs';

const { WebSocket } = createRequire(`${process.env.NODE_PATH}/`)('ws');
const base = process.argv[2].replace('http', 'ws');

function open(path, protocols, options) {
  return new Promise((resolve) => {
    const socket = new WebSocket(base + path, protocols, options);
    const messages = [];
    const waiting = [];
    socket.on('message', (content, binary) => {
      const message = { binary, content };
      if (waiting.length) waiting.shift()(message);
      else messages.push(message);
    });
    socket.next = () => new Promise((got) => (messages.length ? got(messages.shift()) : waiting.push(got)));
    socket.closed = new Promise((got) => socket.on('close', (code, reason) => got({ code, reason: reason.toString() })));
    socket.on('unexpected-response', (_request, response) => resolve({ refused: response.statusCode }));
    socket.on('error', (error) => resolve({ refused: error.message }));
    socket.on('open', () => resolve(socket));
  });
}

async function talk(name, path, protocols, options, messages) {
  const socket = await open(path, protocols, options);
  if (socket.refused) return tell(name, { refused: socket.refused });
  const echoed = [];
  for (const message of messages) {
    socket.send(message);
    const { binary, content } = await socket.next();
    echoed.push([binary, body(content)]);
  }
  socket.close(4001, 'enough');
  tell(name, { protocol: socket.protocol, extensions: socket.extensions, echoed, closed: await socket.closed });
}

const compressed = { perMessageDeflate: true };
const plain = { perMessageDeflate: false };
await talk('texts', '/echo', [], plain, ['', 'a', 'gr\u00fc\u00df', 'x'.repeat(125), 'x'.repeat(126), 'x'.repeat(65_535), 'x'.repeat(65_536)]);
await talk('bytes', '/echo', [], plain, [letters(0), letters(1), letters(126), letters(70_000), letters(4 << 20)]);
await talk('compressed', '/echo', [], compressed, ['a'.repeat(100_000), letters(200_000)]);
await talk('a sub-protocol', '/echo', ['chat', 'superchat'], plain, ['hello']);
await talk('fields', '/echo', [], { ...plain, headers: { 'X-Mixed': '1' }, origin: 'http://shop.test' }, ['hello']);
await talk('refused', '/refuse', [], plain, []);

for (const code of [1000, 1001, 1008, 1011, 3000, 4999]) {
  const socket = await open(`/close/${code}`, [], plain);
  tell(`closed by the other side with ${code}`, await socket.closed);
}

const pinged = await open('/echo', [], plain);
const pong = new Promise((resolve) => pinged.once('pong', (content) => resolve(content.toString())));
pinged.ping('are you there');
tell('ping', { pong: await pong });
pinged.terminate();

const fragments = await open('/echo', [], plain);
for (const [part, fin] of [['one ', false], ['two ', false], ['three', true]]) fragments.send(part, { fin });
tell('fragments', { message: (await fragments.next()).content.toString() });
fragments.close();

const many = await open('/echo', [], plain);
for (let at = 0; at < 2000; at += 1) many.send(`message ${at}`);
let inOrder = 0;
for (let at = 0; at < 2000; at += 1) inOrder += (await many.next()).content.toString() === `message ${at}`;
tell('two thousand in order', { inOrder });
many.close();

const greeted = await open('/greet', [], plain);
tell('the other side speaks first', { greeting: (await greeted.next()).content.toString() });
greeted.close();
const together = await Promise.all(Array.from({ length: 50 }, async (_, at) => {
  const socket = await open('/echo', [], plain);
  socket.send(`socket ${at}`);
  const answer = (await socket.next()).content.toString();
  socket.close();
  return answer;
}));
tell('fifty at once', { together });
process.exit(0);
