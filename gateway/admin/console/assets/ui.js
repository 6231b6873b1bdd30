// The parts of screens.
import { html, createContext, useContext, useEffect, useId, useRef, useState } from './lib.js';
import { get } from './api.js';
import { secondsTo } from './live.js';
import { span, time, unknown } from './text.js';

// Me is the person who is logged in: { name, role, merchant, session, expires_at }.
export const Me = createContext(null);

const included = {
  admin: ['admin', 'operator', 'support', 'finance', 'viewer'],
  operator: ['operator', 'support', 'viewer'],
  support: ['support', 'viewer'],
  finance: ['finance', 'viewer'],
  viewer: ['viewer'],
};

// useMay returns why this person may not use an action of a role; '' if the person may.
export function useMay(role) {
  const me = useContext(Me);
  return included[me.role].includes(role) ? '' : `needs the role ${role}, yours is ${me.role}`;
}

// useBound is the merchant that the person is bound to, or ''.
export const useBound = () => useContext(Me).merchant ?? '';

// useGet reads a document, then again every so many seconds, and when again() is called. When a
// read fails, the last document stays; problem has the error, and at has the time of the document.
// ask is a path, or a function that gets a signal; '' reads nothing.
export function useGet(ask, every = 0, key = ask) {
  const [state, set] = useState({ doc: null, problem: null, at: 0, busy: true });
  const [turn, again] = useState(0);
  useEffect(() => {
    if (!ask) return undefined;
    const over = new AbortController();
    let timer;
    const read = async () => {
      try {
        const doc = await (typeof ask === 'function' ? ask(over.signal) : get(ask, { signal: over.signal }));
        if (!over.signal.aborted) set({ doc, problem: null, at: Date.now(), busy: false, key });
      } catch (problem) {
        if (!over.signal.aborted)
          set((old) => ({ ...old, doc: old.key === key ? old.doc : null, problem, busy: false, key }));
      }
      if (every && !over.signal.aborted) timer = setTimeout(read, every * 1000);
    };
    read();
    return () => {
      over.abort();
      clearTimeout(timer);
    };
  }, [key, every, turn]);
  return { ...state, doc: state.key === key ? state.doc : null, again: () => again((n) => n + 1) };
}

// ProblemBox shows an error answer, in the API's words.
export function ProblemBox({ problem }) {
  if (!problem) return null;
  return html`<div class="problem" role="alert"><strong>${problem.title ?? 'It failed'}</strong>
    <p>${problem.detail ?? problem.message}</p>
    ${problem.errors?.length > 0 && html`<ul>${problem.errors.map((e) => html`<li><code>${e.field}</code> ${e.detail}</li>`)}</ul>`}
    ${problem.code && html`<p class="note">${problem.status} <a href=${`/problems/${problem.code}`} target="_blank">${problem.code}</a></p>`}
  </div>`;
}

// Loaded shows a document, or why there is none. When it can't be read again, the old one stays,
// with its time.
export function Loaded({ of, children }) {
  if (!of.doc && of.problem) return html`<${ProblemBox} problem=${of.problem} />`;
  if (!of.doc) return html`<p class="note">Reading …</p>`;
  return html`${of.problem && html`<p class="warning" role="status">This was read at ${time(of.at)}: ${of.problem.message}</p>`}${children(of.doc)}`;
}

// Table is a table of rows. columns: [{ head, cell(row), number, wide }]. It scrolls if it is
// too wide.
export function Table({ label, columns, rows, empty = 'None.', rowKey, rowClass }) {
  if (!rows.length) return html`<p class="note">${empty}</p>`;
  return html`<div class="scroll" role="region" aria-label=${label} tabindex="0"><table><caption class="quiet">${label}</caption>
    <thead><tr>${columns.map((c) => html`<th scope="col" class=${c.number ? 'number' : ''}>${c.head || html`<span class="quiet">What to do</span>`}</th>`)}</tr></thead>
    <tbody>${rows.map(
      (row, i) => html`<tr key=${rowKey ? rowKey(row) : i} class=${rowClass?.(row) ?? ''}>
      ${columns.map((c) => html`<td class=${`${c.number ? 'number' : ''} ${c.wide ? 'wide' : ''}`}>${c.cell(row) ?? unknown}</td>`)}</tr>`,
    )}
    </tbody></table></div>`;
}

