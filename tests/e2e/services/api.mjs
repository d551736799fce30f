// The service `api`: asks `stock` with fetch.
import { createServer } from 'node:http';

// A silent service forwards nothing, like one that knows nothing of tracing.
const forwarded = process.env.SILENT ? [] : ['traceparent', 'tracestate'];
const below = process.env.BELOW ?? 'stock';

const server = createServer(async (request, response) => {
  const headers = Object.fromEntries(forwarded.filter((name) => request.headers[name]).map((name) => [name, request.headers[name]]));
  try {
    const answer = await fetch(`http://${below}/`, { headers });
    response.writeHead(answer.status).end(`api ${await answer.text()}`);
  } catch (error) {
    response.writeHead(502).end(String(error.cause ?? error));
  }
});
server.listen(Number(process.env.PORT), '127.0.0.1', () => console.log('ready'));
