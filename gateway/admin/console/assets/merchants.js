// Merchants and keys: shops, their callers, and the keys of these callers. Also the tokens of
// people.
import { html, useRef, useState } from './lib.js';
import { del, pages, post, put, segments } from './api.js';
import { Copy, Loaded, ProblemBox, Section, Table, Tag, useBound, useGet, useMay } from './ui.js';
import { Action, reason } from './action.js';
import { ctlLine, flag, time } from './text.js';

// Once shows a secret, which is never shown again.
const Once = ({ name, secret }) =>
  html`<div class="once"><p><strong>This is the only time that ${name} is shown.</strong></p><${Copy} text=${secret} of=${name} /></div>`;

const life = {
  name: 'life',
  label: 'Ends after',
  placeholder: 'never',
  help: 'A duration like 2160h. Empty means never.',
};

const callerPath = (m, c, ...more) => segments('merchants', m, 'callers', c, ...more);

const addMerchant = (again) => ({
  title: 'Add a merchant',
  verb: 'Add',
  role: 'admin',
  effect: () => 'It gets a payment secret, which is shown once.',
  fields: [
    { name: 'id', label: 'Id', required: true, most: 64, help: 'Letters, digits and . _ ~ -' },
    { name: 'name', label: 'Name for people', required: true, most: 200 },
    reason,
  ],
  ctl: (v) => ['merchants', 'put', v.id || 'MERCHANT', flag('name', v.name || 'NAME'), flag('reason', v.reason)],
  send: (v) => put(segments('merchants', v.id), { name: v.name, reason: v.reason }),
  done: (a) => `The merchant ${a.merchant} is added.`,
  show: (a) => a.payment_secret && html`<${Once} name="the payment secret" secret=${a.payment_secret} />`,
  after: again,
});

const rollSecret = (m, again) => ({
  title: `Roll the payment secret of ${m}`,
  verb: 'Roll the secret',
  role: 'admin',
  danger: true,
  effect: (v) =>
    `A new secret is made and shown once. The former one stays valid for ${v.overlap || '…'}: give the payment provider the new one in that time.`,
  fields: [{ name: 'overlap', label: 'The old one stays valid for', required: true, value: '24h' }, reason],
  ctl: (v) => ['merchants', 'put', m, flag('overlap', v.overlap), flag('reason', v.reason)],
  send: (v) => put(segments('merchants', m), { overlap: v.overlap, reason: v.reason }),
  done: (a) => `The old secret is valid until ${time(a.former_secret_until)}.`,
  show: (a) => a.payment_secret && html`<${Once} name="the payment secret" secret=${a.payment_secret} />`,
  after: again,
});

const addCaller = (m, again) => ({
  title: `Let a program of ${m} in`,
  verb: 'Let it in',
  role: 'admin',
  effect: () => 'Its key is shown once.',
  fields: [
    { name: 'name', label: 'Name', required: true, most: 200 },
    {
      name: 'rights',
      label: 'It may',
      type: 'select',
      required: true,
      value: 'buy',
      options: [
        ['buy', 'buy'],
        ['merchant', 'read activities before they are published'],
        ['buy,merchant', 'both'],
      ],
    },
    { name: 'shadow', label: 'It sends a load test; under load, its requests are refused first', type: 'check' },
    reason,
  ],
  ctl: (v) => [
    'callers',
    'add',
    m,
    v.name || 'NAME',
    flag('rights', v.rights),
    v.shadow ? '--shadow' : '',
    flag('reason', v.reason),
  ],
  send: (v) =>
    post(segments('merchants', m, 'callers'), {
      name: v.name,
      rights: v.rights.split(','),
      shadow: Boolean(v.shadow),
      reason: v.reason,
    }),
  done: (a) => `${a.merchant}/${a.caller} is let in.`,
  show: (a) => html`<${Once} name="the key" secret=${a.key} />`,
  after: again,
});

const revokeCaller = (m, c, again) => ({
  title: `Revoke ${m}/${c}`,
  verb: 'Revoke',
  role: 'operator',
  danger: true,
  confirm: c,
  effect: () => 'All its keys end, on every node within a second. The list of changes can undo this.',
  fields: [reason],
  ctl: (v) => ['callers', 'revoke', m, c, flag('reason', v.reason)],
  send: (v) => del(callerPath(m, c), v.reason),
  done: () => `${m}/${c} is revoked.`,
  after: again,
});

