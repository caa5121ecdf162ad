// The page of a run while it trains: it listens to the run's events, and draws them.

import { CurveChart, share, shared } from "./curve_chart.js";
import { choice, el } from "./elements.js";
import { Banner, FactsPanel, OutputsPanel, ProgressPanel, ResultPanel } from "./run_panels.js";
import { metricOf, rateUnit, RunHeader, WarningList } from "./run_panels.js";
import { RunState } from "./run_state.js";
import { anySize, bytes, fixed } from "./run_words.js";

const SILENT_SECONDS = 10; // without a beat, which comes every 2 seconds
const RETRY_SECONDS = 2;
const KINDS = [
  ...["data", "tokens", "model", "planned", "started", "progress", "evaluated", "diverged"],
  ...["saved", "drawn", "warned", "interrupted", "finished", "ended"],
];
const TRAIN = "var(--second)";
const VALID = "var(--accent)";
const QUIET = "var(--muted)";

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
    this.chart("loss", { title: "Loss", height: 224, format: (value) => fixed(value, 3), canBeLog: true, namesBest: true }, [
      { name: "training", color: TRAIN, points: state.field("loss", "train_loss"), isThin: true },
      { name: "validation", color: VALID, points: state.measure("loss") },
      { name: "sources shuffled", color: QUIET, points: state.measure("shuffled_loss"), isDashed: true },
    ]);
    for (const name of state.scoreNames) {
      const { title, unit, num_digits: numDigits } = metricOf(payload.metrics, name);
      this.chart(
        `score-${name}`,
        {
          title: `Validation ${title}`,
          height: 224,
          format: (value) => fixed(value, numDigits) + (unit === "%" ? " %" : ""),
        },
        [{ name: "", color: VALID, points: state.measure(name) }],
      );
    }
    this.chart("learning-rate", { title: "Learning rate", format: anySize, fromZero: true }, [
      { name: "", color: VALID, points: known(state.field("learning_rate")), isThin: true },
    ]);
    this.chart("gradient-norm", { title: "Norm of the gradient", format: anySize, canBeLog: true }, [
      { name: "of a step", color: QUIET, points: state.field("gradient_norm"), isThin: true },
      { name: "mean", color: VALID, points: state.evaluated.map(({ step, elapsed, gradient_norm: value }) => ({ step, elapsed, value })) },
    ]);
    const unit = rateUnit(state);
    this.chart("speed", { title: "Speed", format: (value) => `${fixed(value, 0)} ${unit}/s`, fromZero: true }, [
      { name: "", color: VALID, points: state.field("tokens_per_second"), isThin: true },
    ]);
    this.chart("memory", { title: "Memory", format: bytes, tick: bytes, fromZero: true }, [
      { name: "", color: VALID, points: known(state.field("memory_bytes")), isThin: true },
    ]);
  }

  chart(id, options, series) {
    let chart = this.charts.get(id);
    if (!chart) {
      if (!series.some(({ points }) => points.length)) return;
      chart = new CurveChart({ id, ...options });
      this.charts.set(id, chart);
      this.root.append(chart.root);
    }
    chart.show(series);
  }

  clear() {
    for (const chart of this.charts.values()) chart.remove();
    this.charts.clear();
  }
}

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
    this.parts = [
      this.header,
      new ResultPanel(payload),
      new WarningList(),
      new OutputsPanel(),
      new FactsPanel(),
    ];
    const [, result, warnings, outputs, facts] = this.parts;
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
