// The admin API, used like any client. The console shows its answers, and never guesses a result.
import { clean } from './text.js';

// Problem is an error answer (RFC 9457), in the API's words.
export class Problem extends Error {
  constructor(status, doc) {
    super(doc.detail || doc.title);
    Object.assign(this, {
      status,
      code: doc.code,
      title: doc.title,
      detail: doc.detail,
      errors: doc.errors ?? [],
      unknown: false,
    });
  }
}

// The token of this tab, if the store couldn't store a session. Only this variable has it, and it is
// gone with the tab.
let tabToken = '';

export const useTabToken = (token) => {
  tabToken = token;
};

// onSignedOut is called when the API doesn't accept the session, or no longer accepts it.
let signedOut = () => {};
export const onSignedOut = (f) => {
  signedOut = f;
};
export const signOut = () => signedOut();

// headers are the header fields of every request.
export const headers = (more = {}) => ({
  'X-Penstock-Console': '1',
  ...(tabToken && { Authorization: `Bearer ${tabToken}` }),
  ...more,
});

// segments makes a path; each part is escaped.
export const segments = (...parts) => `/admin/v1/${parts.map(encodeURIComponent).join('/')}`;

// query makes a query from the non-empty values.
export function query(values) {
  const given = Object.entries(values).filter(([, v]) => v !== undefined && v !== null && v !== '');
  return given.length ? `?${new URLSearchParams(given)}` : '';
}

// parse reads JSON. Hidden characters in texts are made visible, except in a document that will be
// written back (raw).
const parse = (text, raw) => JSON.parse(text, raw ? undefined : (_, v) => (typeof v === 'string' ? clean(v) : v));

// problemOf reads an error answer.
export function problemOf(response, text) {
  let doc;
  try {
    doc = parse(text);
  } catch {
    /* it comes from a server between this browser and Penstock */
  }
  if (typeof doc?.title === 'string') return new Problem(response.status, doc);
  return new Problem(response.status, {
    title: `HTTP ${response.status}`,
    detail: clean(text.slice(0, 300)) || 'The answer has no details.',
  });
}

const waitForRead = 20_000;
const waitForChange = 80_000; // longer than the server works on a change

// call sends a request and returns the answer's document; null if it has none. It throws a Problem.
export async function call(method, path, { body, header, raw, signal, full } = {}) {
  const reads = method === 'GET';
  const limit = AbortSignal.timeout(reads ? waitForRead : waitForChange);
  let response, text;
  try {
    response = await fetch(path, {
      method,
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
      credentials: 'same-origin',
      redirect: 'error',
      headers: headers({
        Accept: 'application/json',
        ...(body !== undefined && { 'Content-Type': 'application/json' }),
        ...header,
      }),
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    text = await response.text();
  } catch (e) {
    if (signal?.aborted) throw e;
    const problem = new Problem(0, {
      title: 'No answer came',
      detail: reads
        ? "Penstock can't be reached from here."
        : "Nobody knows whether this happened. Check before you repeat it.",
    });
    problem.unknown = !reads;
    throw problem;
  }
  if (!response.ok) {
    if (response.status === 401 && path !== '/login') signedOut();
    throw problemOf(response, text);
  }
  const doc = text ? parse(text, raw) : null;
  return full ? { doc, header: response.headers } : doc;
}

export const get = (path, options) => call('GET', path, options);
export const post = (path, body, options) => call('POST', path, { body, ...options });
export const put = (path, body, options) => call('PUT', path, { body, ...options });
export const del = (path, reason) => call('DELETE', path, { header: reason ? { 'X-Reason': fieldText(reason) } : {} });

// fieldText is a text for a header field: bytes of UTF-8.
const fieldText = (text) => String.fromCharCode(...new TextEncoder().encode(text));

// pages reads a list to its end, or to at most `most` entries.
export async function pages(path, { list = 'items', after = 'after', most = 1000, signal } = {}) {
  const all = [];
  for (let next = ''; ;) {
    const doc = await get(
      path + (next === '' ? '' : `${path.includes('?') ? '&' : '?'}${after}=${encodeURIComponent(next)}`),
      { signal },
    );
    all.push(...doc[list]);
    if (doc.next === undefined || doc.next === null || !doc[list].length || all.length >= most) return all;
    next = doc.next;
  }
}

// newKey is an idempotency key. On plain http, crypto.randomUUID doesn't exist.
export const newKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');
