// The input and the output as lines of words that can be clicked.

import { arrowStep, el, keepFocus } from "./elements.js";
import { change, onChange, view } from "./view.js";
import {
  continuations,
  count,
  digits,
  isCode,
  isRightToLeft,
  label,
  percent,
  quoted,
} from "./words.js";
import { color } from "./colors.js";

const MOST_WORDS = 480; // of a line; of a longer one, those around the chosen one

/** Build the lines of words. */
export function sentencePanel(explained) {
  const popover = el("div", {
    class: "popover",
    role: "tooltip",
    id: "alternatives",
    hidden: true,
  });
  const lines = explained.parts
    .filter((part) => !part.isWritten)
    .map((part) => new InputLine(explained, part));
  const root = el(
    "section",
    { class: "sentence", "aria-label": "Input and output" },
    ...lines.map((line) => line.root),
    outputLine(explained, popover),
    popover,
  );
  onChange(() => {
    for (const line of lines) line.follow(view.feature);
    shadeInput(explained, root);
  });
  return root;
}

/** The words of one part of the input. */
class InputLine {
  constructor(explained, part) {
    Object.assign(this, { explained, part, first: -1 });
    this.root = el(
      "div",
      { class: "line" },
      el("span", { class: "part", text: part.name }),
      el("div"),
    );
    this.follow(null);
  }

  /** Show the words around a feature, where there are too many for all. */
  follow(feature) {
    const { start, stop } = this.part;
    const isShown =
      this.first >= 0 &&
      (feature === null ||
        feature < start ||
        feature >= stop ||
        (feature >= this.first && feature < this.first + MOST_WORDS));
    if (isShown) return;
    const center = feature ?? start;
    this.first = Math.max(start, Math.min(center - (MOST_WORDS >> 1), stop - MOST_WORDS));
    keepFocus(this.root, () =>
      this.root.lastChild.replaceWith(
        this.words(this.first, Math.min(stop, this.first + MOST_WORDS)),
      ),
    );
  }

  words(first, last) {
    const { start, stop } = this.part;
    const { features, leads } = this.explained;
    const shown = leads.slice(first, last).filter((lead, index) => lead === first + index);
    const texts = shown.map((feature) => this.explained.wordText(feature));
    const words = wordButtons(texts, (index) => {
      const feature = shown[index];
      change({ feature: leads[view.feature] === feature ? null : feature });
    });
    words.forEach((word, index) => {
      word.dataset.feature = word.dataset.key = shown[index];
      word.classList.toggle("special", features[shown[index]].is_special);
    });
    const box = rovingGroup(words, texts, this.part.name);
    const patches = this.explained.patches(this.part);
    if (patches) {
      box.classList.add("patches");
      for (const { index, row, column } of patches.cells) {
        const word = words[shown.indexOf(index)];
        if (!word) continue; // not in the part that is shown
        word.classList.add("patch");
        word.style.setProperty("grid-area", `${row + 1} / ${column + 1}`);
      }
    }
    if (first > start)
      box.prepend(el("span", { class: "hint", text: `… ${count(first - start, "word")} before` }));
    if (last < stop)
      box.append(el("span", { class: "hint", text: `… ${count(stop - last, "word")} after` }));
    return box;
  }
}

function outputLine(explained, popover) {
  const texts = explained.outputs.map((_, output) => explained.outputWord(output));
  const words = wordButtons(texts, (index) => change({ output: index }));
  words.forEach((word, index) => {
    const probability = explained.probability(index);
    word.dataset.output = index;
    word.classList.add("output");
    if (probability !== null) {
      word.style.setProperty("--thickness", `${(0.5 + 4.5 * probability).toFixed(1)}px`);
      word.setAttribute("aria-label", `${label(texts[index])}, probability ${digits(probability)}`);
    }
    const show = () => showAlternatives(explained, index, word, popover);
    const hide = () => {
      popover.hidden = true;
    };
    for (const [event, listener] of [
      ["pointerenter", show],
      ["focus", show],
      ["pointerleave", hide],
      ["blur", hide],
    ]) {
      word.addEventListener(event, listener);
    }
    word.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  });
  const { confidence, written } = explained.document;
  const facts = [
    confidence === null ? null : `confidence ${digits(confidence)}`,
    written && `length ratio ${digits(written.length_ratio)}`,
    written && `copied ${written.copied}`,
    written && `repeats ${written.repeats}`,
    explained.document.contrast === null
      ? null
      : `compared with ${quoted(explained.document.contrast)}`,
    explained.hasProbabilities ? null : explained.document.unit,
    count(texts.length, "output"),
  ].filter(Boolean);
  return el(
    "div",
    { class: "line" },
    el("span", { class: "part", text: "output" }),
    rovingGroup(words, texts, "output"),
    el("span", { class: "facts", text: facts.join(" · ") }),
  );
}

