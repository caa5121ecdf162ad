// Panel 1: why this word. One row of bars for each method, under the words of the input.

import { FONT, theme } from "./colors.js";
import { el, keepFocus, onWidth, svg, tableTwin } from "./elements.js";
import { clamp, paintTiles } from "./matrix.js";
import { alternativeRows } from "./sentence_panel.js";
import { change, onChange, view } from "./view.js";
import {
  continuations,
  count,
  digits,
  isRightToLeft,
  label,
  measureText,
  percent,
  quoted,
  shortLabel,
  textWidth,
} from "./words.js";

const MOST_WORDS = 96; // whose bars are all shown; of more, a part
const ZOOMED_LINES = 2; // of a long input
const NUM_STRONGEST = 8;
const LARGEST_ERROR = 0.01; // of scores that are said to sum to the change
const CONTROL = "control";
const MEASURES = [
  {
    name: "comprehensiveness",
    text: "compre\u00adhensive\u00adness ↑",
    title: "what removing the highest scores loses of the probability: more is better",
  },
  {
    name: "sufficiency",
    text: "suffi\u00adciency ↓",
    title: "what keeping only the highest scores loses of the probability: less is better",
  },
  { name: "tau", text: "tau ↑", title: "rank agreement with leaving each word out: 1 is full" },
];

/** Build the panel. */
export function whyPanel(explained) {
  const heading = el("h2", {}, el("span", { class: "number", text: "1" }), el("span"));
  const alternatives = el("div", { class: "alternatives" });
  const bars = new Bars(explained);
  const figures = el("div", { class: "scroll", tabindex: 0, "aria-label": "Faithfulness" });
  const facts = el("p", { class: "note" });
  const twin = tableTwin("Scores of the input for the chosen output", () => tableRows(explained));
  const root = el(
    "section",
    { class: "panel", id: "why" },
    heading,
    alternatives,
    bars.root,
    figures,
    facts,
    twin,
  );
  onChange(() => {
    const { contrast } = explained.document;
    heading.lastChild.textContent = `Why ${explained.outputTitle(view.output)}${contrast === null ? "" : `, not ${quoted(contrast)}`}`;
    alternatives.replaceChildren(...alternativeRows(explained.alternatives(view.output, 3)));
    bars.draw();
    figures.replaceChildren(figureTable(explained));
    facts.textContent = factsText(explained);
    twin.refresh();
  });
  return root;
}

/** The rows of bars, broken into lines of the width of the panel. */
class Bars {
  constructor(explained) {
    this.explained = explained;
    this.root = el("div", { class: "bars" });
    this.value = el("output", { class: "status", "aria-live": "polite" });
    this.lines = el("div", {});
    this.strips = el("div", { class: "strips" });
    this.root.append(this.strips, this.lines, this.value);
    onWidth(this.root, (width) => {
      this.width = width;
      this.draw();
    });
  }

  draw() {
    if (this.width) keepFocus(this.root, () => this.drawAgain());
  }

  drawAgain() {
    const { explained } = this;
    const names = [...explained.names];
    const tracks = names.map((name) => this.track(name, explained.method(name).title));
    if (explained.row(CONTROL, view.output).some((value) => value !== null))
      tracks.push(this.track(CONTROL, "shuffled weights"));
    const shown = explained.features
      .map((_, index) => index)
      .filter((index) => explained.leads[index] === index)
      .filter((index) => tracks.some(({ row }) => row[index] !== null));
    const isSeries = explained.parts.some((part) => part.isSeries);
    const chosen = isSeries
      ? []
      : shown.length <= MOST_WORDS
        ? shown
        : this.around(shown, tracks[0]);
    const widest = Math.max(...tracks.map(({ title }) => textWidth(title, `650 12px ${FONT}`)));
    const legend = Math.min(Math.ceil(1.08 * widest) + 12, this.width < 440 ? 148 : 160);
    const groups = [];
    for (const part of explained.parts) {
      const indices = chosen.filter((index) => index >= part.start && index < part.stop);
      const isOnlyMark =
        part.isWritten && indices.every((index) => explained.features[index].is_special);
      const patches = explained.patches(part);
      if (patches) groups.push(this.patchMaps(patches, tracks));
      else if (indices.length && !isOnlyMark) {
        const lines = this.partLines(part, indices, tracks, legend);
        groups.push(...(chosen.length < shown.length ? lines.slice(0, ZOOMED_LINES) : lines));
      }
    }
    this.lines.replaceChildren(...groups);
    const hasPatches = explained.parts.some((part) => explained.patches(part));
    this.strips.replaceChildren(
      ...(chosen.length < shown.length && !hasPatches
        ? this.overview(shown, tracks, legend, chosen)
        : []),
    );
    this.say(view.feature, tracks);
  }

