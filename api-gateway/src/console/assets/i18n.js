// Texts in the viewer's language, and numbers, amounts and times in the viewer's locale and time zone.
//
// English texts are written where they are shown, as arguments of `t` and `plural`. de.js maps each of them to
// its German translation. A unit test of the gateway compares the two.

/** Languages of the console, by code. */
export const LANGUAGES = { en: "English", de: "Deutsch" };
const STORAGE_KEY = "language";

/** The language that the viewer has chosen, or else the first known one of the browser's languages. */
function chosenLanguage() {
  let stored = null;
  try {
    stored = localStorage.getItem(STORAGE_KEY);
  } catch {
    // The browser blocks storage.
  }
  if (stored in LANGUAGES) return stored;
  return navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase()).find((code) => code in LANGUAGES) ?? "en";
}

export const language = chosenLanguage();
/** Locale of numbers and times: the browser's variant of the console's language, such as en-GB. */
export const locale = navigator.languages.find((tag) => tag.slice(0, 2).toLowerCase() === language) ?? language;
export const timeZone = Intl.DateTimeFormat().resolvedOptions().timeZone;

const translations = language === "de" ? (await import("./de.js")).default : {};
const pluralRules = new Intl.PluralRules(language);
document.documentElement.lang = language;

/** Stores the language and reloads the page in it. */
export function setLanguage(code) {
  localStorage.setItem(STORAGE_KEY, code);
  location.reload();
}

/**
 * Translates a text and inserts `values` for its {placeholders}. Returns a string, or a list of children for an
 * element if a value is an element.
 */
export function t(text, values = {}) {
  return insert(translations[text] ?? text, values);
}

/** Translates a text with a number: `one` for 1, `other` with {count} otherwise. de.js has it under `other`. */
export function plural(count, one, other, values = {}) {
  const [translatedOne, translatedOther] = translations[other] ?? [one, other];
  const text = pluralRules.select(count) === "one" ? translatedOne : translatedOther;
  return insert(text, { count: number(count), ...values });
}

/** Translates a status or another machine-readable name, such as label_created. Unknown names are shown as words. */
export function name(code) {
  return translations[`code:${code}`] ?? String(code).replaceAll("_", " ");
}

function insert(text, values) {
  const parts = text.split(/\{(\w+)\}/).map((part, index) => (index % 2 ? values[part] ?? "" : part));
  return parts.some((part) => typeof part === "object") ? parts : parts.join("");
}

export function number(value, options) {
  return new Intl.NumberFormat(locale, options).format(value);
}

const exactFormat = new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "long" });
const shortFormat = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });
const relativeFormat = new Intl.RelativeTimeFormat(language, { numeric: "auto" });

/** Date and time to the second, with the time zone. */
export const exactTime = (text) => exactFormat.format(new Date(text));
/** Date and time to the minute. */
export const shortTime = (text) => shortFormat.format(new Date(text));

const UNITS = [["second", 60], ["minute", 60], ["hour", 24], ["day", 7]];

/** A time relative to now, such as "5 minutes ago", within a week; otherwise date and time. */
export function relativeTime(text) {
  let distance = (new Date(text) - Date.now()) / 1000;
  for (const [unit, size] of UNITS) {
    if (Math.abs(distance) < size) return relativeFormat.format(Math.round(distance), unit);
    distance /= size;
  }
  return shortTime(text);
}
