// Panel 4: one head. Its whole map, and the curves of the chosen query to its keys.

import { FONT, theme } from "./colors.js";
import { arrowStep, el, onWidth, svg, tableTwin } from "./elements.js";
import { clamp, Matrix } from "./matrix.js";
import { change, onChange, view } from "./view.js";
import { digits, label, percent, quoted, shortLabel, thousandths } from "./words.js";

const MOST_TOKENS = 44; // of a column; of more, those around the query and those with most weight
const NUM_AROUND = 10;
const NUM_STRONGEST = 16;
const ROWS = [18, 14]; // pixels, of few tokens and of many
const FEW_TOKENS = 24;
const EXACT_SIDE = 64; // up to which one scale for all rows is readable

/** Build the panel. */
export function oneHeadPanel(explained) {
  const title = el("span");
  const facts = el("p", { class: "note" });
  const matrix = new Matrix();
  const curves = new Curves(explained);
  const twin = tableTwin("Weights of the chosen query", () => tableRows(explained));
  const root = el(
    "section",
    { class: "panel", id: "one-head" },
    el("h2", {}, el("span", { class: "number", text: "4" }), title),
    facts,
    el("div", { class: "split" }, matrix.root, curves.root),
    twin,
  );
  onChange(() => {
    const map = explained.maps[view.layer];
    const number = explained.maps.filter(
      (other, index) => other.kind === map.kind && index <= view.layer,
    ).length;
    title.textContent = `One head: layer ${number}, head ${view.head + 1}`;
    facts.textContent = factsOf(explained, map);
    matrix.update(record(explained, map));
    curves.draw();
    twin.refresh();
  });
  return root;
}

function factsOf(explained, map) {
  const effect = map.effects[view.head] ?? null;
  const sink = map.sinks[view.head];
  const facts = [`${map.layer} · pattern ${map.pattern}`];
  if (map.tile > 1) facts.push(`each row and column has ${map.tile} positions`);
  if (effect !== null)
    facts.push(
      explained.hasProbabilities
        ? `without it the outputs' log-probability changes by ${digits(effect)}`
        : `without it the outputs change by ${digits(effect)} ${explained.document.unit}`,
    );
  if (sink) {
    facts.push(
      `${quoted(explained.keyText(map, sink[0]))} is a sink: it gets ${percent(sink[1])} of all attention`,
    );
  }
  return `${facts.join(" · ")}.`;
}

function record(explained, map) {
  const isByRow = Math.max(map.queries, map.keys) > EXACT_SIDE;
  const largest = map.largest(view.head);
  const numAllowed = map.runStart[map.queries]
    ? map.runLength.reduce((sum, length) => sum + length, 0)
    : 0;
  return {
    label: `Weights of head ${view.head + 1} of ${map.layer}`,
    rows: Array.from({ length: map.queries }, (_, query) => explained.queryText(map, query)),
    columns: Array.from({ length: map.keys }, (_, key) => explained.keyText(map, key)),
    isSigned: false,
    hasHatching: numAllowed < map.queries * map.keys ? "never computed" : "",
    row: view.query,
    column: view.key,
    strongest: map.row(view.head, clamp(view.query, 0, map.queries - 1))[0]?.key ?? 0,
    scaleText: ["0", isByRow ? "largest of its row" : thousandths(largest)],
    tiles: (area, height, width) =>
      map.tiles(view.head, area, height, width, isByRow ? null : largest),
    describe: (query, key) => {
      const words = `${quoted(explained.queryText(map, query))} → ${quoted(explained.keyText(map, key))}`;
      const found = map.value(view.head, query, key);
      if (found === null) return `${words}  never computed`;
      return `${words}  ${found.isExact ? "" : "below "}${thousandths(found.weight)}`;
    },
    onPick: (query, key) => change({ query, key }),
  };
}

/** Two columns of tokens, and the curves of the chosen query. */
class Curves {
  constructor(explained) {
    this.explained = explained;
    this.picture = svg("svg", { class: "curves", role: "img" });
    this.root = el(
      "div",
      {
        class: "curve-box",
        tabindex: 0,
        role: "application",
        "aria-label": "Curves of the chosen query. Arrow keys choose another.",
        on: { keydown: (event) => this.onKey(event) },
      },
      this.picture,
    );
    onWidth(this.root, (width) => {
      this.width = width;
      this.draw();
    });
  }

  onKey(event) {
    const step = arrowStep(event, false);
    if (!step) return;
    event.preventDefault();
    const map = this.explained.maps[view.layer];
    change({ query: clamp(view.query + step, 0, map.queries - 1), key: null });
  }