  track(name, title) {
    const { explained } = this;
    const row = explained.byWord(explained.row(name, view.output));
    const values = row.filter((value) => value !== null);
    const high = values.reduce((one, two) => Math.max(one, two), 0);
    const low = values.reduce((one, two) => Math.min(one, two), 0);
    const warning = explained.warning(name);
    return { name, title, warning, row, high, low, span: high - low || 1 };
  }

  /** Return the features around the chosen one, or around the one with the largest score. */
  around(shown, { row }) {
    const strongest = shown.reduce((best, index) =>
      Math.abs(row[index] ?? 0) > Math.abs(row[best] ?? 0) ? index : best,
    );
    const center = shown.indexOf(this.explained.leads[view.feature] ?? strongest);
    const size = Math.min(40, Math.max(16, Math.floor(this.width / 24)));
    const start = clamp(center - (size >> 1), 0, shown.length - size);
    return shown.slice(start, start + size);
  }

  /** Break the words of a part into lines, each with the rows of all methods. */
  partLines(part, indices, tracks, legend) {
    const texts = indices.map((index) => this.explained.wordText(index));
    const isContinued = continuations(texts);
    const isReversed = isRightToLeft(texts);
    const room = this.width - legend - 4;
    const words = indices.map((index, at) => {
      const text = shortLabel(texts[at], 18);
      const width = Math.ceil(Math.max(16, textWidth(text, `13px ${FONT}`) + 2));
      return { index, text, size: width + (isContinued[at] ? 1 : 6) };
    });
    const isPart = part.stop - part.start > MOST_WORDS;
    const lines = isPart ? breakLines(words, room) : evenLines(words, room);
    if (lines.length === 1) {
      // few words may be wide
      const stretch = Math.min(room / widthOf(words), 2);
      for (const word of lines[0]) word.size = Math.floor(word.size * stretch);
    }
    const title = this.explained.parts.length > 1 ? part.name : "";
    return lines.map((words, number) =>
      this.line(words, tracks, {
        legend,
        title: number === 0 ? title : "",
        isReversed,
        isFirst: number === 0,
      }),
    );
  }

  line(words, tracks, { legend, title, isReversed, isFirst }) {
    const names = el(
      "div",
      { class: "names", css: { width: `${legend}px` } },
      el("div", { class: "part", text: title }),
      ...tracks.map((track) => this.name(track, isFirst)),
    );
    const columns = words.map(({ index, text, size }) =>
      el(
        "div",
        {
          class: index === this.explained.leads[view.feature] ? "column chosen" : "column",
          css: { width: `${size}px` },
          on: {
            click: () =>
              change({ feature: this.explained.leads[view.feature] === index ? null : index }),
            pointerenter: () => this.say(index, tracks),
          },
        },
        el("div", { class: "text", dir: "auto", text }),
        ...tracks.map((track) => bar(track, track.row[index])),
      ),
    );
    return el(
      "div",
      { class: "bar-line" },
      names,
      el("div", { class: "columns", dir: isReversed ? "rtl" : "ltr" }, ...columns),
    );
  }

