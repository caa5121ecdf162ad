// What the page of a run shows besides its curves: where it is, what it reads, and how it ended.

import { el } from "./elements.js";
import { anySize, bytes, duration, fixed, parameters } from "./run_words.js";
import { count, grouped, percent } from "./words.js";

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
    const { planned, finished, progress } = state.latest;
    const total = state.latest.progress?.total_steps ?? position?.total_steps ?? planned?.total_steps;
    const step = finished?.step ?? position?.step ?? 0;
    const isOver = state.hasEnded || Boolean(finished);
    const since = isOver ? 0 : now - state.eventTime;
    this.where.textContent = total
      ? `Step ${grouped(step)} of ${grouped(Math.max(step, total))}`
      : BEFORE[state.phase] ?? "Before the first step";
    this.where.append(
      el("span", { class: "hint", text: position ? `  epoch ${grouped(position.epoch)}` : "" }),
    );
    this.left.textContent = isOver ? "" : leftText(position, planned, since);
    const fraction = finished ? 1 : total ? Math.min(1, step / total) : 0;
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
      const bestText = best && `best ${fixed(best.measures[name], numDigits)}, step ${grouped(best.step)}`;
      tiles.push([
        name === "loss" ? "Validation loss" : heading,
        evaluated ? fixed(value, numDigits) : "–",
        bestText ?? "not evaluated yet",
      ]);
    }
    if (progress)
      tiles.push(["Speed", `${fixed(progress.tokens_per_second, 0)}`, `${rateUnit(state)} a second`]);
    if (progress?.memory_bytes)
      tiles.push(["Memory", bytes(progress.memory_bytes), latest.planned ? `${bytes(latest.planned.memory_bytes)} planned` : ""]);
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

function leftText(position, planned, since) {
  const left = position ? position.left - since : planned?.seconds - since;
  if (!Number.isFinite(left)) return "";
  return left < 1 ? "nearly done" : `${duration(left)} left`;
}

function planText({ planned }) {
  return planned ? `${duration(planned.seconds)} planned` : "";
}

/** What is counted in a second: models that give one output an input count inputs. */
export function rateUnit({ evaluated }) {
  const measures = evaluated[evaluated.length - 1]?.measures ?? {};
  return "accuracy" in measures || "exact_match" in measures ? "inputs" : "tokens";
}

/** What is known of a figure; of one that has no entry, its name. */
export function metricOf(metrics, name) {
  const title = name.replaceAll("_", " ");
  return metrics[name] ?? { title, heading: title, unit: "", num_digits: 3 };
}

/** What ended the run, or the connection to it; with the command that continues. */
export class Banner {
  constructor() {
    this.root = el("div", { class: "banner", role: "status", hidden: true });
  }

  /** `silence` is the seconds since the service said something, null while it speaks. */
  show(state, silence) {
    const [text, command, isBad] = bannerOf(state, silence);
    this.root.hidden = !text;
    const key = `${text}\n${command}`;
    if (key === this.key) return;
    this.key = key;
    this.root.classList.toggle("bad", Boolean(isBad));
    this.root.replaceChildren(
      el("p", { dir: "auto", text: text ?? "" }),
      ...(command ? [commandLine(command)] : []),
    );
  }
}

