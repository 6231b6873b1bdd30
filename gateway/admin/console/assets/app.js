// The console: the login, the screens, and the keys.
import { html, render, useEffect, useErrorBoundary, useLayoutEffect, useRef, useState } from './lib.js';
import { get, onSignedOut, post, segments, useTabToken } from './api.js';
import { end, live, start } from './live.js';
import { Me, ProblemBox } from './ui.js';
import { Dialogs, perform, useModal } from './action.js';
import { Header } from './header.js';
import { Tonight } from './tonight.js';
import { Flow } from './flow.js';
import { Switches, stopOrders } from './switches.js';
import { Machines } from './machines.js';
import { Orders } from './orders.js';
import { Money } from './money.js';
import { Merchants } from './merchants.js';
import { After, Preflight } from './checks.js';
import { Changes } from './changes.js';
import { RunbookScreen } from './runbook.js';
import { time } from './text.js';

// screens are the screens in their order: path, name, and whether a person who is bound to a
// merchant sees it.
const screens = [
  ['tonight', 'Tonight', Tonight, true],
  ['flow', 'Flow', Flow, false],
  ['switches', 'Switches', Switches, true],
  ['machines', 'Machines', Machines, false],
  ['orders', 'Orders', Orders, true],
  ['money', 'Money', Money, true],
  ['merchants', 'Merchants', Merchants, true],
  ['preflight', 'Preflight', Preflight, true],
  ['after', 'After', After, true],
  ['changes', 'Changes', Changes, true],
];

const store = {
  get: (name) => {
    try {
      return localStorage.getItem(`penstock.${name}`);
    } catch {
      return null;
    }
  },
  set: (name, value) => {
    try {
      localStorage.setItem(`penstock.${name}`, value);
    } catch {
      /* a private window stores nothing */
    }
  },
};

// applyTheme sets light, dark, or the system's theme.
function applyTheme(theme) {
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  document.dispatchEvent(new Event('theme'));
}

const themes = ['system', 'light', 'dark'];

function useTheme() {
  const [theme, set] = useState(store.get('theme') ?? 'system');
  useEffect(() => {
    applyTheme(theme);
    store.set('theme', theme);
  }, [theme]);
  return [theme, () => set(themes[(themes.indexOf(theme) + 1) % themes.length])];
}