  /** Draw the patches of a picture once for each method. */
  patchMaps({ cells, rows, columns }, tracks) {
    const { image } = this.explained.document;
    const sideOf = (isLarge) =>
      Math.max(
        3,
        Math.floor(Math.min(isLarge ? 192 : 88, this.width - 8) / Math.max(rows, columns)),
      );
    const picture = (attributes) => el("img", { src: image, alt: "The image", ...attributes });
    const whole = () => {
      const side = sideOf(true);
      return el(
        "figure",
        {},
        picture({ css: { width: `${side * columns}px`, height: `${side * rows}px` } }),
        el("figcaption", {}, el("div", { class: "name", text: "image" })),
      );
    };
    return el(
      "div",
      { class: "patch-maps" },
      image ? whole() : null,
      ...tracks.map((track) => {
        const isChosen = track.name === view.method;
        const side = sideOf(isChosen);
        const isSigned = track.low < 0;
        const largest = Math.max(track.high, -track.low) || 1;
        const values = new Float32Array(rows * columns).fill(NaN);
        for (const { index, row, column } of cells) {
          if (track.row[index] !== null)
            values[row * columns + column] = track.row[index] / largest;
        }
        const canvas = el("canvas", {
          class: image && isChosen ? "over-image" : null,
          width: 2 * side * columns,
          height: 2 * side * rows,
          css: { width: `${side * columns}px`, height: `${side * rows}px` },
        });
        paintTiles(canvas, values, rows, columns, isSigned);
        const cellAt = (event) =>
          cells.find(
            ({ row, column }) =>
              row === Math.floor(event.offsetY / side) &&
              column === Math.floor(event.offsetX / side),
          );
        canvas.addEventListener("pointermove", (event) => {
          const cell = cellAt(event);
          if (cell) this.say(cell.index, tracks);
        });
        canvas.addEventListener("click", (event) =>
          change({ feature: cellAt(event)?.index ?? null }),
        );
        const kind = { class: track.warning ? "unconverged" : "" };
        const box = el("div", { class: "figure-box" }, image && isChosen ? picture({}) : null, canvas);
        return el("figure", kind, box, el("figcaption", {}, this.name(track, true)));
      }),
    );
  }

  name({ name, title, warning }, isFirst) {
    if (name === CONTROL) return el("div", { class: "name control", text: title, title });
    return el("button", {
      type: "button",
      class: `${name === view.method ? "name chosen" : "name"}${warning ? " unconverged" : ""}`,
      text: warning ? `${title}\n${warning.replace(": ", "\n")}` : title,
      title: warning ? `${title}, ${warning}` : title,
      tabindex: isFirst ? 0 : -1,
      "aria-pressed": name === view.method,
      "data-key": name,
      on: { click: () => change({ method: name }) },
    });
  }

  /** Draw each method over a long input: the largest scores of each part of it. */
  overview(shown, tracks, legend, chosen) {
    const width = this.width - legend - 4;
    const lead = this.explained.leads[view.feature] ?? null;
    const rows = tracks.map((track) => {
      const canvas = strip(
        track,
        shown,
        width,
        chosen.length
          ? [shown.indexOf(chosen[0]), shown.indexOf(chosen.at(-1)) + 1]
          : [shown.indexOf(lead), shown.indexOf(lead) + 1],
      );
      canvas.addEventListener("click", (event) => {
        change({ feature: shown[Math.floor((event.offsetX / width) * shown.length)] });
      });
      return el(
        "div",
        { class: "bar-line" },
        el("div", { class: "names", css: { width: `${legend}px` } }, this.name(track, true)),
        canvas,
      );
    });
    const { row } = tracks[0];
    const strongest = [...shown].sort(
      (one, two) => Math.abs(row[two] ?? 0) - Math.abs(row[one] ?? 0),
    );
    const chips = strongest.slice(0, NUM_STRONGEST).map((index) =>
      el("button", {
        type: "button",
        class: "chip",
        dir: "auto",
        "data-key": `chip ${index}`,
        "aria-pressed": index === lead,
        text: `${shortLabel(this.explained.wordText(index))} ${digits(row[index])}`,
        on: { click: () => change({ feature: index }) },
      }),
    );
    const hint = chosen.length
      ? `Framed part, from word ${chosen[0] + 1} of ${count(shown.length, "word")}`
      : `${label(this.explained.features[shown[0]].text)} to ${label(this.explained.features[shown.at(-1)].text)}`;
    return [
      ...this.history(shown, width, legend),
      ...rows,
      el(
        "div",
        { class: "chips" },
        el("span", { class: "hint", text: "Largest scores" }),
        ...chips,
      ),
      el("p", { class: "hint", text: hint }),
    ];
  }

