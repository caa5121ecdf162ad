// What a run warns of, what it writes, what it reads, and what it trains.

import { el } from "./elements.js";
import { anySize, bytes, duration, fixed, parameters } from "./run_words.js";
import { count, grouped, percent } from "./words.js";

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
    if (isCut) {
      const text = `and ${grouped(numWarnings - warned.length)} before these`;
      this.root.append(el("li", { text }));
    }
  }
}

/** What the model writes for some rows of the validation data. */
export class OutputsPanel {
  constructor() {
    this.title = el("h2");
    this.list = el("div", { class: "outputs" });
    const attributes = { class: "panel", id: "outputs", hidden: true };
    this.root = el("section", attributes, this.title, this.list);
  }

  show({ latest: { evaluated } }) {
    const examples = evaluated?.examples ?? [];
    this.root.hidden = examples.length === 0;
    if (!examples.length || this.shown === evaluated) return;
    this.shown = evaluated;
    const step = grouped(evaluated.step);
    this.title.textContent = `What it makes of validation data at step ${step}`;
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
      ["Plan", planText(latest.planned)],
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
  const parts = [
    `${grouped(data.num_train)} to train on`,
    `${grouped(data.num_valid)} for validation`,
    `${grouped(data.num_test)} for the test`,
  ];
  return [
    data.path,
    data.read_as && `read as ${data.read_as}`,
    `${grouped(total)} ${data.unit}: ${parts.join(", ")}`,
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
  const rate = `${fixed(tokens.pieces_per_word, 2)} a ${tokens.unit}`;
  return `${tokens.kind}, ${grouped(tokens.vocab_size)}${shared} · ${rate}`;
}

function modelText(model) {
  return model
    ? `${model.summary} · ${parameters(model.num_parameters)} · ${model.precision}`
    : "";
}

function planText(plan) {
  if (!plan) return "";
  const epochs = plan.total_steps / plan.steps_per_epoch;
  const rate = plan.learning_rate === null ? "" : ` ${anySize(plan.learning_rate)}`;
  const passes = plan.steps_per_epoch > 1 ? ` = ${epochs.toFixed(1)} epochs` : " on all rows";
  const steps = `${count(plan.total_steps, "step")}${passes}`;
  const memory = `${bytes(plan.memory_bytes)} memory, ${bytes(plan.disk_bytes)} disk`;
  return [
    `${plan.optimizer}${rate} on ${plan.device}`,
    `batches of ${grouped(plan.batch_tokens)} tokens (padding ${percent(plan.padding_share)})`,
    plan.has_budget ? `about ${steps}` : `${steps} at most`,
    plan.patience ? `patience ${plan.patience}` : "",
    plan.num_processes ? `${plan.parallel}, processes: ${plan.num_processes}` : "",
    `${duration(plan.seconds)}, ${memory} by estimate`,
  ]
    .filter(Boolean)
    .join(" · ");
}
