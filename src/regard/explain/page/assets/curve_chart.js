// Curves of a run in one chart: values by step, read with the mouse, the keyboard, or as a table.

import { ACROSS, Axis } from "./curve_scale.js";
import { el, onWidth, svg, tableTwin } from "./elements.js";
import { duration } from "./run_words.js";
import { count, grouped, textWidth } from "./words.js";

const FONT = "11px system-ui, sans-serif";
const TOP = 8;
const NAME = 16; // above the curves, for the name of the best evaluation
const BOTTOM = 24;
const RIGHT = 12;
const LABELS = 44; // least width of the numbers, so that charts below each other have one axis
const MOST_DOTS = 60; // of a curve; more would hide it
const LOG_RATIO = 50; // of the largest to the least value, from which an axis may be logarithmic
const MOST_ROWS = 200; // of a table

/** What all charts share: what they are drawn against, the step that the reader looks at, the first
 * and the last point of the run, and its best evaluation. */
export const shared = { across: "step", step: null, first: null, last: null, best: null };

const charts = new Set();

/** Let all charts draw something else across, or look at another step. */
export function share(values) {
  Object.assign(shared, values);
  for (const chart of charts) "across" in values ? chart.draw() : chart.look();
}

/** A chart. `series` of `show` are `{ name, color, points, isDashed, isThin }`, a point
 * `{ step, elapsed, value }`, where a value that is not finite is a gap. */
export class CurveChart {
  constructor({ id, title, format, tick = tickText, height = 160, ...axis }) {
    Object.assign(this, { title, height, format, tick, width: 0, series: [] });
    Object.assign(this, { canBeLog: false, fromZero: false, namesBest: false, ...axis });
    this.top = TOP + (this.namesBest ? NAME : 0);
    this.legend = el("p", { class: "curve-legend" });
    this.spoken = el("p", { class: "unseen", "aria-live": "polite" });
    this.empty = el("p", { class: "curve-empty hint", text: "nothing yet" });
    this.plot = el(
      "div",
      {
        class: "curve-plot",
        tabindex: 0,
        role: "img",
        css: { height: `${height}px` },
        on: {
          pointermove: (event) => this.point(event),
          pointerdown: (event) => this.point(event),
          pointerleave: () => share({ step: null }),
          blur: () => share({ step: null }),
          keydown: (event) => this.press(event),
        },
      },
      this.empty,
    );
    this.twin = tableTwin(title, () => this.rows());
    this.root = el(
      "section",
      { class: "panel curve", id },
      el("div", { class: "curve-head" }, el("h2", { text: title }), this.legend),
      this.plot,
      this.twin,
      this.spoken,
    );
    onWidth(this.plot, (width) => {
      this.width = width;
      this.draw();
    });
    charts.add(this);
  }

  remove() {
    charts.delete(this);
    this.root.remove();
  }

  show(series) {
    this.series = series.filter(({ points }) => points.length);
    this.draw();
    this.refreshTable();
  }

  /** Make an open table again where it has rows to gain, as far down as it was read. */
  refreshTable() {
    const { length } = this.sparsest();
    const size = length < MOST_ROWS / 2 ? length : Math.floor(Math.log(length) * MOST_ROWS);
    if (size === this.tableSize || !this.twin.open) return;
    this.tableSize = size;
    const top = this.twin.querySelector(".scroll")?.scrollTop ?? 0;
    this.twin.refresh();
    this.twin.querySelector(".scroll").scrollTop = top;
  }

  /** Return the points of the curve that has fewest. */
  sparsest() {
    return this.series.reduce(
      (fewest, { points }) => (fewest && fewest.length <= points.length ? fewest : points),
      null,
    ) ?? [];
  }

  draw() {
    if (!this.width) return;
    const finite = this.series.map(({ points }) =>
      points.filter(({ value }) => Number.isFinite(value)),
    );
    const values = finite.flat();
    this.empty.hidden = values.length > 0;
    this.plot.querySelector("svg")?.remove();
    this.describe();
    if (!values.length) return;
    this.setAxes(values);
    this.cursor = svg("g", { class: "curve-cursor" });
    this.plot.append(
      svg(
        "svg",
        { width: this.width, height: this.height, "aria-hidden": true },
        ...this.drawGrid(),
        ...this.series.flatMap((series) => this.drawSeries(series)),
        ...this.drawBest(),
        this.cursor,
      ),
    );
    this.look();
  }