  /** Draw the values of the window that a forecast was made from, and the forecast behind it. */
  history(shown, width, legend) {
    const { explained } = this;
    const past = explained.document.history ?? [];
    const isPast = (index) => explained.features[index].part === "history";
    const numPast = shown.filter(isPast).length;
    if (!past.length || !numPast) return [];
    const ahead = explained.outputs.map(({ score }) => score);
    const step = (width * numPast) / shown.length / past.length;
    const numAhead = Math.min(ahead.length, Math.floor(width / step) - past.length);
    const values = [...past, ...ahead.slice(0, numAhead)];
    const known = values.filter((value) => Number.isFinite(value));
    const [low, high] = [Math.min(...known), Math.max(...known)];
    const x = (index) => (index + 0.5) * step;
    const y = (value) => 4 + (48 * (high - value)) / (high - low || 1);
    const line = (first, stop, stroke) => {
      let path = "";
      for (let i = first; i < stop; i++) {
        if (!Number.isFinite(values[i])) continue;
        const isStart = i === first || !Number.isFinite(values[i - 1]);
        const isEnd = i === stop - 1 || !Number.isFinite(values[i + 1]);
        path += `${isStart ? "M" : "L"}${x(i).toFixed(1)},${y(values[i]).toFixed(1)}`;
        if (isStart && isEnd) path += "h1.5"; // a value between two that are missing
      }
      return svg("path", { d: path, fill: "none", stroke, "stroke-width": 1.5 });
    };
    const chosen = past.length + view.output;
    const range = `${digits(low)} to ${digits(high)} ${explained.document.unit}`;
    const picture = svg(
      "svg",
      { class: "values", width, height: 56, role: "img", "aria-label": `Values, ${range}` },
      line(0, past.length, theme.muted),
      numAhead > 0 ? line(past.length - 1, values.length, theme.accent) : null,
      chosen < values.length
        ? svg("circle", { cx: x(chosen), cy: y(values[chosen]), r: 3.5, fill: theme.accent })
        : null,
    );
    const names = el("div", { class: "names part", text: "values", css: { width: `${legend}px` } });
    return [
      el("div", { class: "bar-line" }, names, picture),
      el("p", { class: "hint", text: `Values ${range}; the forecast in color` }),
    ];
  }

  say(feature, tracks) {
    const index = this.explained.leads[feature] ?? null;
    if (index === null) {
      this.value.textContent = "";
      return;
    }
    const { document } = this.explained;
    const text = this.explained.wordText(index);
    const { name, title, row } =
      tracks.find((track) => track.name === view.method) ?? tracks[0] ?? {};
    if (!title) return;
    const unit = name === CONTROL ? document.unit : this.explained.method(name).unit;
    this.value.textContent =
      row[index] === null
        ? `${quoted(text)} comes after the output`
        : `${quoted(text)}  ${digits(row[index])} ${unit} · ${title}`;
  }
}

function widthOf(words) {
  return words.reduce((sum, { size }) => sum + size, 0);
}

/** Break words into as few lines as fit, of about the same width: no word is alone in the last. */
function evenLines(words, room) {
  const greedy = breakLines(words, room);
  for (let width = Math.ceil(widthOf(words) / greedy.length); width < room; width += 8) {
    const lines = breakLines(words, width);
    if (lines.length <= greedy.length) return lines;
  }
  return greedy;
}

function breakLines(words, room) {
  const lines = [[]];
  let used = 0;
  for (const word of words) {
    if (used + word.size > room && lines.at(-1).length) {
      lines.push([]);
      used = 0;
    }
    used += word.size;
    lines.at(-1).push(word);
  }
  return lines;
}

function bar({ name, span, high, warning }, value) {
  const cell = el("div", { class: name === view.method ? "bar-cell chosen" : "bar-cell" });
  if (name === CONTROL) cell.classList.add("control");
  if (warning) cell.classList.add("unconverged");
  cell.append(el("span", { class: "axis", css: { top: `${(100 * high) / span}%` } }));
  if (value === null) return cell;
  const top = Math.max(0, value);
  cell.append(
    el("span", {
      class: value < 0 ? "bar negative" : "bar",
      css: {
        top: `${(100 * (high - top)) / span}%`,
        height: `max(${value ? 1 : 0}px, ${(100 * Math.abs(value)) / span}%)`,
      },
    }),
  );
  return cell;
}

