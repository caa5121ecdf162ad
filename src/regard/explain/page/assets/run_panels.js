// Where a run is, and how it ended.

import { el } from "./elements.js";
import { bytes, duration, fixed, parameters } from "./run_words.js";
import { grouped } from "./words.js";

const PHASES = {
  reading: "Reading the data",
  starting: "Starting",
  training: "Training",
  testing: "Testing the best weights",
  finished: "Finished",
  stopped: "Stopped",
  failed: "Failed",
};

const BEFORE = {
  reading: "Reading the data, and building the vocabulary",
  starting: "Measuring a few steps, for the plan",
};

/** The name of the run, and what it does. */
export class RunHeader {
  constructor() {
    this.name = el("span", { dir: "auto" });
    this.phase = el("p", { class: "phase", role: "status" });
    this.facts = el("p", { class: "facts" });
    this.root = el(
      "header",
      {},
      el("h1", {}, el("span", { class: "brand", text: "regard" }), this.name),
      this.phase,
      this.facts,
    );
  }

  show(state) {
    const { model, planned } = state.latest;
    this.name.textContent = state.run.name;
    this.phase.dataset.phase = state.phase;
    if (this.phase.textContent !== PHASES[state.phase])
      this.phase.textContent = PHASES[state.phase];
    this.facts.textContent = [
      model && parameters(model.num_parameters),
      planned?.optimizer,
      planned?.device,
    ]
      .filter(Boolean)
      .join(" · ");
  }
}

/** How far the run is: a bar, and the figures of the moment. */
export class ProgressPanel {
  constructor(metrics) {
    this.metrics = metrics;
    this.where = el("p", { class: "where" });
    this.left = el("p", { class: "left" });
    this.fill = el("div", { class: "fill" });
    this.bar = el(
      "div",
      { class: "bar", role: "progressbar", "aria-label": "Steps", "aria-valuemin": 0 },
      this.fill,
    );
    this.tiles = el("dl", { class: "tiles" });
    this.root = el(
      "section",
      { class: "panel", id: "progress", "aria-label": "Progress" },
      el("div", { class: "line" }, this.where, this.left),
      this.bar,
      this.tiles,
    );
  }

  /** `now` is the time in seconds; clocks stand still without a connection, and at the end. */
  show(state, now) {
    const { position } = state;
    const { planned, finished, progress, working } = state.latest;
    const total = (progress ?? position ?? planned)?.total_steps;
    const step = finished?.step ?? position?.step ?? 0;
    const isOver = state.hasEnded || Boolean(finished);
    const since = isOver ? 0 : now - state.eventTime;
    this.where.textContent = total
      ? `Step ${grouped(step)} of ${grouped(Math.max(step, total))}`
      : BEFORE[state.phase] ?? "Before the first step";
    const epoch = position ? `epoch ${grouped(position.epoch)}` : "";
    const hint = `  ${working ? workText(working) : epoch}`;
    this.where.append(el("span", { class: "hint", text: hint }));
    this.left.textContent = isOver ? "" : leftText(position, planned, since);
    const share = total ? step / total : working?.total ? working.done / working.total : 0;
    const fraction = finished ? 1 : Math.min(1, share);
    this.fill.style.width = `${100 * fraction}%`;
    this.bar.setAttribute("aria-valuemax", Math.max(step, total ?? 1));
    this.bar.setAttribute("aria-valuenow", step);
    this.fraction = fraction;
    const elapsed = finished?.seconds ?? (position ? position.elapsed + since : null);
    this.tiles.hidden = !total;
    this.tiles.replaceChildren(...this.tileTexts(state, elapsed, progress).map(tile));
  }

  tileTexts(state, elapsed, progress) {
    const { best, latest } = state;
    const { evaluated } = latest;
    const loss = progress?.loss ?? evaluated?.train_loss;
    const tiles = [
      ["Elapsed", elapsed === null ? "–" : duration(elapsed), planText(latest)],
      ["Training loss", loss === undefined ? "–" : fixed(loss, 3), ""],
    ];
    for (const name of ["loss", state.scoreNames[0]].filter(Boolean)) {
      const { heading, num_digits: numDigits } = metricOf(this.metrics, name);
      const value = evaluated?.measures[name];
      tiles.push([
        name === "loss" ? "Validation loss" : heading,
        evaluated ? fixed(value, numDigits) : "–",
        best
          ? `best ${fixed(best.measures[name], numDigits)}, step ${grouped(best.step)}`
          : "not evaluated yet",
      ]);
    }
    if (progress) {
      const speed = fixed(progress.tokens_per_second, 0);
      tiles.push(["Speed", speed, `${rateUnit(state)} a second`]);
    }
    if (progress?.memory_bytes) {
      const { planned } = latest;
      const note = planned ? `${bytes(planned.memory_bytes)} planned` : "";
      tiles.push(["Memory", bytes(progress.memory_bytes), note]);
    }
    return tiles;
  }
}

function tile([term, value, note]) {
  return el(
    "div",
    {},
    el("dt", { text: term }),
    el("dd", { class: "value", text: value }),
    el("dd", { class: "hint", text: note }),
  );
}

/** How far work on the data is: it is read, split, encoded or evaluated. */
function workText({ stage, done, total, unit }) {
  return total ? `${stage}: ${grouped(done)} of ${grouped(total)} ${unit}` : stage;
}

function leftText(position, planned, since) {
  const expected = position ? position.left : planned?.seconds;
  if (!Number.isFinite(expected)) return "";
  const left = expected - since;
  return left < 1 ? "nearly done" : `${duration(left)} left`;
}

