// `ws` as WebSocket server. Says `ready PORT`. The same routes as websocket-server.py.
import { createRequire } from 'node:module';
import { createServer } from 'node:http';

const { WebSocketServer } = createRequire(`${process.env.NODE_PATH}/`)('ws');
const server = createServer((_request, response) => response.writeHead(426, { 'content-length': 0 }).end());
const sockets = new WebSocketServer({
  noServer: true,
  perMessageDeflate: true,
  handleProtocols: (asked) => (asked.has('chat') ? 'chat' : false),
});
server.on('upgrade', (request, socket, head) => {
  const [, route, argument] = request.url.split('/');
  if (route === 'refuse') return socket.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n');
  sockets.handleUpgrade(request, socket, head, (peer) => {
    peer.on('error', () => {});
    if (route === 'close') return peer.close(Number(argument), 'as asked');
    if (route === 'greet') return peer.send('hello first');
    peer.on('message', (content, binary) => peer.send(content, { binary }));
  });
});
server.listen(0, '127.0.0.1', () => console.log(`ready ${server.address().port}`));