  setAxes(values) {
    const across = ACROSS[shared.across];
    let [low, high] = extent(values.map(({ value }) => value));
    const isLog = this.canBeLog && low > 0 && high / low > LOG_RATIO;
    if (this.fromZero) low = Math.min(0, low);
    const margin = 0.06 * (high - low || Math.abs(high) || 1);
    if (isLog) [low, high] = [low / 1.15, high * 1.15];
    else [low, high] = [this.fromZero && low === 0 ? 0 : low - margin, high + margin];
    this.y = new Axis({ low, high, start: this.height - BOTTOM, end: this.top, isLog });
    this.yTicks = this.y.ticks(Math.max(2, Math.floor((this.height - TOP - BOTTOM) / 32)));
    this.yTexts = this.yTicks.map(this.tick);
    const left = 12 + Math.max(LABELS, ...this.yTexts.map((text) => textWidth(text, FONT)));
    this.x = new Axis({
      low: across.isLog ? across.of(shared.first) : 0,
      high: across.of(shared.last),
      start: Math.ceil(left),
      end: this.width - RIGHT,
      isLog: across.isLog,
    });
  }

  drawGrid() {
    const { x, y } = this;
    const across = ACROSS[shared.across];
    const lines = this.yTicks.flatMap((tick, index) => {
      const at = Math.round(y.place(tick)) + 0.5;
      return [
        svg("line", { class: "grid", x1: x.start, x2: x.end, y1: at, y2: at }),
        svg("text", { x: x.start - 8, y: at + 4, "text-anchor": "end", text: this.yTexts[index] }),
      ];
    });
    let free = -Infinity; // the first pixel that no number is on
    const numbers = across
      .ticks(x, Math.max(2, Math.floor((x.end - x.start) / 72)))
      .flatMap((tick) => {
        const text = across.text(tick);
        const half = textWidth(text, FONT) / 2;
        const at = Math.min(x.place(tick), this.width - half - 1);
        if (at - half < free) return [];
        free = at + half + 12;
        return [
          svg("text", { class: "tick", x: at, y: this.height - 6, "text-anchor": "middle", text }),
        ];
      });
    return [...lines, ...numbers];
  }

  /** A dashed line at the evaluation whose weights are kept. */
  drawBest() {
    if (!shared.best) return [];
    const { start, end } = this.x;
    const at = this.x.place(ACROSS[shared.across].of(shared.best));
    if (!(at >= start && at <= end)) return [];
    const text = `best: step ${grouped(shared.best.step)}`;
    const half = textWidth(text, FONT) / 2;
    return [
      svg("line", { class: "best", x1: at, x2: at, y1: this.top, y2: this.height - BOTTOM }),
      this.namesBest
        ? svg("text", {
            x: Math.max(half, Math.min(this.width - half, at)),
            y: TOP + 8,
            "text-anchor": "middle",
            text,
          })
        : null,
    ];
  }

  drawSeries({ points, color, isDashed, isThin }) {
    const { x, y } = this;
    const across = ACROSS[shared.across];
    const path = [];
    const dots = [];
    let isOpen = false;
    points.forEach((point, index) => {
      if (!Number.isFinite(point.value)) {
        isOpen = false;
        return;
      }
      const [left, top] = [x.place(across.of(point)), y.place(point.value)];
      path.push(`${isOpen ? "L" : "M"}${left.toFixed(1)} ${top.toFixed(1)}`);
      const isAlone = !isOpen && !Number.isFinite(points[index + 1]?.value);
      isOpen = true;
      const isLast = index === points.length - 1;
      if (isAlone || isLast || (points.length <= MOST_DOTS && !isThin))
        dots.push(svg("circle", { cx: left, cy: top, r: 2.5, css: { fill: color } }));
    });
    const line = svg("path", {
      d: path.join(""),
      class: `line${isDashed ? " dashed" : ""}${isThin ? " thin" : ""}`,
      css: { stroke: color },
    });
    return [line, ...dots];
  }

