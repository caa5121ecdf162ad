// Tokens as a reader sees them: spaces made visible, pieces of one word next to each other.

const RIGHT_TO_LEFT =
  /^[^A-Za-z\u00c0-\u02b8\u0370-\u0587\u0900-\u1fff\u3040-\ud7ff]*[\u0590-\u08ff\ufb1d-\ufdfd\ufe70-\ufefc]/;
// Characters that would order the text around them, and those that cannot be seen.
const CONTROLS =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufffe\uffff]/g;
// Texts of which nothing would be seen.
const UNSEEN = /^[\s\p{Cc}\p{Default_Ignorable_Code_Point}\ufffe\uffff]+$/u;

/** Return a token without the marks of its tokenizer. */
export function label(text) {
  const shown = text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replace(CONTROLS, "");
  const word = nameUnseen(shown.trim().replace(/^##(?=.)/, ""));
  if (word) return word;
  if (shown && /^\p{White_Space}+$/u.test(text)) return "␣";
  return nameUnseen(text.replace(/^ +| +$/g, "")) || "∅";
}

/** Return a text, or the numbers of its characters where nothing of it would be seen. */
function nameUnseen(text) {
  if (!UNSEEN.test(text)) return text;
  const number = (char) => char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return [...text].map((char) => `U+${number(char)}`).join(" ");
}

/** Return a token in quotes, which keep its direction from ordering the text around it. */
export function quoted(text) {
  return `“\u2068${label(text)}\u2069”`;
}

/** Return a token of a few characters, for axes. */
export function shortLabel(text, most = 14) {
  const characters = [...label(text)];
  return characters.length <= most ? label(text) : characters.slice(0, most - 1).join("") + "…";
}

/** Return which tokens continue the word before them. */
export function continuations(texts) {
  if (texts.some((text) => /^##./.test(text))) return texts.map((text) => /^##./.test(text));
  const hasSpaces = texts.some((text, index) => index > 0 && /^\s./.test(text));
  return texts.map((text, index) => hasSpaces && index > 0 && /^\S/.test(text) && !isMark(text));
}

function isMark(text) {
  return /^<.*>$|^\[.*\]$/.test(text.trim());
}

/** Return whether a token is a sign of the vocabulary, such as `</s>` or the byte `\xd7`. */
export function isCode(text) {
  return isMark(text) || /^(\\x[0-9a-f]{2})+$/.test(text.trim());
}

/** Return whether a text is read from right to left, by its first letter. */
export function isRightToLeft(texts) {
  return RIGHT_TO_LEFT.test(texts.join("").replace(/<[^>]*>|\[[A-Z]+\]/g, ""));
}

const TIME = /^(\d{4}-)(\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d.*)?)?$/;

/** Return times without the year or the day that all of them have; other texts as they are. */
export function shortTimes(texts) {
  const times = texts.map((text) => TIME.exec(text.trim()));
  if (!times.length || times.some((time) => time === null)) return texts;
  const isSame = (part) => times.every((time) => time[part] === times[0][part]);
  const hasYear = !isSame(1);
  const hasDay = hasYear || !isSame(2) || times.some((time) => time[3] === undefined);
  const hasSeconds = !isSame(4);
  return times.map(([, year, day, minute = "", second = ""]) =>
    [
      `${hasYear ? year : ""}${hasDay ? day : ""}`,
      `${minute}${hasSeconds ? second : ""}`,
    ]
      .filter(Boolean)
      .join(" "),
  );
}

/** Return a number with about three digits. */
export function digits(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 100_000))
    return value.toExponential(1).replace("+", "").replaceAll("-", "−");
  const places = size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 || size === 0 ? 2 : 3;
  const text = value.toFixed(places).replace("-", "−");
  return places === 3 ? text.replace(/0$/, "") : text;
}

/** Return a measure whose size is about 1, without the rounding of sums that cancel. */
export function measureText(value) {
  return digits(value !== null && Math.abs(value) < 0.0005 ? 0 : value);
}

/** Return a weight, which the page has in thousandths, without rounding it again. */
export function thousandths(weight) {
  return weight.toFixed(3);
}

/** Return a fraction in percent; a small one keeps one digit that is not 0. */
export function percent(value) {
  const size = Math.abs(value);
  if (size > 0 && size < 5e-6) return "< 0.001 %";
  if (size > 0 && size < 5e-4) return `${Number((100 * value).toPrecision(1))} %`;
  return `${(100 * value).toFixed(Math.abs(value) < 0.0995 ? 1 : 0)} %`;
}

/** Return a whole number with its thousands apart. */
export function grouped(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** Return a count with its noun. */
export function count(number, noun) {
  return `${grouped(number)} ${noun}${number === 1 ? "" : "s"}`;
}

const ruler = document.createElement("canvas").getContext("2d");

/** Return the width of a line of text in pixels. */
export function textWidth(text, font) {
  ruler.font = font;
  return ruler.measureText(text).width;
}
