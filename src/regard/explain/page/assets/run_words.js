// Durations, sizes and figures of a run, as its console has them.

import { digits, grouped } from "./words.js";

const MINUS = "−";

/** Return seconds as people read them. */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole}s`;
  const two = (number) => String(number).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  if (minutes < 100) return `${minutes}m${two(whole % 60)}s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 100) return `${hours}h${two(minutes % 60)}m`;
  return `${Math.floor(hours / 24)}d${two(hours % 24)}h`;
}

/** Return bytes as people read them. */
export function bytes(number) {
  if (number === 0) return "0";
  if (number >= 1e9) return `${(number / 1e9).toFixed(number >= 1e11 ? 0 : 1)} GB`;
  return `${Math.round(number / 1e6)} MB`;
}

/** Return a number with so many digits behind the point, and its thousands apart. */
export function fixed(value, numDigits) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "not finite";
  if (Math.abs(value) >= 1e7) return digits(value);
  const [whole, rest] = Math.abs(value).toFixed(numDigits).split(".");
  const sign = value < 0 ? MINUS : "";
  return `${sign}${grouped(whole)}${rest === undefined ? "" : `.${rest}`}`;
}

/** Return a learning rate or a norm, whose size may be any. */
export function anySize(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "not finite";
  return digits(value);
}

/** Return how many numbers a model learns. */
export function parameters(number) {
  const size = number >= 1e9 ? `${(number / 1e9).toFixed(1)} B` : `${(number / 1e6).toFixed(1)} M`;
  return `${number < 1e5 ? grouped(number) : size} parameters`;
}
