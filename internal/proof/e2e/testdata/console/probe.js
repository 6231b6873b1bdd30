// What the test of the console does in the page, as a person would: it clicks, fills in and looks. It is put into the page by the
// browser's debugger, past the page's own policy.
(() => {
  const patience = 30_000;
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));

  // until waits for something, and returns it.
  async function until(what, look) {
    for (const deadline = Date.now() + patience; Date.now() < deadline; await pause(25)) {
      const found = look();
      if (found) return found;
    }
    throw new Error(`not after ${patience / 1000} s: ${what}; the page: ${document.body.innerText.slice(0, 2000)}`);
  }

  const dialog = () => document.querySelector('dialog[open]');
  const called = (root, text) => [...root.querySelectorAll('button')].find((b) => b.textContent.trim().replace(/…$/, '') === text);
  const closed = async () => {
    (called(dialog(), 'Cancel') ?? called(dialog(), 'Close')).click();
    await until('the dialog is closed', () => !dialog());
  };

  // set types into a field of the dialog, found by its name.
  function set(name, value) {
    const field = dialog().querySelector(`[name="${name}"]`);
    if (!field) throw new Error(`the dialog has no field ${name}: ${dialog().innerText}`);
    field.value = value;
    field.dispatchEvent(new Event(field.tagName === 'SELECT' ? 'change' : 'input', { bubbles: true }));
  }

  window.probe = {
    // open shows a screen, and waits until it has read what it shows.
    async open(path) {
      location.hash = `#/${path}`;
      await until(`the screen ${path} is there`, () => document.querySelector('main h1') && (location.hash === `#/${path}`));
      await pause(100);
      await until(`the screen ${path} has read everything`, () => !/Reading …|Waiting for the first data|Waiting for live data/.test(document.body.innerText));
      return document.querySelector('main h1').textContent;
    },
    // buttons opens the dialog of every button that changes something, and closes it again. It returns what each dialog says.
    async buttons(root) {
      const seen = [];
      const all = () => [...document.querySelectorAll(`${root} button`)].filter((b) => b.textContent.trim().endsWith('…') && !b.disabled);
      for (let i = 0; i < all().length; i++) {
        const button = all()[i];
        const name = button.textContent.trim();
        button.click();
        await until(`a dialog for ${name}`, dialog);
        const line = dialog().querySelector('.ctl code')?.textContent ?? '';
        const stuck = [...dialog().querySelectorAll('select:invalid')].map((field) => field.name).join(' '); // the browser wouldn't send it
        seen.push({ name, title: dialog().querySelector('h2').textContent, line, stuck, why: Boolean(dialog().querySelector('[name="reason"]')) });
        await closed();
      }
      return seen;
    },
    // toggles presses the buttons that only show something.
    async toggles() {
      for (const b of document.querySelectorAll('main button[aria-expanded], main button[aria-pressed]')) {
        b.click();
        await pause(150);
      }
      document.querySelectorAll('main details').forEach((d) => { d.open = true; });
      await pause(150);
    },
    // act opens the dialog of a button, fills it in, sends it, and returns what the console then says.
    async act(root, name, values) {
      const button = await until(`a button ${name} in ${root}`, () => [...document.querySelectorAll(root)].map((r) => called(r, name)).find((b) => b && !b.disabled));
      button.click();
      await until('the dialog', dialog);
      for (const [field, value] of Object.entries(values)) {
        set(field, value);
        await pause(50);
      }
      const line = dialog().querySelector('.ctl code')?.textContent ?? '';
      dialog().querySelector('button[type="submit"]').click();
      const said = await until('an answer', () => dialog().querySelector('.said, .problem'));
      const answer = { good: said.classList.contains('said'), text: dialog().innerText, line };
      await closed();
      return answer;
    },
    // off lists the buttons that this role sees and may not use, with the reason.
    off: () => [...document.querySelectorAll('button:disabled')].map((b) => `${b.textContent.trim()}: ${
      document.getElementById(b.getAttribute('aria-describedby'))?.textContent ?? 'NO REASON'}`),
    // tables are the names of the tables that are there.
    tables: () => [...document.querySelectorAll('main table caption')].map((c) => c.textContent),
    // odd are texts that no person would write.
    odd: () => document.body.innerText.match(/.{0,30}(undefined|NaN|\[object|Infinity|(?<![\d,.])1 (records|orders|units|payments|items|letters|bytes)\b).{0,30}/g) ?? [],
    until: (text) => until(`“${text}” is shown`, () => document.body.innerText.includes(text)),
    gone: (text) => until(`“${text}” is shown no more`, () => !document.body.innerText.includes(text)),
    // faults is what axe finds, and how much wider the page is than the window.
    async faults() {
      const found = await axe.run(document, { resultTypes: ['violations'] });
      const list = found.violations.map((v) => `${v.id} (${v.impact}): ${v.nodes.slice(0, 3).map((n) => `${n.html.slice(0, 200)} ${n.failureSummary}`).join('; ')}`);
      const wider = document.documentElement.scrollWidth - innerWidth;
      if (wider > 0) list.push(`the page is ${wider} px wider than the window`);
      return list;
    },
  };
})();
