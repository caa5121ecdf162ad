// The page of a run while it trains: it listens to the run's events, and draws them.

import { CurveChart, share, shared } from "./curve_chart.js";
import { choice, el } from "./elements.js";
import { FactsPanel, OutputsPanel, WarningList } from "./run_facts.js";
import { Banner, ProgressPanel, ResultPanel, RunHeader } from "./run_panels.js";
import { metricOf, rateUnit } from "./run_panels.js";
import { RunState } from "./run_state.js";
import { anySize, bytes, fixed } from "./run_words.js";

const SILENT_SECONDS = 10; // without a beat, which comes every 2 seconds
const RETRY_SECONDS = 2;
const KINDS = [
  ...["working", "data", "tokens", "model", "planned", "started", "progress", "evaluated", "diverged"],
  ...["saved", "drawn", "warned", "interrupted", "finished", "ended"],
];
const TRAIN = "var(--second)";
const VALID = "var(--accent)";
const QUIET = "var(--muted)";
const SCORES = [VALID, TRAIN, QUIET];

const payload = JSON.parse(document.getElementById("payload").textContent);
const now = () => performance.now() / 1000;

/** The curves that a run has so far; each has a chart once it has a point. */
class Curves {
  constructor() {
    this.root = el("div", { class: "curves" });
    this.charts = new Map();
  }

  show(state) {
    const { first, last, best } = state;
    Object.assign(shared, { first, last, best });
    this.previous = null;
    const loss = (value) => fixed(value, 3);
    const losses = { title: "Loss", height: 224, format: loss, canBeLog: true, namesBest: true };
    this.chart("loss", losses, [
      curve("training", TRAIN, state.field("loss", "train_loss"), { isThin: true }),
      curve("validation", VALID, state.measure("loss")),
      curve("sources shuffled", QUIET, state.measure("shuffled_loss"), { isDashed: true }),
    ]);
    for (const names of scoreGroups(state.scoreNames)) this.scores(state, names);
    this.chart("learning-rate", { title: "Learning rate", format: anySize, fromZero: true }, [
      curve("", VALID, known(state.field("learning_rate")), { isThin: true }),
    ]);
    const norms = { title: "Norm of the gradient", format: anySize, canBeLog: true };
    this.chart("gradient-norm", norms, [
      curve("of a step", QUIET, state.field("gradient_norm"), { isThin: true }),
      curve("mean", VALID, state.evaluatedField("gradient_norm")),
    ]);
    const unit = rateUnit(state);
    const speed = (value) => `${fixed(value, 0)} ${unit}/s`;
    this.chart("speed", { title: "Speed", format: speed, fromZero: true }, [
      curve("", VALID, state.field("tokens_per_second"), { isThin: true }),
    ]);
    this.chart("memory", { title: "Memory", format: bytes, tick: bytes, fromZero: true }, [
      curve("", VALID, known(state.field("memory_bytes")), { isThin: true }),
    ]);
  }

  /** Draw scores of one scale, in one chart. */
  scores(state, names) {
    const metrics = names.map((name) => metricOf(payload.metrics, name));
    const { title, unit, num_digits: numDigits } = metrics[0];
    const format = (value) => fixed(value, numDigits) + (unit === "%" ? " %" : "");
    const isAlone = names.length === 1;
    const options = { title: isAlone ? `Validation ${title}` : "Validation scores", format };
    const series = names.map((name, index) =>
      curve(isAlone ? "" : metrics[index].title, SCORES[index] ?? QUIET, state.measure(name), {
        isDashed: index >= SCORES.length,
      }),
    );
    this.chart(`score-${names[0]}`, { ...options, height: 224 }, series);
  }

  /** Draw a chart, below the one that was drawn before it. */
  chart(id, options, series) {
    let chart = this.charts.get(id);
    if (!chart) {
      if (!series.some(({ points }) => points.length)) return;
      chart = new CurveChart({ id, ...options });
      this.charts.set(id, chart);
      if (this.previous) this.previous.root.after(chart.root);
      else this.root.prepend(chart.root);
    }
    this.previous = chart;
    chart.show(series);
  }

  clear() {
    for (const chart of this.charts.values()) chart.remove();
    this.charts.clear();
  }
}