function bannerOf(state, silence) {
  const { ended, interrupted, finished } = state.latest;
  if (finished && ended) return ["The run has finished. This page stays as it is; reload it to see a later run."];
  if (interrupted)
    return [
      `The run was stopped at step ${grouped(interrupted.step)}, and has saved: ${interrupted.path}.`,
      interrupted.command,
    ];
  if (ended?.has_failed) return [ended.text || "The run has failed; its console says why.", "", true];
  if (ended) return ["The run has ended. This page stays as it is; reload it to see a later run."];
  if (silence === null) return [""];
  return [
    `The connection to the run is lost; its last word was ${duration(silence)} ago. This page tries again. If the run was ended:`,
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

/** What the run warns of, the last first. */
export class WarningList {
  constructor() {
    this.root = el("ul", { class: "notes", hidden: true });
  }

  show({ warned, numWarnings, latest: { data } }) {
    const texts = [...warned.map(({ text }) => text).reverse(), ...(data?.warnings ?? [])];
    const isCut = numWarnings > warned.length;
    const key = `${numWarnings} ${texts.length}`;
    if (key === this.key) return;
    this.key = key;
    this.root.hidden = texts.length === 0;
    this.root.replaceChildren(...texts.map((text) => el("li", { dir: "auto", text })));
    if (isCut) this.root.append(el("li", { text: `and ${grouped(numWarnings - warned.length)} before these` }));
  }
}

/** What the model writes for some rows of the validation data. */
export class OutputsPanel {
  constructor() {
    this.title = el("h2");
    this.list = el("div", { class: "outputs" });
    this.root = el("section", { class: "panel", id: "outputs", hidden: true }, this.title, this.list);
  }

  show({ latest: { evaluated } }) {
    const examples = evaluated?.examples ?? [];
    this.root.hidden = examples.length === 0;
    if (!examples.length || this.shown === evaluated) return;
    this.shown = evaluated;
    this.title.textContent = `What it writes at step ${grouped(evaluated.step)}, for validation data`;
    this.list.replaceChildren(...examples.map(exampleList));
  }
}

function exampleList({ source, output, reference }) {
  const entry = (term, text) => [
    el("dt", { text: term }),
    el("dd", { dir: "auto", class: term, text: text || "(nothing)" }),
  ];
  return el(
    "dl",
    { class: "run-facts" },
    ...entry("source", source),
    ...entry("output", output),
    ...entry("reference", reference),
  );
}

/** What the run reads, and what it trains. */
export class FactsPanel {
  constructor() {
    this.list = el("dl", { class: "run-facts" });
    this.root = el(
      "section",
      { class: "panel", id: "facts" },
      el("h2", { text: "This run" }),
      this.list,
    );
  }

  show({ run, latest }) {
    const facts = [
      ["Data", dataText(latest.data)],
      ["Left out", droppedText(latest.data)],
      ["Columns", columnsText(latest.data)],
      ["Tokens", tokensText(latest.tokens)],
      ["Model", modelText(latest.model)],
      ["Plan", planned(latest.planned)],
      ["Starts from", latest.started?.folder],
      ["Folder", run.folder],
      ["Checkpoint", latest.saved && `${latest.saved.path}, step ${grouped(latest.saved.step)}`],
    ].filter(([, text]) => text);
    const key = JSON.stringify(facts);
    if (key === this.key) return;
    this.key = key;
    this.list.replaceChildren(
      ...facts.flatMap(([term, text]) => [
        el("dt", { text: term }),
        el("dd", { dir: "auto", text }),
      ]),
    );
  }
}

function dataText(data) {
  if (!data) return "";
  const total = data.num_train + data.num_valid + data.num_test;
  return [
    data.path,
    data.read_as && `read as ${data.read_as}`,
    `${grouped(total)} ${data.unit}: ${grouped(data.num_train)} to train on, ${grouped(data.num_valid)} for validation, ${grouped(data.num_test)} for the test`,
    data.contents && `${data.contents}${data.languages_are_guessed ? " (guessed)" : ""}`,
  ]
    .filter(Boolean)
    .join(" · ");
}

function droppedText(data) {
  return Object.entries(data?.dropped ?? {})
    .map(([reason, number]) => `${grouped(number)} ${reason}`)
    .join(", ");
}

function columnsText(data) {
  if (!data?.columns?.length) return "";
  const unused = data.unused_columns.length ? `; not used: ${data.unused_columns.join(", ")}` : "";
  return `${data.columns.join(", ")}${unused}`;
}

function tokensText(tokens) {
  if (!tokens) return "";
  const shared = tokens.is_shared ? ", shared by source and target" : "";
  return `${tokens.kind}, ${grouped(tokens.vocab_size)}${shared} · ${fixed(tokens.pieces_per_word, 2)} a ${tokens.unit}`;
}

function modelText(model) {
  return model
    ? `${model.summary} · ${parameters(model.num_parameters)} · ${model.precision}`
    : "";
}

function planned(plan) {
  if (!plan) return "";
  const epochs = plan.total_steps / plan.steps_per_epoch;
  return [
    `${plan.optimizer}${plan.learning_rate === null ? "" : ` ${anySize(plan.learning_rate)}`} on ${plan.device}`,
    `batches of ${grouped(plan.batch_tokens)} tokens (padding ${percent(plan.padding_share)})`,
    `${count(plan.total_steps, "step")}${plan.steps_per_epoch > 1 ? ` = ${epochs.toFixed(1)} epochs` : " on all rows"} at most`,
    plan.patience ? `patience ${plan.patience}` : "",
    plan.num_processes ? `${plan.parallel}, processes: ${plan.num_processes}` : "",
    `${duration(plan.seconds)}, ${bytes(plan.memory_bytes)} memory, ${bytes(plan.disk_bytes)} disk by estimate`,
  ]
    .filter(Boolean)
    .join(" · ");
}
