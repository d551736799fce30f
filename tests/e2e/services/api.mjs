// The service `api`: asks `stock` with fetch.
import { createServer } from 'node:http';

const forwarded = ['traceparent', 'tracestate'];

const server = createServer(async (request, response) => {
  const headers = Object.fromEntries(forwarded.filter((name) => request.headers[name]).map((name) => [name, request.headers[name]]));
  try {
    const below = await fetch('http://stock/', { headers });
    response.writeHead(below.status).end(`api ${await below.text()}`);
  } catch (error) {
    response.writeHead(502).end(String(error.cause ?? error));
  }
});
server.listen(Number(process.env.PORT), '127.0.0.1', () => console.log('ready'));