// Copy copies a text to the clipboard. A browser without one (on plain http) selects the text
// instead.
export function Copy({ text, of }) {
  const box = useRef(null);
  const [said, say] = useState('');
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      say('copied');
    } catch {
      getSelection().selectAllChildren(box.current);
      say('selected: copy it with your keyboard');
    }
    setTimeout(() => say(''), 3000);
  };
  return html`<span class="copy"><code ref=${box} class="line">${text}</code>
    <button type="button" class="small" aria-label=${`Copy ${of}`} onClick=${copy}>Copy</button>
    <span role="status" class="note">${said}</span></span>`;
}

// calm puts activities in an order that no second changes: people press their buttons. Those that
// run come first, the newest first, then those to come.
const ranks = { 'on-sale': 0, paused: 0, scheduled: 1 };
export const rank = (a) => ranks[a.state] ?? 2;
export const calm = (list) =>
  [...list].sort(
    (a, b) =>
      rank(a) - rank(b) ||
      (Date.parse(a.starts_at) - Date.parse(b.starts_at)) * (rank(a) === 1 ? 1 : -1) ||
      (a.activity < b.activity ? -1 : 1),
  );

// still puts rows in the order of keys; new ones come last.
export function still(rows, keys, key) {
  const at = new Map(keys.map((k, i) => [k, i]));
  const place = (row) => at.get(key(row)) ?? at.size;
  return [...rows].sort((a, b) => place(a) - place(b));
}

// Left is a countdown to a time of the server.
export function Left({ until, over = 'over' }) {
  if (!until) return html`<span class="note">no end</span>`;
  const s = secondsTo(until);
  return html`<span class="left">${s > 0 ? span(s) : over}</span>`;
}

// Tag is a state: a word with a colour.
export const Tag = ({ kind, children }) => html`<span class=${`tag ${kind}`}>${children}</span>`;

// Tiles shows a few important numbers.
export const Tiles = ({ of }) =>
  html`<dl class="tiles">${of.filter(Boolean).map(
    ([name, value, kind]) => html`
  <div class=${kind ?? ''}><dt>${name}</dt><dd>${value}</dd></div>`,
  )}</dl>`;

// Field is a labelled input. It calls set with the new value.
export function Field({ field, value, set }) {
  const id = useId();
  const { type = 'text', label, help, required, options, name } = field;
  const common = { id, name, required, 'aria-describedby': help ? `${id}-help` : undefined };
  const input = (e) => set(e.currentTarget.value);
  let control;
  if (type === 'select') {
    // One option is always chosen. "Everybody" is first and has no value, so a browser would take
    // it for no choice.
    control = html`<select ...${{ ...common, required: undefined }} value=${value ?? ''} onChange=${input}>
      ${options.map(([v, text]) => html`<option value=${v} selected=${v === (value ?? '')}>${text}</option>`)}</select>`;
  } else if (type === 'check') {
    control = html`<input type="checkbox" ...${common} checked=${Boolean(value)} onChange=${(e) => set(e.currentTarget.checked)} />`;
  } else if (type === 'long') {
    control = html`<textarea ...${common} rows="3" maxlength=${field.most} value=${value ?? ''} onInput=${input}></textarea>`;
  } else {
    control = html`<input type=${type} ...${common} value=${value ?? ''} onInput=${input} min=${field.min} max=${field.max} step=${field.step}
      maxlength=${field.most} placeholder=${field.placeholder} list=${options ? `${id}-list` : undefined} autocomplete="off" spellcheck=${false} />
      ${options && html`<datalist id=${`${id}-list`}>${options.map((o) => html`<option value=${o} />`)}</datalist>`}`;
  }
  return html`<div class=${`field ${type}`}><label for=${id}>${label}${required ? '' : html` <span class="note">(if needed)</span>`}</label>${control}
    ${help && html`<p class="note" id=${`${id}-help`}>${help}</p>`}</div>`;
}

// Section is a part of a screen.
export const Section = ({ title, note, actions, children }) => html`<section class="part">
  <div class="partHead"><h2>${title}</h2>${actions && html`<div class="actions">${actions}</div>`}</div>
  ${note && html`<p class="note">${note}</p>`}${children}</section>`;