function wordButtons(texts, onPick) {
  const isContinued = continuations(texts);
  return texts.map((text, index) =>
    // A button would be a box of its own, which the order of mixed scripts does not look into.
    el("span", {
      role: "button",
      class: [
        "word",
        isContinued[index] && "glued",
        text.length <= 24 && "short",
        isCode(text) && "code",
      ]
        .filter(Boolean)
        .join(" "),
      text: label(text),
      tabindex: index === 0 ? 0 : -1,
      "aria-pressed": "false",
      on: { click: () => onPick(index) },
    }),
  );
}

/** Put words into a line that takes one stop of the Tab key; arrow keys move within it. */
function rovingGroup(words, texts, name) {
  const isReversed = isRightToLeft(texts);
  const box = el(
    "div",
    {
      class: "words",
      role: "group",
      "aria-label": name,
      dir: isReversed ? "rtl" : "ltr",
    },
    ...words.flatMap((word, index) =>
      index === 0 || word.classList.contains("glued") ? [word] : [" ", word],
    ),
  );
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      document.activeElement.click();
    }
    const step = arrowStep(event, isReversed);
    const index = words.indexOf(document.activeElement);
    const next = event.key === "Home" ? 0 : event.key === "End" ? words.length - 1 : index + step;
    if (next === index || index < 0 || !words[next]) return;
    event.preventDefault();
    words[index].tabIndex = -1;
    words[next].tabIndex = 0;
    words[next].focus();
  });
  return box;
}

function showAlternatives(explained, output, word, popover) {
  const alternatives = explained.alternatives(output);
  popover.hidden = alternatives.length === 0;
  popover.replaceChildren(...alternativeRows(alternatives));
  const [at, line] = [word.getBoundingClientRect(), popover.parentElement.getBoundingClientRect()];
  const most = line.width - popover.offsetWidth - 8;
  popover.style.left = `${Math.max(8, Math.min(at.left - line.left, most))}px`;
  popover.style.top = `${at.bottom - line.top + 6}px`;
}

/** Build a row for each of the most probable outputs: text, bar, probability. */
export function alternativeRows(alternatives) {
  return alternatives.map(({ text, probability, isChosen }) =>
    el(
      "div",
      { class: isChosen ? "alternative chosen" : "alternative" },
      el("span", { class: "text", dir: "auto", text: label(text) }),
      el(
        "span",
        { class: "track" },
        el("span", { class: "bar", css: { width: `${100 * probability}%` } }),
      ),
      el("span", { class: "number", text: percent(probability) }),
    ),
  );
}

function shadeInput(explained, root) {
  const row = view.method ? explained.byWord(explained.row(view.method, view.output)) : [];
  const isSigned = view.method && explained.isSigned(view.method);
  const largest = row.reduce((most, value) => Math.max(most, Math.abs(value ?? 0)), 0) || 1;
  for (const word of root.querySelectorAll(".word")) {
    const { feature, output } = word.dataset;
    const isChosen =
      feature === undefined
        ? Number(output) === view.output
        : Number(feature) === explained.leads[view.feature];
    word.setAttribute("aria-pressed", isChosen);
    if (feature === undefined) continue;
    const value = row[feature];
    // Half the range keeps the words readable in their own ink.
    const isFaint = value === null || value === undefined || Math.abs(value) < 0.03 * largest;
    const shade = isFaint ? "transparent" : color((0.45 * value) / largest, isSigned);
    word.style.setProperty("--shade", shade);
  }
}