function planText({ planned }) {
  return planned ? `${duration(planned.seconds)} planned` : "";
}

/** What is counted in a second: models that give one output an input count inputs. */
export function rateUnit({ evaluated }) {
  const measures = evaluated[evaluated.length - 1]?.measures ?? {};
  const ofInputs = ["accuracy", "exact_match", "micro_f1"].some((name) => name in measures);
  return ofInputs ? "inputs" : "tokens";
}

/** What is known of a figure; of one that has no entry, its name. */
export function metricOf(metrics, name) {
  const title = name.replaceAll("_", " ");
  return metrics[name] ?? { title, heading: title, unit: "", num_digits: 3 };
}

/** What ended the run, or the connection to it; with the command that continues. */
export class Banner {
  constructor() {
    this.age = el("span", { class: "hint", "aria-hidden": true }); // nobody wants each second read out
    this.root = el("div", { class: "banner", role: "status", hidden: true });
  }

  /** `silence` is the seconds since the service said something, null while it speaks. */
  show(state, silence) {
    const [text, command, isBad] = bannerOf(state, silence);
    this.root.hidden = !text;
    this.age.textContent = silence === null ? "" : `  last word ${duration(silence)} ago`;
    const key = `${text}\n${command}`;
    if (key === this.key) return;
    this.key = key;
    this.root.classList.toggle("bad", Boolean(isBad));
    this.root.replaceChildren(
      el("p", { dir: "auto", text: text ?? "" }, this.age),
      ...(command ? [commandLine(command)] : []),
    );
  }
}

const STAYS = "This page stays as it is; reload it to see a later run.";

function bannerOf(state, silence) {
  const { ended, interrupted, finished } = state.latest;
  if (finished && ended) return [`The run has finished. ${STAYS}`];
  if (interrupted) {
    const { step, path, command } = interrupted;
    return [`The run was stopped at step ${grouped(step)}, and has saved: ${path}.`, command];
  }
  if (ended?.has_failed)
    return [ended.text || "The run has failed; its console says why.", "", true];
  if (ended) return [`The run has ended. ${STAYS}`];
  if (silence === null) return [""];
  return [
    "The connection to the run is lost, and this page tries again. If the run was ended:",
    state.run.resume,
    true,
  ];
}

function commandLine(command) {
  const button = el("button", {
    type: "button",
    class: "tool",
    text: "Copy",
    "aria-label": `Copy: ${command}`,
    on: {
      click: async () => {
        await navigator.clipboard.writeText(command);
        button.textContent = "Copied";
        setTimeout(() => (button.textContent = "Copy"), 1500);
      },
    },
  });
  return el("div", { class: "command-line" }, el("code", { tabindex: 0, text: command }), button);
}

/** The scores on the test data, with their intervals, and what to try. */
export class ResultPanel {
  constructor({ metrics, floors }) {
    Object.assign(this, { metrics, floors });
    this.root = el("section", { class: "panel", id: "result", hidden: true });
  }

  show({ latest: { finished } }) {
    this.root.hidden = !finished;
    if (!finished || this.shown === finished) return;
    this.shown = finished;
    const rows = Object.keys(finished.test)
      .filter((name) => !/_(low|high)$/.test(name))
      .map((name) => this.row(finished.test, name));
    this.root.replaceChildren(
      el("h2", { text: rows.length ? "Scores on the test data" : "Result" }),
      ...(rows.length ? [scoreTable(rows)] : [el("p", { text: finished.summary })]),
      el("p", {
        class: "note",
        text:
          `The weights of step ${grouped(finished.best_step)} are kept, in ${finished.folder}. ` +
          "README.md there is the model card.",
      }),
      el("h2", { text: "Try" }),
      ...finished.tries.map(commandLine),
    );
  }

  row(test, name) {
    const floor = this.floors[name];
    const metric = metricOf(this.metrics, floor ? floor.metric : name);
    const [low, high] = [test[`${name}_low`], test[`${name}_high`]];
    const digits = metric.num_digits;
    const hasInterval = Number.isFinite(low) && Number.isFinite(high);
    return {
      title: floor ? `${metric.heading}, ${floor.title}` : metric.heading,
      isFloor: Boolean(floor),
      value: fixed(test[name], digits) + (metric.unit === "%" ? " %" : ""),
      interval: hasInterval ? `${fixed(low, digits)} to ${fixed(high, digits)}` : "",
      range: metric.unit ? [test[name], low, high] : null,
    };
  }
}

function scoreTable(rows) {
  const head = ["", "score", "95 % interval", "0 to 100"];
  return el(
    "div",
    { class: "scroll", tabindex: 0 },
    el(
      "table",
      { class: "scores" },
      el("thead", {}, el("tr", {}, ...head.map((text) => el("th", { scope: "col", text })))),
      el(
        "tbody",
        {},
        ...rows.map(({ title, value, interval, range, isFloor }) =>
          el(
            "tr",
            { class: isFloor ? "floor" : null },
            el("th", { scope: "row", text: title }),
            el("td", { class: "value", text: value }),
            el("td", { text: interval }),
            el("td", { class: "range" }, range ? rangeBar(range) : null),
          ),
        ),
      ),
    ),
  );
}

function rangeBar([value, low, high]) {
  const bar = el("span", { class: "range-bar", "aria-hidden": true });
  if (Number.isFinite(low) && Number.isFinite(high))
    bar.append(el("span", { class: "between", css: { left: `${low}%`, width: `${high - low}%` } }));
  if (Number.isFinite(value)) bar.append(el("span", { class: "at", css: { left: `${value}%` } }));
  return bar;
}
