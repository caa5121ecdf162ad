// The box that a text is typed into, with what may be said besides.

import { el } from "./elements.js";
import { Problem } from "./service.js";
import { grouped, quoted } from "./words.js";

const LONG = { summarize: true, answer: true }; // whose last text has lines, which Enter breaks
const NOUNS = {
  translate: "Text to translate",
  summarize: "Text to summarize",
  answer: "Question",
  classify: "Text to classify",
  generate: "Beginning of a text",
};
const MORE = "More"; // followed by what is set, which would else be out of sight
const FULL = 0.8; // of the longest text, from which its length is shown

/** The form of a question. */
export class QuestionBox {
  /** `onAsk` gets the question; `onProblem` what is wrong with it. */
  constructor(model, onAsk, onProblem) {
    Object.assign(this, { model, onAsk, onProblem });
    this.isLong = LONG[model.verb] ?? false;
    this.texts = {};
    const isAnswer = model.verb === "answer";
    this.first = isAnswer
      ? this.text("question", NOUNS.answer, false)
      : this.text("text", this.noun(), this.isLong);
    if (isAnswer) this.text("context", "Text that has the answer", true);
    this.length = el("span", { class: "length" });
    const keys = this.isLong ? "Ctrl+Enter explains" : "Enter explains · Shift+Enter breaks a line";
    this.button = el("button", { type: "submit", class: "explain", text: "Explain" });
    this.more = el("summary", { text: MORE });
    this.contrast = this.option("Why this, and not …");
    this.target = this.option("Explain, in place of the model’s own output");
    this.examples = el("div", { class: "examples" });
    this.root = el(
      "form",
      {
        class: "ask",
        "aria-label": "Question",
        autocomplete: "off",
        on: {
          submit: (event) => {
            event.preventDefault(); // the page posts by itself
            this.ask();
          },
        },
      },
      el(
        "div",
        { class: "box" },
        ...Object.entries(this.texts).flatMap(([name, { label, area }]) => [label, area]),
        el(
          "div",
          { class: "actions" },
          el("span", { class: "hint" }, this.length, el("span", { class: "keys", text: keys })),
          this.button,
        ),
      ),
      el(
        "details",
        { class: "more" },
        this.more,
        el("div", {}, this.contrast.label, this.target.label),
      ),
      this.examples,
    );
    this.showExamples();
  }

  noun() {
    const { verb, source_language: source, target_language: target } = this.model;
    const into = [source && ` from ${source}`, target && ` into ${target}`].join("");
    return (NOUNS[verb] ?? "Text") + (verb === "translate" ? into : "");
  }

  text(name, title, isLong) {
    const area = el("textarea", {
      id: name,
      rows: isLong ? 3 : 1,
      dir: "auto",
      spellcheck: "false", // some browsers send what they check elsewhere
      autocomplete: "off",
      on: {
        input: () => this.onInput(),
        keydown: (event) => this.onKey(event, isLong),
      },
    });
    this.texts[name] = { label: el("label", { for: name, text: title }), area, title };
    return area;
  }

  option(title) {
    const input = el("input", {
      type: "text",
      dir: "auto",
      spellcheck: "false",
      autocomplete: "off",
      on: {
        input: () => {
          const values = [this.contrast, this.target].map(({ input }) => input.value);
          const texts = values.filter(Boolean).map(quoted).join(", ");
          this.more.textContent = texts ? `${MORE}: ${texts}` : MORE;
        },
      },
    });
    return { label: el("label", {}, el("span", { text: title }), input), input };
  }

  onKey(event, isLong) {
    if (event.key !== "Enter" || event.isComposing || event.shiftKey || event.altKey) return;
    if (isLong && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    this.root.requestSubmit();
  }

  onInput() {
    for (const { area } of Object.values(this.texts)) {
      area.style.height = "auto";
      area.style.height = `${area.scrollHeight}px`;
    }
    const most = this.model.max_characters;
    const longest = Math.max(...Object.values(this.texts).map(({ area }) => length(area.value)));
    this.length.textContent =
      longest > FULL * most ? `${grouped(longest)} of ${grouped(most)} characters · ` : "";
    this.showExamples();
  }

  showExamples() {
    const { examples } = this.model;
    this.examples.hidden = !examples.length || this.first.value !== "";
    if (this.examples.hidden || this.examples.childElementCount) return;
    this.examples.append(
      el("span", { class: "hint", text: "Try" }),
      ...examples.map((text) =>
        el("button", {
          type: "button",
          class: "chip",
          dir: "auto",
          text,
          title: text,
          on: { click: () => this.take(text) },
        }),
      ),
    );
  }

  /** Put an example into the box, and ask it where nothing else is missing. */
  take(text) {
    this.first.value = text;
    this.onInput();
    const empty = Object.values(this.texts).find(({ area }) => !area.value.trim());
    (empty?.area ?? this.first).focus();
    if (!empty) this.ask();
  }

  ask() {
    const question = {};
    for (const [name, { area, title }] of Object.entries(this.texts)) {
      const problem = this.problemOf(area.value, title);
      if (problem) {
        area.focus();
        this.onProblem(problem);
        return;
      }
      question[name] = area.value;
    }
    this.onAsk(question, {
      contrast: this.contrast.input.value || undefined,
      target: this.target.input.value || undefined,
    });
  }

  problemOf(text, title) {
    const most = this.model.max_characters;
    if (!text.trim()) return new Problem(`${title}: nothing is typed yet.`);
    if (length(text) <= most) return null;
    return new Problem(
      `${title}: ${grouped(length(text))} characters; ${grouped(most)} are explained at most.`,
      "Ask about a shorter part.",
    );
  }
}

/** Return the number of characters of a text, as the service counts them. */
function length(text) {
  let number = 0;
  for (const _ of text) number++;
  return number;
}
