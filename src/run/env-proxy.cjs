// Makes Node.js send plain HTTP through HTTP_PROXY where Node itself cannot: before 22.21 and 24.5 neither `fetch` nor
// `http.request` reads the variable. Loaded with `--require` by `couplet run`; the application stays as it is.
//
// Deliberately missing: HTTPS (a sidecar cannot look into it), and agents or dispatchers that the application brought
// to choose its own way out.
'use strict';

const proxy = proxyFromEnvironment();
const native = process.allowedNodeEnvironmentFlags.has('--use-env-proxy');
if (proxy && !native) {
  routeHttpAgents(require('http'));
  routeFetch();
}

// `http.request`, and every library above it. The agent is the last to see a request before it gets a connection, and
// the place where all callers meet, those that destructured `request` from the module included.
function routeHttpAgents(http) {
  const addRequest = http.Agent.prototype.addRequest;
  http.Agent.prototype.addRequest = function addRequestThroughProxy(request, options, ...rest) {
    // `https.Agent` inherits this method; a path that is a URL already was written by another proxy agent.
    const plain = this.protocol === 'http:' && options && typeof options === 'object' && !options.socketPath;
    if (!plain || !String(request.path).startsWith('/')) return addRequest.call(this, request, options, ...rest);

    const host = options.host || options.hostname || 'localhost';
    const port = Number(options.port) || 80;
    if (goesDirect(host, port)) return addRequest.call(this, request, options, ...rest);

    const path = request.path;
    request.path = `http://${authority(host, port)}${path}`;
    // Headers given as a list are written before the agent is asked; then the request line is in there, too.
    if (typeof request._header === 'string') {
      request._header = request._header.replace(`${request.method} ${path} `, () => `${request.method} ${request.path} `);
    }
    const hop = { ...options, host: proxy.host, hostname: proxy.host, port: proxy.port };
    return addRequest.call(this, request, hop, ...rest);
  };
}

// `fetch` asks the global dispatcher, which Node creates together with the first of fetch's classes that is touched.
function routeFetch() {
  if (typeof globalThis.Response !== 'function') return;
  const dispatcher = globalThis[Symbol.for('undici.globalDispatcher.1')];
  if (!dispatcher || typeof dispatcher.dispatch !== 'function') return;

  const dispatch = dispatcher.dispatch;
  dispatcher.dispatch = function dispatchThroughProxy(options, handler) {
    return dispatch.call(this, throughProxy(options), handler);
  };
}

function throughProxy(options) {
  let origin;
  try {
    origin = new URL(String(options.origin));
  } catch {
    return options;
  }
  const host = bare(origin.hostname);
  const port = Number(origin.port) || 80;
  const plain = origin.protocol === 'http:' && String(options.path).startsWith('/');
  if (!plain || goesDirect(host, port)) return options;

  const target = authority(host, port);
  return {
    ...options,
    origin: `http://${authority(proxy.host, proxy.port)}`,
    path: `http://${target}${options.path}`,
    headers: withHost(options.headers, target),
  };
}

// Headers come as a flat list (name, value, name, value), as an object, or as something that yields pairs.
function withHost(headers, host) {
  if (headers == null) return { host };
  const flat = Array.isArray(headers) && !Array.isArray(headers[0]);
  const names = flat
    ? headers.filter((_, index) => index % 2 === 0)
    : typeof headers[Symbol.iterator] === 'function'
      ? (headers = [...headers]).map(([name]) => name)
      : Object.keys(headers);
  if (names.some((name) => String(name).toLowerCase() === 'host')) return headers;
  if (flat) return [...headers, 'host', host];
  return Array.isArray(headers) ? [...headers.flat(), 'host', host] : { ...headers, host };
}

// The same reading of NO_PROXY as curl's: a name matches itself and everything below it, `*` matches all.
function goesDirect(host, port) {
  const name = bare(host.toLowerCase());
  return noProxy().some((entry) => {
    if (entry === '*') return true;
    // One colon outside of brackets separates a port; an IPv6 address without brackets has more of them.
    const [, hostPart, portPart] = /^(\[.+\]|[^:]+):(\d+)$/.exec(entry) || [null, entry, null];
    if (portPart && Number(portPart) !== port) return false;
    const domain = bare(hostPart).replace(/^\*?\./, '');
    return domain !== '' && (name === domain || name.endsWith(`.${domain}`));
  });
}

function noProxy() {
  const text = process.env.no_proxy || process.env.NO_PROXY || '';
  return text.toLowerCase().split(/[\s,]+/).filter(Boolean);
}

function authority(host, port) {
  const name = host.includes(':') && !host.startsWith('[') ? `[${host}]` : host;
  return port === 80 ? name : `${name}:${port}`;
}

// An IPv6 address without its brackets.
function bare(host) {
  return host.replace(/^\[|\]$/g, '');
}

function proxyFromEnvironment() {
  const text = process.env.http_proxy || process.env.HTTP_PROXY;
  if (!text) return null;
  try {
    const url = new URL(text.includes('://') ? text : `http://${text}`);
    if (url.protocol !== 'http:') return null;
    return { host: bare(url.hostname), port: Number(url.port) || 80 };
  } catch {
    return null;
  }
}