/** Put names of scores together that have a scale in common: percent, or 0 to 100. */
function scoreGroups(names) {
  const hundreds = names.filter((name) => metricOf(payload.metrics, name).unit);
  const others = names.filter((name) => !hundreds.includes(name)).map((name) => [name]);
  return hundreds.length ? [hundreds, ...others] : others;
}

function curve(name, color, points, options = {}) {
  return { name, color, points, ...options };
}

/** Leave out what a run does not have, such as the learning rate of some methods. */
function known(points) {
  return points.filter(({ value }) => value !== null);
}

/** The whole page. */
class Page {
  constructor() {
    this.header = new RunHeader();
    this.banner = new Banner();
    this.progress = new ProgressPanel(payload.metrics);
    this.curves = new Curves();
    const result = new ResultPanel(payload);
    const [warnings, outputs, facts] = [new WarningList(), new OutputsPanel(), new FactsPanel()];
    this.parts = [this.header, result, warnings, outputs, facts];
    const across = choice(
      "Curves across",
      [
        { value: "step", text: "steps" },
        { value: "log", text: "steps, logarithmic" },
        { value: "time", text: "time" },
      ],
      shared.across,
      (value) => share({ across: value }),
    );
    this.across = el("div", { class: "controls across", hidden: true }, across);
    document
      .getElementById("main")
      .append(
        this.header.root,
        this.banner.root,
        this.progress.root,
        result.root,
        warnings.root,
        this.across,
        this.curves.root,
        outputs.root,
        facts.root,
      );
    this.state = null;
    this.silentSince = null;
    setInterval(() => this.tick(), 1000);
  }

  /** Show a state: everything so far. */
  restart(fields) {
    if (fields.run.version !== payload.version) location.reload();
    if (this.state?.run.id !== fields.run.id) this.curves.clear();
    this.state = new RunState(fields, now());
    this.schedule();
  }

  add(fields) {
    if (!this.state) return;
    this.state.add(fields, now());
    this.schedule();
  }

  /** Draw once before the next picture, whatever came since the last. */
  schedule() {
    if (this.isScheduled) return;
    this.isScheduled = true;
    requestAnimationFrame(() => {
      this.isScheduled = false;
      this.draw();
    });
  }

  draw() {
    for (const part of this.parts) part.show(this.state);
    this.curves.show(this.state);
    this.across.hidden = !this.curves.charts.size;
    this.tick();
    document.documentElement.dataset.ready = "";
  }

  /** Show what changes with time alone. */
  tick() {
    const { state } = this;
    if (!state) return;
    const isLost = this.silentSince !== null && !state.hasEnded;
    this.progress.show(state, isLost ? this.silentSince : now());
    this.banner.show(state, isLost ? now() - this.silentSince : null);
    document.documentElement.classList.toggle("is-lost", isLost);
    const part = { training: `${Math.floor(100 * this.progress.fraction)} %` };
    const word = isLost ? "connection lost" : (part[state.phase] ?? state.phase);
    document.title = `${word} · ${state.run.name} · regard`;
  }
}

/** The connection to the run, which is made again until the run says that it has ended. */
class Connection {
  constructor(page) {
    this.page = page;
    this.heard = now();
    this.open();
    setInterval(() => this.check(), 1000);
  }

  open() {
    this.source = new EventSource("events");
    const listen = (kind, use) =>
      this.source.addEventListener(kind, (event) => {
        this.heard = now();
        this.page.silentSince = null;
        use(JSON.parse(event.data));
      });
    listen("state", (fields) => {
      this.page.restart(fields);
      if (fields.latest.ended) this.close();
    });
    listen("beat", () => {});
    for (const kind of KINDS)
      listen(kind, (fields) => {
        this.page.add(fields);
        if (kind === "ended") this.close();
      });
    this.source.addEventListener("error", () => this.retry());
  }

  close() {
    this.source.close();
    this.source = null;
  }

  /** Connect again in a moment; a browser alone gives up after some answers. */
  retry() {
    if (!this.source) return;
    this.page.silentSince ??= this.heard;
    this.close();
    setTimeout(() => this.open(), 1000 * RETRY_SECONDS);
  }

  /** Notice a process that is there, and says nothing. */
  check() {
    if (this.source && now() - this.heard > SILENT_SECONDS) this.page.silentSince ??= this.heard;
  }
}

new Connection(new Page());
