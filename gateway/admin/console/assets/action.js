// All changes go through here: a button, and a dialog. The dialog says what will happen, asks for a
// reason, shows the command of `penstock ctl` that does the same, and shows the API's answer. A
// change is called done only after the API has said so.
import { html, useContext, useEffect, useId, useLayoutEffect, useRef, useState } from './lib.js';
import { Copy, Field, Me, ProblemBox, useMay } from './ui.js';
import { newKey } from './api.js';
import { clean, ctlLine } from './text.js';

// Reason is the field that every change has.
export const reason = {
  name: 'reason',
  label: 'Why',
  type: 'long',
  most: 500,
  required: true,
  help: 'It is kept in the list of changes.',
};

// until is the field for a change that ends by itself.
export const until = (value = '10m', more = [['', 'no end']]) => ({
  name: 'expires',
  label: 'Ends by itself after',
  type: 'select',
  value,
  required: true,
  options: [
    ['5m', '5 minutes'],
    ['10m', '10 minutes'],
    ['30m', '30 minutes'],
    ['1h', '1 hour'],
    ['4h', '4 hours'],
    ['12h', '12 hours'],
    ...more,
  ],
});

let show = () => {};

// perform opens the dialog of an action:
//   title, verb          what it is, and the word on its button
//   role                 the role that it needs
//   effect(values)       what will happen, in plain words
//   fields               as in Field; a value is read when the dialog opens
//   confirm              a word that the person has to type
//   ctl(values, key)     the words after `penstock ctl`; key is an idempotency key, one for each dialog
//   ctlNote              what has to be done in the shell before
//   send(values, key)    makes the change, and returns the answer
//   done(answer, values) describes the answer
//   after(answer)        is called afterwards
export const perform = (action) => show(action);

// Action is the button of an action. If the person's role may not use it, the button is disabled
// and shows the reason.
export function Action({ action, kind = '', children }) {
  const not = useMay(action.role);
  const why = useId();
  if (!not)
    return html`<button type="button" class=${kind} onClick=${() => perform(action)}>${children ?? action.verb}…</button>`;
  return html`<span class="off"><button type="button" class=${kind} disabled aria-describedby=${why}>${children ?? action.verb}</button>
    <span class="note" id=${why}>${not}</span></span>`;
}

// Dialogs is the place of the dialog. There is one at a time.
export function Dialogs() {
  const [open, set] = useState(null);
  useEffect(() => {
    show = (action) => set({ action, at: Date.now() });
  }, []);
  return open && html`<${ActionDialog} key=${open.at} action=${open.action} close=${() => set(null)} />`;
}

// useModal opens a <dialog>, and gives the focus back when it is closed.
export function useModal(close) {
  const box = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    box.current.showModal();
    const cancelled = (e) => {
      e.preventDefault();
      close();
    };
    box.current.addEventListener('cancel', cancelled);
    return () => before?.isConnected && before.focus();
  }, []);
  return box;
}

function ActionDialog({ action, close }) {
  const me = useContext(Me);
  const title = useId();
  const [values, setValues] = useState(() =>
    Object.fromEntries((action.fields ?? []).map((f) => [f.name, f.value ?? ''])),
  );
  const [typed, type] = useState('');
  const [key] = useState(newKey);
  const [state, set] = useState({ busy: false, problem: null, said: null });
  const leave = () => {
    if (!state.busy) close();
  };
  const leaving = useRef(leave);
  leaving.current = leave;
  const box = useModal(() => leaving.current());
  const closer = useRef(null);
  useLayoutEffect(() => {
    if (state.said) closer.current?.focus(); // if the button that had the focus is gone
  }, [state.said]);
  const fields = (action.fields ?? []).filter((f) => !f.when || f.when(values));
  const send = async (e) => {
    e.preventDefault();
    set({ busy: true, problem: null, said: null });
    try {
      const answer = await action.send(values, key);
      set({ busy: false, problem: null, said: { answer, text: action.done(answer, values) } });
      action.after?.(answer);
    } catch (problem) {
      set({ busy: false, problem, said: null });
      if (problem.unknown) action.after?.();
    }
  };
  const line =
    action.ctl &&
    html`<p class="ctl">The same from a shell: <${Copy} text=${clean(ctlLine(action.ctl(values, key)))} of="the line" />${action.ctlNote && html`<br /><span class="note">${action.ctlNote}</span>`}</p>`;
  if (state.said) {
    return html`<dialog ref=${box} aria-labelledby=${title}><h2 id=${title}>${action.title}</h2>
      <div class="said" role="status">${state.said.text}</div>${action.show?.(state.said.answer)}
      <div class="buttons"><button type="button" class="first" ref=${closer} onClick=${close}>Close</button></div></dialog>`;
  }
  return html`<dialog ref=${box} aria-labelledby=${title}><form onSubmit=${send}>
    <h2 id=${title}>${action.title}</h2>
    ${action.effect && html`<p class="effect">${action.effect(values)}</p>`}
    ${fields.map(
      (f) => html`<${Field} key=${f.name} field=${f} value=${values[f.name]}
      set=${(v) => setValues((old) => ({ ...old, [f.name]: v, ...f.sets?.(v, old) }))} />`,
    )}
    ${action.diff?.(values)}
    ${
      action.confirm &&
      html`<${Field} field=${{
        name: 'confirm',
        required: true,
        label: html`Type <code>${action.confirm}</code> to confirm`,
      }} value=${typed} set=${type} />`
    }
    ${line}<p class="note">It will be recorded under ${me.name}.</p>
    <${ProblemBox} problem=${state.problem} />
    <div class="buttons"><button type="button" onClick=${leave} disabled=${state.busy}>Cancel</button>
      <button type="submit" class=${action.danger ? 'danger' : 'first'} disabled=${state.busy || (action.confirm && typed !== action.confirm)}>
        ${state.busy ? 'Waiting for the answer …' : action.verb}</button></div>
  </form></dialog>`;
}

// published shows where a change of limits or switches is in force, in the API's words.
export const published = (answer) => html`${answer.message}.
  ${answer.lagging.length > 0 && html`<br /><strong>Not yet on ${answer.lagging.join(', ')}.</strong>`}
  ${!answer.recorded && html`<br />It is not recorded yet: the database is away.`}`;