const rollKey = (m, c, again) => ({
  title: `Roll the key of ${m}/${c}`,
  verb: 'Roll the key',
  role: 'admin',
  effect: (v) =>
    `A new key is made and shown once. The others end after ${v.overlap || '…'} (0s: at once). Orders, idempotency keys and limits stay the caller's.`,
  fields: [{ name: 'overlap', label: 'Its other keys stay valid for', required: true, value: '24h' }, life, reason],
  ctl: (v) => [
    'callers',
    'keys',
    'roll',
    m,
    c,
    flag('overlap', v.overlap),
    flag('expires-in', v.life),
    flag('reason', v.reason),
  ],
  send: (v) =>
    post(callerPath(m, c, 'keys'), { overlap: v.overlap, ...(v.life && { expires_in: v.life }), reason: v.reason }),
  done: (a) => `${a.key_id} is valid${a.expires_at ? ` until ${time(a.expires_at)}` : ''}.`,
  show: (a) => html`<${Once} name="the new key" secret=${a.key} />`,
  after: again,
});

const revokeKey = (m, c, k, again) => ({
  title: `Revoke the key ${k.prefix}…`,
  verb: 'Revoke the key',
  role: 'operator',
  danger: true,
  effect: () => `It is no longer valid, on every node within a second. The other keys of ${m}/${c} stay.`,
  fields: [reason],
  ctl: (v) => ['callers', 'keys', 'revoke', m, c, k.key_id, flag('reason', v.reason)],
  send: (v) => del(callerPath(m, c, 'keys', k.key_id), v.reason),
  done: () => `${k.key_id} is revoked.`,
  after: again,
});

const keyStates = { active: 'good', expired: 'plain', revoked: 'critical' };

function Keys({ merchant: m, caller: c }) {
  const of = useGet(callerPath(m, c, 'keys'));
  return html`<${Loaded} of=${of}>${(doc) =>
    html`<${Table} label=${`Keys of ${m}/${c}`} rows=${doc.keys} rowKey=${(k) => k.key_id} columns=${[
      { head: 'Key', cell: (k) => html`<code>${k.prefix}…</code> <span class="note">${k.key_id}</span>` },
      { head: 'State', cell: (k) => html`<${Tag} kind=${keyStates[k.state]}>${k.state}<//>` },
      { head: 'Made', cell: (k) => time(k.created_at) },
      { head: 'Ends', cell: (k) => (k.expires_at ? time(k.expires_at) : 'never') },
      { head: 'Used last', cell: (k) => (k.last_used_at ? time(k.last_used_at) : 'never') },
      {
        head: '',
        cell: (k) =>
          k.state === 'active' &&
          html`<${Action} role="operator" kind="small" action=${revokeKey(m, c, k, of.again)}>Revoke</${Action}>`,
      },
    ]} /><div class="actions"><${Action} role="admin" action=${rollKey(m, c, of.again)} /></div>`}<//>`;
}

function Callers({ merchant: m }) {
  const of = useGet((signal) => pages(segments('merchants', m, 'callers'), { signal }), 0, `callers ${m}`);
  const [open, set] = useState('');
  return html`<${Loaded} of=${of}>${(
    list,
  ) => html`<${Table} label=${`Callers of ${m}`} rows=${list} rowKey=${(c) => c.caller} empty="No program may call the public API." columns=${[
    { head: 'Caller', cell: (c) => html`<b>${c.caller}</b> ${c.name !== c.caller ? c.name : ''}` },
    { head: 'May', cell: (c) => c.rights.join(', ') },
    {
      head: 'State',
      cell: (c) =>
        html`<${Tag} kind=${c.revoked ? 'critical' : 'good'}>${c.revoked ? 'revoked' : 'let in'}<//>${c.shadow && html` <${Tag} kind="plain">load test<//>`}`,
    },
    { head: 'Since', cell: (c) => time(c.created_at) },
    {
      head: '',
      cell: (
        c,
      ) => html`<div class="actions"><button type="button" class="small" aria-expanded=${open === c.caller} onClick=${() => set(open === c.caller ? '' : c.caller)}>Keys of ${c.caller}</button>
      ${!c.revoked && html`<${Action} role="operator" kind="small" action=${revokeCaller(m, c.caller, of.again)} />`}</div>`,
    },
  ]} />${open && html`<h3>Keys of ${m}/${open}</h3><${Keys} key=${open} merchant=${m} caller=${open} />`}
  <div class="actions"><${Action} role="admin" action=${addCaller(m, of.again)}>Add a program</${Action}></div>`}<//>`;
}