  draw() {
    const map = this.explained.maps[view.layer];
    if (!this.width || !map?.isOpen) return;
    const query = clamp(view.query, 0, map.queries - 1);
    const entries = map.row(view.head, query);
    const queries = indicesAround(map.queries, query, NUM_AROUND);
    const keys = keysToShow(map, query, entries);
    const most = Math.max(queries.length, keys.length);
    const step = ROWS[most <= FEW_TOKENS ? 0 : 1];
    const height = step * most + 32;
    const width = Math.min(this.width, 420);
    const [start, end] = [Math.min(120, width * 0.32), width - Math.min(120, width * 0.32)];
    const y = (index, length) => 34 + (index + (most - length) / 2) * step;
    const at = new Map(keys.map((key, index) => [key, y(index, keys.length)]));
    const from = y(queries.indexOf(query), queries.length);
    const largest = entries[0]?.weight || 1;
    const parts = [heading(start, "query", "end"), heading(end, "key", "start")];
    parts.push(
      ...keys
        .map((key, index) =>
          key === null || map.isComputed(query, key)
            ? null
            : svg("rect", {
                x: end + 2,
                y: y(index, keys.length) - step / 2 + 2,
                width: width - end - 2,
                height: step - 4,
                fill: "url(#hatching)",
              }),
        )
        .filter(Boolean),
    );
    for (const { key, weight } of [...entries].reverse()) {
      if (!at.has(key)) continue;
      const to = at.get(key);
      const middle = (start + end) / 2;
      parts.push(
        svg("path", {
          d: `M${start + 6},${from} C${middle},${from} ${middle},${to} ${end - 6},${to}`,
          fill: "none",
          stroke: theme.accent,
          "stroke-width": (0.5 + 5 * weight).toFixed(2),
          "stroke-opacity": (0.15 + (0.85 * weight) / largest).toFixed(2),
          "stroke-linecap": "round",
        }),
      );
    }
    parts.push(
      ...queries.map((index, row) =>
        index === null
          ? gap(start, y(row, queries.length), "end")
          : token(
              this.explained.queryText(map, index),
              start,
              y(row, queries.length),
              "end",
              index === query,
              () => change({ query: index, key: null }),
            ),
      ),
    );
    const weights = new Map(entries.map(({ key, weight }) => [key, weight]));
    parts.push(
      ...keys.map((index, row) =>
        index === null
          ? gap(end, y(row, keys.length), "start")
          : token(
              this.explained.keyText(map, index),
              end,
              y(row, keys.length),
              "start",
              index === view.key,
              () => change({ key: index }),
              weights.get(index) / largest,
              isSink(map, index) ? "sink" : "",
            ),
      ),
    );
    this.picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.picture.setAttribute("width", width);
    this.picture.setAttribute("height", height);
    this.picture.setAttribute(
      "aria-label",
      `Weights of ${quoted(this.explained.queryText(map, query))}`,
    );
    this.picture.replaceChildren(hatching(), ...parts);
  }
}

function isSink(map, key) {
  return map.sinks[view.head]?.[0] === key;
}

/** Return indices around one, with null where some are left out. */
function indicesAround(length, center, numAround) {
  if (length <= MOST_TOKENS) return Array.from({ length }, (_, index) => index);
  const first = clamp(center - numAround, 0, length - 2 * numAround - 1);
  const last = first + 2 * numAround + 1;
  const indices = Array.from({ length: last - first }, (_, index) => first + index);
  return [...(first > 0 ? [null] : []), ...indices, ...(last < length ? [null] : [])];
}

/** Return the keys that are shown for a query: all, or those around it and those with most weight. */
function keysToShow(map, query, entries) {
  if (map.keys <= MOST_TOKENS) return Array.from({ length: map.keys }, (_, index) => index);
  const around =
    map.kind === "cross" ? [] : indicesAround(map.keys, query, 6).filter((key) => key !== null);
  const strongest = entries.slice(0, NUM_STRONGEST).map(({ key }) => key);
  const order = [...new Set([...around, ...strongest])].sort((one, two) => one - two);
  const shown = [];
  order.forEach((key, index) => {
    if (index === 0 ? key > 0 : key > order[index - 1] + 1) shown.push(null);
    shown.push(key);
  });
  if (order.length && order.at(-1) < map.keys - 1) shown.push(null);
  return shown;
}

function heading(x, text, anchor) {
  return svg("text", {
    x,
    y: 12,
    "text-anchor": anchor,
    "font-family": FONT,
    "font-size": 11,
    fill: theme.muted,
    text,
  });
}

function gap(x, y, anchor) {
  return svg("text", {
    x,
    y,
    "text-anchor": anchor,
    "dominant-baseline": "central",
    "font-family": FONT,
    "font-size": 11,
    fill: theme.muted,
    text: "⋮",
  });
}

function token(text, x, y, anchor, isChosen, onPick, strength = 1, mark = "") {
  const shown = shortLabel(text) + (mark ? ` · ${mark}` : "");
  return svg("text", {
    x: x + (anchor === "end" ? -2 : 2),
    y,
    "text-anchor": anchor,
    "dominant-baseline": "central",
    "font-family": FONT,
    "font-size": 11.5,
    "font-weight": isChosen ? 650 : 400,
    fill: isChosen ? theme.accent : strength > 0.3 ? theme.ink : theme.muted,
    class: "token",
    text: shown,
    on: { click: onPick },
  });
}

function hatching() {
  return svg(
    "defs",
    {},
    svg(
      "pattern",
      {
        id: "hatching",
        width: 6,
        height: 6,
        patternUnits: "userSpaceOnUse",
        patternTransform: "rotate(45)",
      },
      svg("rect", { width: 6, height: 6, fill: theme.frame }),
      svg("rect", { width: 1.2, height: 6, fill: theme.hatch }),
    ),
  );
}

function tableRows(explained) {
  const map = explained.maps[view.layer];
  const query = clamp(view.query, 0, map.queries - 1);
  const rows = map
    .row(view.head, query)
    .map(({ key, weight }) => [label(explained.keyText(map, key)), key + 1, thousandths(weight)]);
  rows.push(["all other keys", "", thousandths(map.restOf(view.head, query))]);
  return [[`key of ${quoted(explained.queryText(map, query))}`, "position", "weight"], ...rows];
}
