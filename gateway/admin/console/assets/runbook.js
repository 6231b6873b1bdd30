// The runbook: the entry for a finding, from the server.
import { html } from './lib.js';
import { clean } from './text.js';
import { Loaded, useGet } from './ui.js';

// slug is the anchor of a heading in links.
const slug = (heading) =>
  heading
    .toLowerCase()
    .replaceAll('`', '')
    .replace(/[^a-z0-9 _-]/g, '')
    .trim()
    .replaceAll(' ', '-');

// entries splits the text at its headings.
function entries(text) {
  const parts = text.split(/^(?=#{2,3} )/m).slice(1);
  return parts.map((part) => {
    const end = part.indexOf('\n');
    const heading = part.slice(0, end).replace(/^#+ /, '');
    return { heading, slug: slug(heading), body: part.slice(end).trim() };
  });
}

const read = async (signal) => {
  const response = await fetch('/runbook', { signal });
  if (!response.ok) throw new Error(`The runbook can't be read: HTTP ${response.status}.`);
  return entries(clean(await response.text()));
};

// words shows a text with its bold and code parts.
const words = (line) =>
  line
    .split(/(\*\*[^*]+\*\*|`[^`]+`)/)
    .map((w) =>
      w.startsWith('**')
        ? html`<b>${w.slice(2, -2)}</b>`
        : w.startsWith('`')
          ? html`<code>${w.slice(1, -1)}</code>`
          : w,
    );

export function RunbookScreen({ rest }) {
  const of = useGet(read, 0, 'runbook');
  const wanted = slug(decodeURIComponent(rest[0] ?? ''));
  return html`<${Loaded} of=${of}>${(all) => {
    const found =
      all.find((e) => e.slug === wanted) ??
      all.find((e) => e.slug.includes(wanted)) ??
      all.find((e) => e.body.includes(wanted));
    return html`${wanted && !found && html`<p class="warning" role="status">There is no entry ${wanted}.</p>`}
      ${wanted && found && html`<section class="part"><h2>${words(found.heading)}</h2><div class="pre">${words(found.body)}</div></section>`}
      <section class="part"><h2>All entries</h2><ul>${all.map((e) => html`<li><a href=${`#/runbook/${encodeURIComponent(e.slug)}`}>${words(e.heading)}</a></li>`)}</ul></section>`;
  }}<//>`;
}
