// The page as a service has it: what is typed is asked, its output shown, and then explained.

import { el } from "./elements.js";
import { QuestionBox } from "./question_box.js";
import { command, post, Problem } from "./service.js";
import { Header, openExplanation, showExplanation, watchTheme } from "./show.js";
import { percent } from "./words.js";

const DOING = {
  translate: "Translating",
  summarize: "Summarizing",
  answer: "Answering",
  classify: "Classifying",
  generate: "Writing",
};
const OUTPUTS = {
  translate: "translation",
  summarize: "summary",
  answer: "answer",
  classify: "label",
  generate: "continuation",
};
const MOST_UNSCROLLED = 300; // characters of an output; longer ones are scrolled by the keyboard

const model = JSON.parse(document.getElementById("payload").textContent);
const HELP = [
  [
    "Privacy",
    "What you type goes to the service that this page comes from, and nowhere else. The page keeps nothing of it.",
  ],
  ["From a program", command(model)],
];

/** What the page says between the box and the explanation. */
class Report {
  /** `leave` takes the focus from a button that goes away. */
  constructor(onCancel, onAgain, leave) {
    this.leave = leave;
    this.output = el("div", { class: "said", "aria-live": "polite" });
    this.doing = el("span", { role: "status" });
    this.seconds = el("span", { "aria-hidden": true }); // nobody wants each of them read out
    this.cancel = el("button", {
      type: "button",
      class: "tool",
      text: "Cancel",
      hidden: true,
      on: { click: onCancel },
    });
    this.again = el("button", {
      type: "button",
      class: "tool",
      text: "Ask again",
      on: { click: onAgain },
    });
    this.problem = el("div", { class: "problem", role: "alert", hidden: true });
    this.progress = el("p", { class: "progress" }, this.doing, " ", this.seconds, this.cancel);
    this.root = el("div", {}, this.output, this.problem, this.progress);
  }

  /** Say what is done, with the seconds that it takes, until `stop`. */
  start(text) {
    clearInterval(this.timer);
    this.seconds.textContent = "";
    const begin = performance.now();
    this.doing.textContent = `${text}…`;
    this.cancel.hidden = false;
    this.timer = setInterval(() => {
      this.seconds.textContent = `${Math.floor((performance.now() - begin) / 1000)} s`;
    }, 1000);
  }

  stop(text) {
    if (document.activeElement === this.cancel) this.leave();
    clearInterval(this.timer);
    this.doing.textContent = text;
    this.seconds.textContent = "";
    this.cancel.hidden = true;
  }

  showOutput({ outputs, ms }) {
    const lines = outputs.map(outputText).filter((text) => text !== null);
    this.output.replaceChildren(
      ...lines.map((text, index) =>
        el(
          "div",
          { class: "line" },
          el("span", { class: "part", text: index === 0 ? OUTPUTS[model.verb] : "" }),
          el("div", {
            class: "text",
            dir: "auto",
            text,
            tabindex: text.length > MOST_UNSCROLLED ? 0 : null,
          }),
          index === 0 ? el("span", { class: "facts", text: duration(ms) }) : null,
        ),
      ),
    );
  }

  showProblem({ message, hint, canRetry }) {
    this.problem.replaceChildren(
      el("p", { dir: "auto", text: message }),
      hint ? el("p", { class: "hint", dir: "auto", text: hint }) : "",
      canRetry ? this.again : "",
    );
    this.problem.hidden = false;
  }

  hideProblem() {
    if (document.activeElement === this.again) this.leave();
    this.problem.hidden = true;
    this.problem.replaceChildren();
  }
}

/** Return an output as a line of text; null where it has none. */
function outputText({ text, label, labels, answer, probability }) {
  if (labels) return labels.join(", ") || "no label";
  const said = answer === null ? "no answer in this text" : (text ?? label ?? answer);
  if (said === undefined) return null;
  return text === undefined && probability !== undefined ? `${said}  ${percent(probability)}` : said;
}

function duration(ms) {
  return ms >= 1000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms)} ms`;
}

/** Asks one question at a time: a new one takes the place of what is still being asked. */
class Dialogue {
  constructor(header) {
    this.header = header;
    this.asked = null;
    this.report = new Report(
      () => this.asked?.control.abort(),
      () => this.box.root.requestSubmit(),
      () => this.box.button.focus(),
    );
    this.box = new QuestionBox(
      model,
      (question, options) => this.ask(question, options),
      (problem) => this.report.showProblem(problem),
    );
    this.explanation = el("div", { id: "explanation" });
    this.explanation.append(
      el("p", {
        class: "empty",
        text: "First the output appears, then what it depends on: words, heads and layers.",
      }),
    );
    this.box.root.append(this.report.root);
    this.box.root.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.asked?.control.abort();
    });
  }

  async ask(question, options) {
    const key = JSON.stringify([question, options]);
    if (this.asked?.key === key) return; // a second press of Enter
    this.asked?.control.abort();
    const control = new AbortController();
    const asked = { key, control };
    this.asked = asked;
    this.report.hideProblem();
    this.report.output.replaceChildren();
    this.explanation.setAttribute("aria-busy", true);
    try {
      await this.answer(question, options, control.signal);
    } catch (error) {
      if (this.asked === asked) this.fail(error, control.signal);
    } finally {
      if (this.asked === asked) this.finish();
    }
  }

  async answer(question, options, signal) {
    const begin = performance.now();
    this.report.start(DOING[model.verb] ?? "Asking");
    this.report.showOutput(await post(`v1/${model.verb}`, question, signal));
    this.report.start("Explaining");
    const { question: text, ...rest } = question; // an answer's text is its question
    const body = text === undefined ? rest : { text, ...rest };
    const explained = await openExplanation(await post("explain", { ...body, ...options }, signal));
    signal.throwIfAborted();
    this.show(explained);
    this.report.hideProblem(); // of a text that was typed meanwhile
    this.report.stop(`Explained in ${duration(performance.now() - begin)}`);
  }

  show(explained) {
    const { explanation } = this;
    explanation.style.minHeight = `${explanation.offsetHeight}px`; // else the page would scroll up
    showExplanation(explained, explanation).then(() => {
      explanation.style.minHeight = "";
    });
    this.header.show(explained.document.model, explained);
  }

  fail(error, signal) {
    const isOld = this.header.explained ? " Below is still what was explained before." : "";
    this.report.stop(signal.aborted ? `Cancelled.${isOld}` : isOld.trim());
    if (signal.aborted) return;
    if (error instanceof Problem) {
      this.report.showProblem(error);
      return;
    }
    this.report.showProblem(
      new Problem(
        `The page could not show the answer (${error.message}).`,
        "It needs a browser of 2023 or later, and a service of its own version.",
      ),
    );
    throw error;
  }

  finish() {
    this.asked = null;
    this.explanation.setAttribute("aria-busy", false);
  }
}

function howToAsk() {
  return el(
    "section",
    { class: "ask" },
    el("p", { text: "This model is asked by a program, or from the command line:" }),
    el("pre", { class: "command", tabindex: 0, text: command(model) }),
  );
}

function start() {
  watchTheme();
  const header = new Header(model, HELP);
  header.show({ ...model, hash: model.sha }, null);
  const main = document.getElementById("main");
  main.append(header.root);
  if (model.takes_text) {
    const dialogue = new Dialogue(header);
    main.append(dialogue.box.root, dialogue.explanation);
    if (matchMedia("(pointer: fine)").matches) dialogue.box.first.focus();
  } else {
    main.append(howToAsk());
  }
  document.documentElement.dataset.ready = "";
}

start();