function useHash() {
  const [hash, set] = useState(location.hash);
  useEffect(() => {
    const f = () => set(location.hash);
    addEventListener('hashchange', f);
    return () => removeEventListener('hashchange', f);
  }, []);
  const [screen, ...rest] = hash.replace(/^#\/?/, '').split('/');
  return { screen: screen || 'tonight', rest };
}

// Login asks for a token, or sends the person to the identity provider.
function Login({ said, enter }) {
  const box = useRef(null); // a password manager may fill it in without an event
  const [state, setState] = useState({ busy: false, problem: null });
  const oidc = document.documentElement.dataset.oidc === 'yes';
  const log = async (e) => {
    e.preventDefault();
    const token = box.current.value.trim();
    setState({ busy: true, problem: null });
    try {
      enter(await post('/login', { token }));
    } catch (problem) {
      if (problem.status !== 503) {
        setState({ busy: false, problem });
        return;
      }
      try {
        // the database can't be reached, so no session can be stored: this tab keeps the token
        useTabToken(token);
        enter(await get(segments('me')));
      } catch (again) {
        useTabToken('');
        setState({ busy: false, problem: again });
      }
    }
  };
  return html`<main class="login" id="main"><h1>Penstock</h1>${said && html`<p class="warning" role="status">${said}</p>`}
    ${oidc && html`<p><a class="button first" href="/login">Log in with your account</a></p><p class="note">or</p>`}
    <form onSubmit=${log}><input type="text" hidden autocomplete="username" value="penstock" readonly /><label for="token">Admin token</label>
      <input id="token" type="password" required autocomplete="current-password" ref=${box} />
      <p class="note">Instead of the token, the browser keeps a session that scripts can't read. <code>penstock ctl tokens add</code> makes a token.</p>
      <${ProblemBox} problem=${state.problem} /><button type="submit" class="first" disabled=${state.busy}>${state.busy ? 'Logging in …' : 'Log in'}</button></form></main>`;
}

const help = [
  ['1 … 9, 0', 'the screens, in their order'],
  ['/', 'find an order'],
  ['s', 'stop orders (opens the dialog)'],
  ['w', 'wall view, readable from a distance'],
  ['t', 'light, dark, or the system\'s theme'],
  ['?', 'this help'],
  ['Esc', 'close a dialog'],
];

// Help lists the keys, and can turn them off (WCAG 2.1.4).
function Help({ close, keys, setKeys }) {
  const box = useModal(close);
  return html`<dialog ref=${box} aria-labelledby="helpTitle"><h2 id="helpTitle">Keys</h2>
    <dl class="facts">${help.map(([key, what]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${what}</dd></div>`)}</dl>
    <label class="check"><input type="checkbox" checked=${keys} onChange=${(e) => setKeys(e.currentTarget.checked)} /> Use single keys</label>
    <p class="note">Every dialog shows the command of <code>penstock ctl</code> that does the same. The <a href="/openapi.yaml">admin API</a> and the <a href="/problems">error codes</a> are here, too.</p>
    <div class="buttons"><button type="button" class="first" autofocus onClick=${close}>Close</button></div></dialog>`;
}

// Boundary keeps an error in one screen from breaking the others.
function Boundary({ children }) {
  const [error, reset] = useErrorBoundary();
  if (!error) return children;
  return html`<div class="problem" role="alert"><strong>This screen has failed</strong><p>${String(error.message ?? error)}</p><button type="button" onClick=${reset}>Try again</button></div>`;
}

// useKeys handles the keys of the whole page. They are off while a person types, and in dialogs.
function useKeys(on, act) {
  const current = useRef(act);
  current.current = act;
  useEffect(() => {
    if (!on) return undefined;
    const pressed = (e) => {
      if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest('input, textarea, select, dialog, [contenteditable]'))
        return;
      if (current.current(e.key)) e.preventDefault();
    };
    addEventListener('keydown', pressed);
    return () => removeEventListener('keydown', pressed);
  }, [on]);
}

// Shell is everything around a screen.
function Shell({ me, leave, failed }) {
  const { screen, rest } = useHash();
  const [theme, nextTheme] = useTheme();
  const [helping, setHelping] = useState(false);
  const [keys, setKeys] = useState(store.get('keys') !== 'off');
  const main = useRef(null);
  const wall = screen === 'wall';
  const mine = screens.filter(([, , , forBound]) => !me.merchant || forBound);
  const found =
    mine.find(([path]) => path === screen) ??
    (screen === 'runbook' ? ['runbook', 'Runbook', RunbookScreen] : undefined);
  useEffect(() => {
    store.set('keys', keys ? 'on' : 'off');
  }, [keys]);
  useEffect(() => {
    document.title = `${wall ? 'Wall' : (found?.[1] ?? 'Not found')} · Penstock`;
    document.querySelector('nav a[aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' }); // on a phone
  }, [screen]);
  useLayoutEffect(() => {
    document.body.classList.toggle('wall', wall); // before charts measure their text
  }, [wall]);
  useKeys(keys, (key) => {
    const at = '1234567890'.indexOf(key);
    if (at >= 0 && mine[at]) location.hash = `#/${mine[at][0]}`;
    else if (key === '/') {
      location.hash = '#/orders';
      setTimeout(() => document.getElementById('find')?.focus(), 100);
    } else if (key === 's') {
      document.querySelector('.stopButton:not(:disabled)') && perform(stopOrders(live.snapshot, me.merchant ?? ''));
    } else if (key === 'w') location.hash = wall ? '#/tonight' : '#/wall';
    else if (key === 't') nextTheme();
    else if (key === '?') setHelping(true);
    else return false;
    return true;
  });
  const [, title, Screen] = found ?? [];
  return html`<a class="skip" href="#main" onClick=${(e) => {
    e.preventDefault();
    main.current.focus();
  }}>Skip to the content</a>
    <header><div class="bar"><a class="brand" href="#/tonight">Penstock</a><nav aria-label="Screens"><ul>${mine.map(
      ([path, name], i) => html`
      <li key=${path}><a href=${`#/${path}`} aria-current=${path === screen ? 'page' : undefined} title=${keys && i < 10 ? `key ${(i + 1) % 10}` : undefined}>${name}</a></li>`,
    )}</ul></nav>
      <div class="me"><span title=${me.expires_at ? `until ${time(me.expires_at)}` : ''}>${me.name} <span class="note">${me.role}${me.merchant ? ` of ${me.merchant}` : ''}</span></span>
        <a class="button small" href=${wall ? '#/tonight' : '#/wall'}>${wall ? 'Leave the wall' : 'Wall'}</a>
        <button type="button" class="small" onClick=${nextTheme} aria-label=${`Theme: ${theme}. Change it`}>${theme}</button>
        <button type="button" class="small" onClick=${() => setHelping(true)} aria-label="Keys and help">?</button>
        <button type="button" class="small" onClick=${leave}>Log out</button></div></div>
      ${failed && html`<${ProblemBox} problem=${failed} />`}<${Header} /></header>
    <main id="main" ref=${main} tabindex="-1"><${Boundary} key=${screen}>
      ${
        wall
          ? html`<h1 class="quiet">Wall</h1><${Tonight} wall=${true} />`
          : found
            ? html`<h1>${title}</h1><${Screen} rest=${rest} />`
            : html`<h1>There is no such page</h1><p>The console has no page ${screen}. <a href="#/tonight">Go to Tonight</a></p>`
      }<//></main>
    ${helping && html`<${Help} close=${() => setHelping(false)} keys=${keys} setKeys=${setKeys} />`}<${Dialogs} />`;
}

function App() {
  const [me, setMe] = useState(undefined); // undefined: not known yet, null: nobody
  const [said, say] = useState('');
  const [failed, fail] = useState(null);
  const wasIn = useRef(false);
  wasIn.current = Boolean(me);
  useEffect(() => {
    applyTheme(store.get('theme'));
    onSignedOut(() => {
      if (wasIn.current) say('Your session has ended: log in again.');
      useTabToken('');
      end();
      setMe(null);
    });
    get(segments('me')).then(setMe, (problem) => {
      if (problem.status !== 401) {
        say(problem.message);
        setMe(null);
      }
    });
  }, []);
  useEffect(() => {
    if (me) start();
  }, [me]);
  const leave = async () => {
    try {
      if (me.session) await post('/logout');
      useTabToken('');
      end();
      say('You are logged out.');
      setMe(null);
    } catch (problem) {
      fail(problem);
    }
  };
  if (location.pathname !== '/') {
    return html`<main class="plain" id="main"><h1>There is no such page</h1><p>Penstock has no page <code>${location.pathname}</code>. <a href="/">Go to the console</a></p></main>`;
  }
  if (me === undefined)
    return html`<main class="login" id="main"><h1>Penstock</h1><p class="note">One moment …</p></main>`;
  if (!me)
    return html`<${Login} said=${said} enter=${(who) => {
      say('');
      setMe(who);
    }} />`;
  return html`<${Me.Provider} value=${me}><${Shell} me=${me} leave=${leave} failed=${failed} /><//>`;
}

render(html`<${App} />`, document.getElementById('app'));