function strip({ name, row, high, span }, shown, width, [start, stop]) {
  const ratio = Math.min(2, globalThis.devicePixelRatio || 1);
  const height = name === view.method ? 40 : 18;
  const canvas = el("canvas", {
    class: "strip",
    width: width * ratio,
    height: height * ratio,
    css: { width: `${width}px`, height: `${height}px` },
  });
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.fillStyle = theme.frame;
  context.fillRect(0, 0, width, height);
  context.fillStyle = theme.grid;
  context.fillRect(
    (start / shown.length) * width,
    0,
    Math.max(2, ((stop - start) / shown.length) * width),
    height,
  );
  const zero = (height * high) / span;
  for (let x = 0; x < width; x++) {
    const first = Math.floor((x / width) * shown.length);
    const last = Math.max(first + 1, Math.floor(((x + 1) / width) * shown.length));
    let [top, bottom] = [0, 0];
    for (let i = first; i < last; i++) {
      top = Math.max(top, row[shown[i]] ?? 0);
      bottom = Math.min(bottom, row[shown[i]] ?? 0);
    }
    context.fillStyle = name === view.method ? theme.accent : theme.muted;
    context.fillRect(x, zero - (top / span) * height, 1, (top / span) * height);
    context.fillStyle = theme.second;
    context.fillRect(x, zero, 1, (-bottom / span) * height);
  }
  return canvas;
}

/** Build the table of how faithful each method is, next to random scores. */
function figureTable(explained) {
  const methods = explained.names.map((name) => [name, explained.method(name)]);
  const measured = methods.map(([, { faithfulness }]) => faithfulness).filter(Boolean);
  if (!measured.length) return "";
  const floors = measured.map(({ random }) => random);
  const isOneFloor = floors.every((floor) => JSON.stringify(floor) === JSON.stringify(floors[0]));
  const header = el(
    "tr",
    {},
    el("th", { scope: "col", text: "method" }),
    ...MEASURES.map(({ text, title }) => el("th", { scope: "col", title, text })),
  );
  const rows = methods.map(([name, method]) =>
    el(
      "tr",
      {
        class: `${name === view.method ? "chosen" : ""}${explained.warning(name) ? " unconverged" : ""}`,
      },
      el(
        "th",
        { scope: "row", text: method.title },
        explained.warning(name)
          ? el("span", { class: "warning", text: explained.warning(name) })
          : null,
      ),
      ...MEASURES.map(({ name: measure }) => figureCell(method.faithfulness, measure, isOneFloor)),
    ),
  );
  if (isOneFloor) {
    rows.push(
      el(
        "tr",
        { class: "random" },
        el("th", { scope: "row", text: "random scores" }),
        ...MEASURES.map(({ name }) => el("td", { text: measureText(floors[0][name]) })),
      ),
    );
  }
  return el("table", { class: "figures" }, el("thead", {}, header), el("tbody", {}, ...rows));
}

function figureCell(faithfulness, measure, isOneFloor) {
  if (!faithfulness) return el("td", { text: "–" });
  const floor = faithfulness.random[measure];
  return el(
    "td",
    {},
    el("span", { text: measureText(faithfulness[measure]) }),
    isOneFloor || floor === undefined || floor === null
      ? null
      : el("span", { class: "floor", text: ` random ${measureText(floor)}` }),
  );
}

/** Say how far the scores of a method miss the change that they share out, and how alike the control is. */
function factsText(explained) {
  const facts = explained.names
    .map((name) => explained.method(name))
    .filter(({ error }) => error !== null)
    .map(
      ({ title, error, steps }) =>
        `Error of ${title}: ${percent(error)} of the total${steps ? ` (${count(steps, "step")})` : ""}${error > LARGEST_ERROR ? "; its scores do not sum to the change that they explain" : ""}.`,
    );
  return [...facts, controlText(explained.document.control_similarity)].filter(Boolean).join(" ");
}

function controlText(similarity) {
  if (similarity === null) return "";
  const amount = similarity < 0.2 ? "little" : similarity < 0.5 ? "some" : "much";
  const verdict =
    similarity <= -0.2
      ? "without training the picture is rather the reverse of this one"
      : `${amount} of this picture is there without training, from the input and the architecture alone`;
  return `Control: with shuffled weights the scores have a rank correlation of ${measureText(similarity)} with these: ${verdict}.`;
}

function tableRows(explained) {
  const titles = explained.names.map(
    (name) => `${explained.method(name).title}, ${explained.method(name).unit}`,
  );
  const rows = explained.names.map((name) => explained.row(name, view.output));
  return [
    ["word", ...titles],
    ...explained.features.map(({ text }, index) => [
      label(text),
      ...rows.map((row) => digits(row[index])),
    ]),
  ];
}
