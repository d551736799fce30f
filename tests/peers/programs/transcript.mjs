// What the clients in Node tell of what they saw: one line of JSON per case.
import { createHash } from 'node:crypto';

export const alphabet = 'abcdefghijklmnopqrstuvwxyz0123456789';
export const big = 8 * 1024 * 1024 + 17;

export const letters = (count) => Buffer.alloc(count, alphabet);

// A body as it is told: small ones in full, others by their size and hash.
export function body(content) {
  const bytes = Buffer.from(content);
  if (bytes.length <= 20_000) return bytes.toString('latin1');
  return `${bytes.length} bytes, sha256 ${createHash('sha256').update(bytes).digest('hex')}`;
}

export const tell = (name, seen) => console.log(JSON.stringify({ case: name, ...seen }));

// A program that does not come to its end by itself has failed.
setTimeout(() => {
  console.error('too slow');
  process.exit(1);
}, 50_000).unref();