  /** Show the values at the step that the reader looks at, or the last ones. */
  look() {
    const isAt = shared.step !== null;
    const points = this.series.map(({ points: all }) =>
      isAt ? nearest(all, shared.step) : all[all.length - 1],
    );
    this.legend.replaceChildren(
      ...this.series.map(({ name, color, isDashed }, index) =>
        el(
          "span",
          { class: "curve-key" },
          name
            ? el("span", { class: `swatch${isDashed ? " dashed" : ""}`, css: { "--color": color } })
            : null,
          name ? el("span", { text: name }) : null,
          el("span", {
            class: "value",
            text: points[index] ? this.format(points[index].value) : "–",
          }),
        ),
      ),
    );
    if (!this.cursor) return;
    this.cursor.replaceChildren();
    this.plot.classList.toggle("is-read", isAt);
    if (!isAt) return;
    const across = ACROSS[shared.across];
    const chosen = closest(points.filter(Boolean), shared.step);
    if (!chosen) return;
    const at = this.x.place(across.of(chosen));
    const text = `step ${grouped(chosen.step)} · ${duration(chosen.elapsed)}`;
    const half = textWidth(text, FONT) / 2 + 6;
    const middle = Math.max(half, Math.min(this.width - half, at));
    this.cursor.append(
      svg("line", { x1: at, x2: at, y1: this.top, y2: this.height - BOTTOM }),
      ...points.flatMap((point, index) =>
        point && Number.isFinite(point.value)
          ? [
              svg("circle", {
                cx: this.x.place(across.of(point)),
                cy: this.y.place(point.value),
                r: 4,
                css: { fill: this.series[index].color },
              }),
            ]
          : [],
      ),
      svg("rect", { x: middle - half, y: this.height - 19, width: 2 * half, height: 18, rx: 4 }),
      svg("text", { x: middle, y: this.height - 6, "text-anchor": "middle", text }),
    );
  }

  point(event) {
    if (!this.x || !this.series.length) return;
    const pixel = event.clientX - this.plot.getBoundingClientRect().left;
    const across = ACROSS[shared.across];
    let chosen = null;
    let least = Infinity;
    for (const { points } of this.series)
      for (const point of points) {
        const distance = Math.abs(this.x.place(across.of(point)) - pixel);
        if (distance < least) [chosen, least] = [point, distance];
      }
    share({ step: chosen.step });
  }

  press(event) {
    const steps = this.steps();
    if (!steps.length || event.altKey || event.ctrlKey || event.metaKey) return;
    const last = steps.length - 1;
    const at = shared.step === null ? last + 1 : lastUpTo(steps, shared.step);
    const jump = Math.max(1, Math.round(last / 20));
    const next = {
      ArrowLeft: at - 1,
      ArrowRight: at + 1,
      PageDown: at + jump,
      PageUp: at - jump,
      Home: 0,
      End: last,
    }[event.key];
    if (event.key === "Escape") share({ step: null });
    if (next === undefined) return;
    event.preventDefault();
    share({ step: steps[Math.max(0, Math.min(last, next))] });
    const values = this.legend.innerText.replaceAll("\n", " ");
    this.spoken.textContent = `Step ${grouped(shared.step)}: ${values}`;
  }

  /** Return all steps that some curve has a point at, in order. */
  steps() {
    const steps = new Set(this.series.flatMap(({ points }) => points.map(({ step }) => step)));
    return [...steps].sort((one, other) => one - other);
  }

  describe() {
    const texts = this.series.map(({ name, points }) => {
      const last = points[points.length - 1];
      const value = `${name || this.title} ${this.format(last.value)}`;
      return `${value} at step ${grouped(last.step)}, of ${count(points.length, "point")}`;
    });
    const how = "Arrow keys read values.";
    this.plot.setAttribute("aria-label", [this.title, ...texts, how].join("; "));
  }

  /** Return the table: a row an evaluation, or some of the points where there is none. */
  rows() {
    const header = ["step", "elapsed", ...this.series.map(({ name }) => name || this.title)];
    const fewest = this.sparsest();
    const stride = Math.ceil(fewest.length / MOST_ROWS);
    const chosen = fewest.filter((_, index) => index % stride === 0 || index === fewest.length - 1);
    const rows = chosen.map(({ step, elapsed }) => [
      grouped(step),
      duration(elapsed),
      ...this.series.map(({ points }) => {
        const point = nearest(points, step);
        return point ? this.format(point.value) : "–";
      }),
    ]);
    return [header, ...rows];
  }
}

function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

/** Return the number of an axis. */
function tickText(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6))
    return value.toExponential().replace("+", "").replaceAll("-", "−");
  const [whole, rest] = String(size).split(".");
  return `${value < 0 ? "−" : ""}${grouped(whole)}${rest ? `.${rest}` : ""}`;
}

function lastUpTo(steps, step) {
  let index = 0;
  while (index + 1 < steps.length && steps[index + 1] <= step) index += 1;
  return index;
}

/** Return the point of a curve that is nearest to a step; null where the curve is elsewhere. */
function nearest(points, step) {
  if (!points.length || step < points[0].step) return points[0]?.step === step ? points[0] : null;
  let [low, high] = [0, points.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (points[middle].step <= step) low = middle;
    else high = middle - 1;
  }
  const after = points[low + 1];
  return after && after.step - step < step - points[low].step ? after : points[low];
}

function closest(points, step) {
  return points.reduce(
    (best, point) =>
      best === null || Math.abs(point.step - step) < Math.abs(best.step - step) ? point : best,
    null,
  );
}
