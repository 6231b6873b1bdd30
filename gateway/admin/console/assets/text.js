// This file shows values: numbers, times, money. A null means unknown. It is shown as a dash, never
// as 0.

export const unknown = '–';

// Characters that can hide in a name: controls, and those that change the direction of text.
const hidden =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

// clean shows hidden characters by their numbers.
export const clean = (s) =>
  s.replace(hidden, (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}⟩`);

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const missing = (n) => n === null || n === undefined || Number.isNaN(n);

export const count = (n) => (missing(n) ? unknown : whole.format(n));

// rate is a number per second; small numbers keep one decimal digit.
export const rate = (n) => (missing(n) ? unknown : `${Math.abs(n) < 10 ? tenths.format(n) : whole.format(n)}/s`);

export const percent = (part, all) => (missing(part) || !all ? unknown : `${tenths.format((100 * part) / all)} %`);

export function bytes(n) {
  if (missing(n)) return unknown;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return `${tenths.format(n)} ${units[i]}`;
}

export const millis = (n) =>
  missing(n) ? unknown : n >= 1000 ? `${tenths.format(n / 1000)} s` : `${tenths.format(n)} ms`;

// span shows a number of seconds as people say it: 42 s, 3:07 min, 2:15 h, 3 days.
export function span(seconds) {
  if (missing(seconds)) return unknown;
  const s = Math.max(0, Math.floor(seconds));
  const two = (n) => String(n).padStart(2, '0');
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)}:${two(s % 60)} min`;
  if (s < 48 * 3600) return `${Math.floor(s / 3600)}:${two(Math.floor((s % 3600) / 60))} h`;
  return `${Math.floor(s / 86400)} days`;
}

// countdown shows seconds like 1:02:03, with all digits, for a big clock.
export function countdown(seconds) {
  const s = Math.abs(Math.floor(seconds));
  const two = (n) => String(n).padStart(2, '0');
  const days = Math.floor(s / 86400);
  const time = `${two(Math.floor((s % 86400) / 3600))}:${two(Math.floor((s % 3600) / 60))}:${two(s % 60)}`;
  return days ? `${days}d ${time}` : time;
}

const day = new Intl.DateTimeFormat('sv', { dateStyle: 'short' });
const clock = new Intl.DateTimeFormat('sv', { timeStyle: 'medium' });

// time is a moment in the reader's local time, without the date if that is today.
export function time(at, today = Date.now()) {
  if (!at) return unknown;
  const t = new Date(at);
  if (Number.isNaN(t.getTime())) return String(at);
  return day.format(t) === day.format(today) ? clock.format(t) : `${day.format(t)} ${clock.format(t)}`;
}

// money is an amount in minor units.
export function money(amount, currency) {
  if (missing(amount)) return unknown;
  try {
    const format = new Intl.NumberFormat('en', { style: 'currency', currency, currencyDisplay: 'code' });
    return format.format(amount / 10 ** format.resolvedOptions().maximumFractionDigits);
  } catch {
    return `${whole.format(amount)} ${currency ?? ''} in minor units`;
  }
}

// policyWords returns the bounds of a limit, each in words.
export const policyWords = (p) =>
  [
    p.rate && `${rate(p.rate)}, up to ${count(p.burst || 0)} at once`,
    p.concurrency && `${count(p.concurrency)} in flight on each gateway`,
    p.quota && `${count(p.quota)} a day${p.quota_per_sku ? ` and ${count(p.quota_per_sku)} for each SKU` : ''}`,
  ].filter(Boolean);

// plural makes texts like "1 order" and "2 orders".
export const plural = (n, word) => `${count(n)} ${word}${n === 1 ? '' : 's'}`;

// quote quotes an argument for a shell.
export const quote = (s) => (/^[A-Za-z0-9._~\/:=@%+,-]+$/.test(s) ? s : `'${s.replaceAll("'", `'\\''`)}'`);

// ctlLine is the command that does the same from a shell. Empty values are left out.
export const ctlLine = (words) =>
  [
    'penstock',
    'ctl',
    ...words
      .flat()
      .filter((w) => w !== undefined && w !== null && w !== '')
      .map(String)
      .map(quote),
  ].join(' ');

// flag is a flag of such a command, or nothing if it has no value.
export const flag = (name, value) =>
  value === undefined || value === null || value === '' ? [] : [`--${name}`, value];