function FindKey() {
  const box = useRef(null);
  const [state, setState] = useState({});
  const find = async (e) => {
    e.preventDefault();
    try {
      setState({ found: await post(segments('keys'), { key: box.current.value.trim() }) });
    } catch (problem) {
      setState({ problem });
    }
  };
  return html`<${Section} title="Find a key" note="Find the owner of a key. It is sent in a body, so that it gets into no log."><form class="row" onSubmit=${find}>
    <label class="grow">The key <input type="password" required autocomplete="off" ref=${box} /></label><button type="submit">Find</button></form>
    <p class="ctl">The same from a shell: <${Copy} of="the line" text=${ctlLine(['callers', 'keys', 'find', '-'])} /></p>
    <${ProblemBox} problem=${state.problem} />
    ${state.found && html`<p role="status">It is of <b>${state.found.merchant}/${state.found.caller}</b> (${state.found.name}): ${state.found.key_id}, <${Tag} kind=${keyStates[state.found.state]}>${state.found.state}<//></p>`}<//>`;
}

const addToken = (again) => ({
  title: 'Make a token',
  verb: 'Make a token',
  role: 'admin',
  effect: (v) =>
    `Whoever has it may do what the role ${v.role} may${v.merchant ? `, for ${v.merchant} alone` : ''}. It is shown once.`,
  fields: [
    { name: 'name', label: 'Name', required: true, most: 64 },
    {
      name: 'role',
      label: 'Role',
      type: 'select',
      required: true,
      value: 'viewer',
      options: ['viewer', 'support', 'operator', 'finance', 'admin'].map((r) => [r, r]),
    },
    { name: 'merchant', label: 'Only for this merchant', most: 64 },
    { ...life, value: '12h' },
    reason,
  ],
  ctl: (v) => [
    'tokens',
    'add',
    v.name || 'NAME',
    flag('role', v.role),
    flag('merchant', v.merchant),
    flag('expires-in', v.life),
    flag('reason', v.reason),
  ],
  send: (v) =>
    post(segments('tokens'), {
      name: v.name,
      role: v.role,
      ...(v.merchant && { merchant: v.merchant }),
      ...(v.life && { expires_in: v.life }),
      reason: v.reason,
    }),
  done: (a) => `${a.name} has the role ${a.role}.`,
  show: (a) => html`<${Once} name="the token" secret=${a.token} />`,
  after: again,
});

const dropToken = (t, again) => ({
  title: t.session ? `End the session of ${t.name}` : `Delete the token ${t.name}`,
  verb: t.session ? 'End' : 'Delete',
  role: 'admin',
  danger: true,
  effect: () => 'It is no longer valid, on every node within a second. Sessions that were opened with it end, too.',
  fields: [reason],
  ctl: (v) => ['tokens', 'delete', t.session ? t.token_id : t.name, flag('reason', v.reason)],
  send: (v) => del(segments('tokens', t.session ? t.token_id : t.name), v.reason),
  done: () => `${t.name} is gone.`,
  after: again,
});

function Tokens() {
  const not = useMay('admin');
  const bound = useBound();
  const of = useGet(not || bound ? '' : segments('tokens'));
  if (not || bound) return null;
  return html`<${Section} title="Tokens and sessions" actions=${html`<${Action} role="admin" action=${addToken(of.again)} />`}><${Loaded} of=${of}>${(
    doc,
  ) => html`
    <${Table} label="Tokens and sessions" rows=${doc.items} rowKey=${(t) => t.token_id} columns=${[
      { head: 'Name', cell: (t) => html`<b>${t.name}</b> <span class="note">${t.token_id}</span>` },
      { head: 'Role', cell: (t) => `${t.role}${t.merchant ? ` of ${t.merchant}` : ''}` },
      { head: 'Kind', cell: (t) => (t.configured ? 'configuration' : t.session ? 'session' : 'token') },
      { head: 'Ends', cell: (t) => (t.expires_at ? time(t.expires_at) : 'never') },
      { head: 'Used last', cell: (t) => (t.last_used_at ? time(t.last_used_at) : 'never') },
      {
        head: '',
        cell: (t) => !t.configured && html`<${Action} role="admin" kind="small" action=${dropToken(t, of.again)} />`,
      },
    ]} />`}<//><//>`;
}

export function Merchants() {
  const bound = useBound();
  const of = useGet((signal) => pages(segments('merchants'), { signal }), 0, 'merchants');
  return html`<${Loaded} of=${of}>${(list) => html`
    ${list.map(
      (
        m,
      ) => html`<${Section} key=${m.merchant} title=${m.name} note=${`${m.merchant}${m.former_secret_until ? ` · the former payment secret is valid until ${time(m.former_secret_until)}` : ''}`}
      actions=${html`<${Action} role="admin" kind="small" action=${rollSecret(m.merchant, of.again)} />`}><${Callers} merchant=${m.merchant} /><//>`,
    )}
    ${list.length === 0 && html`<p class="note">There is no merchant.</p>`}
    ${!bound && html`<div class="actions"><${Action} role="admin" action=${addMerchant(of.again)}>Add a merchant</${Action}></div>`}`}<//>
    <${FindKey} /><${Tokens} />`;
}
