// The axes of a chart: where values are drawn, and where their numbers are.

import { duration } from "./run_words.js";
import { grouped } from "./words.js";

const SECONDS = [
  ...[1, 2, 5, 10, 15, 30],
  ...[1, 2, 5, 10, 15, 30].map((minutes) => 60 * minutes),
  ...[1, 2, 3, 6, 12].map((hours) => 3600 * hours),
  ...[1, 2, 5, 10, 20, 50].map((days) => 86400 * days),
];

/** Return round numbers between two, about `most` of them. */
export function roundTicks(low, high, most) {
  const rough = (high - low) / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(rough));
  const factor = [1, 2, 5, 10].reduce((best, other) =>
    Math.abs(Math.log((other * power) / rough)) < Math.abs(Math.log((best * power) / rough))
      ? other
      : best,
  );
  return multiples(low, high, factor * power);
}

function multiples(low, high, step) {
  const ticks = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index++)
    ticks.push(Number((index * step).toPrecision(12)));
  return ticks;
}

/** Return powers of ten between two numbers, with twos and fives where they are few. */
export function logTicks(low, high, most) {
  const decades = Math.log10(high / low);
  const factors = decades > 2.5 ? [1] : decades > 1.2 ? [1, 3] : [1, 2, 5];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
    for (const factor of factors) ticks.push(Number((factor * 10 ** power).toPrecision(3)));
  const inside = ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  const step = Math.ceil(inside.length / Math.max(1, most));
  return inside.filter((_, index) => index % step === 0);
}

/** An axis: `place` gives the pixel of a value, `ticks` the values that have a number. */
export class Axis {
  constructor({ low, high, start, end, isLog = false }) {
    const wide = high > low ? { low, high } : { low: low - 0.5, high: high + 0.5 };
    Object.assign(this, isLog && low > 0 ? { low, high: high > low ? high : 2 * low } : wide);
    Object.assign(this, { start, end, isLog: isLog && low > 0 });
  }

  place(value) {
    const { low, high, start, end } = this;
    const fraction = this.isLog
      ? Math.log(value / low) / Math.log(high / low)
      : (value - low) / (high - low);
    return start + fraction * (end - start);
  }

  ticks(most) {
    const { low, high } = this;
    return this.isLog ? logTicks(low, high, most) : roundTicks(low, high, most);
  }
}

/** What a curve is drawn against: steps, their logarithm, or time. */
export const ACROSS = {
  step: {
    of: (point) => point.step,
    isLog: false,
    text: grouped,
    ticks: (axis, most) => axis.ticks(most).filter(Number.isInteger),
  },
  log: {
    of: (point) => Math.max(1, point.step),
    isLog: true,
    text: grouped,
    ticks: (axis, most) => axis.ticks(most).filter(Number.isInteger),
  },
  time: {
    of: (point) => point.elapsed,
    isLog: false,
    text: duration,
    ticks: ({ low, high }, most) => {
      const rough = (high - low) / Math.max(1, most);
      const step = SECONDS.find((seconds) => seconds >= rough) ?? 86400 * 100;
      return multiples(low, high, step);
    },
  },
};
