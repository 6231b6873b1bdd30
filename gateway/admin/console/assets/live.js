// The live view: one stream of server-sent events for all screens. When it breaks, the page says so
// at once and shows the age of its data. It connects again with the id of the last event.
import { headers, problemOf, signOut } from './api.js';
import { clean } from './text.js';
import { useEffect, useState } from './lib.js';

const keep = 900; // points of a history: 15 minutes
const keepLog = 200; // events that aren't snapshots
const silence = 4_000; // ms without an event, after which the stream counts as broken
const wait = [500, 1_000, 2_000, 5_000]; // ms before the next attempts; the last value is repeated

// live is the latest data. It is changed in place; draw redraws the components that use it.
export const live = {
  state: 'connecting', // connecting, open, broken, refused
  problem: '', // why it is broken
  snapshot: null,
  received: 0, // performance.now() of the last snapshot
  offset: 0, // ms that the server's clock is ahead of ours
  history: [], // points of the installation
  histories: new Map(), // activity -> points
  lags: [],
  log: [], // { id, kind, at, data }, newest first
};

const watchers = new Set();
const draw = () => watchers.forEach((f) => f());

// useLive redraws a component with each event and each second, so that ages and countdowns go on
// when the stream stops.
export function useLive() {
  const [, again] = useState(0);
  useEffect(() => {
    const f = () => again((n) => n + 1);
    watchers.add(f);
    return () => watchers.delete(f);
  }, []);
  return live;
}

// now is the server's clock, in ms.
export const now = () => Date.now() + live.offset;

// age is the seconds since the last snapshot came.
export const age = () => (live.received ? (performance.now() - live.received) / 1000 : null);

// secondsTo is the number of seconds until a time of the server; it is negative if that time has
// passed.
export const secondsTo = (at) => (Date.parse(at) - now()) / 1000;

const nothing = 'none'; // an id that no node has: the server then sends all events that it keeps
let lastID = nothing;
let stop = null;

// start opens the stream; it may be called again.
export function start() {
  if (stop) return;
  const over = new AbortController();
  stop = () => over.abort();
  const ticker = setInterval(draw, 1_000);
  over.signal.addEventListener('abort', () => clearInterval(ticker));
  run(over.signal);
}

// end closes the stream and forgets everything: the next person may have fewer rights.
export function end() {
  stop?.();
  stop = null;
  lastID = nothing;
  Object.assign(live, {
    state: 'connecting',
    problem: '',
    snapshot: null,
    received: 0,
    offset: 0,
    history: [],
    histories: new Map(),
    lags: [],
    log: [],
  });
  draw();
}

async function run(over) {
  for (let tries = 0; !over.aborted;) {
    const began = live.received;
    try {
      await listen(over);
      live.problem = 'The server has ended the stream.';
    } catch (e) {
      if (over.aborted) return;
      if (e.status === 401) signOut();
      live.problem = e.message;
      live.state = e.status === 401 || e.status === 403 || e.status === 404 ? 'refused' : 'broken';
    }
    if (over.aborted) return;
    if (live.state !== 'refused') live.state = 'broken';
    draw();
    tries = live.received > began ? 0 : tries + 1;
    const pause =
      live.state === 'refused' ? 30_000 : wait[Math.min(tries, wait.length - 1)] * (0.75 + Math.random() / 2);
    await new Promise((done) => {
      const timer = setTimeout(done, pause);
      over.addEventListener(
        'abort',
        () => {
          clearTimeout(timer);
          done();
        },
        { once: true },
      );
    });
  }
}

// listen reads the stream until it ends. It uses fetch, because EventSource doesn't give the status
// of a refusal.
async function listen(over) {
  const broken = new AbortController();
  const signal = AbortSignal.any([over, broken.signal]);
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => broken.abort(new Error('No data has come for some seconds.')), silence);
  };
  try {
    heard();
    const response = await fetch('/admin/v1/events', {
      signal,
      credentials: 'same-origin',
      cache: 'no-store',
      headers: headers({ Accept: 'text/event-stream', 'Last-Event-ID': lastID }),
    });
    if (!response.ok) throw problemOf(response, await response.text());
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ''; ;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      text += value;
      const parts = text.split(/\r?\n\r?\n/);
      text = parts.pop();
      parts.forEach(take);
    }
  } catch (e) {
    throw broken.signal.aborted
      ? broken.signal.reason
      : e instanceof TypeError
        ? new Error("Penstock can't be reached from here.")
        : e;
  } finally {
    clearTimeout(timer);
    broken.abort();
  }
}

// take handles one event.
function take(block) {
  let kind = 'message',
    data = '';
  for (const line of block.split(/\r?\n/)) {
    const colon = line.indexOf(':');
    const [name, value] = colon < 0 ? [line, ''] : [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, '')];
    if (name === 'event') kind = value;
    else if (name === 'data') data += data ? `\n${value}` : value;
    else if (name === 'id') lastID = value;
  }
  if (!data) return;
  const doc = JSON.parse(data, (_, v) => (typeof v === 'string' ? clean(v) : v));
  if (kind === 'live') show(doc);
  else {
    live.log.unshift({ id: lastID, kind, at: doc.at ?? new Date(now()).toISOString(), data: doc });
    live.log.length = Math.min(live.log.length, keepLog);
  }
  live.state = 'open';
  live.problem = '';
  draw();
}

// show handles a snapshot. Only the first one has the history; each of the others adds a second.
function show(s) {
  const at = Math.floor(Date.parse(s.at) / 1000);
  live.offset = Date.parse(s.at) - Date.now();
  live.received = performance.now();
  live.history = longer(live.history, s.history, {
    at,
    accepted: s.totals.accepted,
    paid: s.totals.paid,
    refused: s.totals.refused,
    lag: s.queue.lag,
  });
  const histories = new Map();
  for (const a of s.activities) {
    const next = { at, accepted: a.rates.accepted, paid: a.rates.paid, refused: a.rates.refused, lag: null };
    histories.set(a.activity, longer(live.histories.get(a.activity) ?? [], a.history, next));
  }
  live.histories = histories;
  live.snapshot = s;
}

// longer returns the history with one more point, or the history that the server sent.
function longer(old, sent, next) {
  if (sent?.length) return sent.at(-1).at < next.at ? [...sent, next] : sent;
  if (old.length && old.at(-1).at >= next.at) return old;
  return [...old.slice(-keep + 1), next];
}
