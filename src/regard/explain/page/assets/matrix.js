// A matrix on a canvas: every cell where there is room, else tiles with a part shown exactly.

import { FONT, rgb, color, theme } from "./colors.js";
import { el, svg, onWidth } from "./elements.js";
import { shortLabel, textWidth } from "./words.js";

const LEAST_CELL = 12; // pixels, of a cell whose label can be read
const MOST_CELL = 30;
const LEAST_SLANTED = 16; // between turned labels
const TALLEST = 440; // of an overview
const LABEL_FONT = 11;

/**
 * A matrix.
 *
 * The record it draws has `label`; `rows` and `columns`, texts; `isSigned`; `tiles([top, bottom,
 * left, right], height, width)`, values in -1 to 1, NaN where nothing was computed;
 * `describe(row, column)`, the text of a cell; `onPick(row, column)`; `row` and `column`, the chosen
 * ones or null; `strongest`, the column with most in the chosen row; `scaleText`, texts at the ends
 * of the scale; `hasHatching`, what hatching means here, or nothing.
 */
export class Matrix {
  constructor() {
    this.status = el("output", { class: "status", "aria-live": "polite" });
    this.overview = new Plate(this);
    this.detail = new Plate(this);
    this.hint = el("p", { class: "hint" });
    this.legend = el("div", { class: "legend" });
    this.root = el(
      "div",
      { class: "matrix" },
      this.overview.root,
      this.hint,
      this.detail.root,
      this.legend,
      this.status,
    );
    this.cursor = { row: 0, column: 0 };
    onWidth(this.root, (width) => {
      this.width = width;
      this.draw();
    });
  }

  /** Draw another record. */
  update(record) {
    this.record = record;
    const { rows, columns } = record;
    this.cursor.row = clamp(record.row ?? this.cursor.row, 0, rows.length - 1);
    this.cursor.column = clamp(record.column ?? record.strongest, 0, columns.length - 1);
    this.draw();
  }

  draw() {
    const { record, width } = this;
    if (!record || !width) return;
    const whole = [0, record.rows.length, 0, record.columns.length];
    const isExact = this.overview.draw(whole, width, this.detailArea());
    this.detail.root.hidden = this.hint.hidden = isExact;
    if (!isExact) {
      const [top, bottom, left, right] = this.detailArea();
      const rows = record.rows.length === bottom - top ? "all rows" : `rows ${top + 1}–${bottom}`;
      this.hint.textContent = `Framed part: ${rows}, columns ${left + 1}–${right}`;
      this.detail.draw(this.detailArea(), width, null);
    }
    drawLegend(this.legend, record);
    this.say();
  }

  /** Return the part of a large matrix that is shown exactly, around the cursor. */
  detailArea() {
    const { rows, columns } = this.record;
    const numColumns = Math.min(columns.length, Math.floor((this.width - 136) / 15));
    const numRows = Math.min(rows.length, 26);
    const top = clamp(this.cursor.row - (numRows >> 1), 0, rows.length - numRows);
    const left = clamp(this.cursor.column - (numColumns >> 1), 0, columns.length - numColumns);
    return [top, top + numRows, left, left + numColumns];
  }

  say() {
    const { row, column } = this.cursor;
    this.status.textContent = this.record.describe(row, column);
  }

  point({ row, column }) {
    if (row === this.cursor.row && column === this.cursor.column) return;
    this.cursor = { row, column };
    this.say();
    this.overview.mark();
    this.detail.mark();
  }

  pick({ row, column }) {
    this.cursor = { row, column };
    this.record.onPick?.(row, column);
    this.draw();
  }

  onKey(event) {
    const { row, column } = this.cursor;
    const moves = {
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
      Home: [0, -column],
      End: [0, this.record.columns.length],
      PageUp: [-10, 0],
      PageDown: [10, 0],
    };
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.pick(this.cursor);
    }
    if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const [down, across] = moves[event.key];
    this.cursor = {
      row: clamp(row + down, 0, this.record.rows.length - 1),
      column: clamp(column + across, 0, this.record.columns.length - 1),
    };
    this.draw();
  }
}

/** One canvas with its labels: the whole matrix, or a part of it. */
class Plate {
  constructor(matrix) {
    this.matrix = matrix;
    this.canvas = el("canvas", { class: "cells" });
    this.labels = svg("svg", { class: "labels", "aria-hidden": "true" });
    this.cursor = svg("g");
    this.root = el(
      "div",
      {
        class: "plate",
        tabindex: 0,
        role: "application",
        "aria-roledescription": "matrix",
        on: {
          keydown: (event) => matrix.onKey(event),
          pointermove: (event) => this.withCell(event, (cell) => matrix.point(cell)),
          click: (event) => this.withCell(event, (cell) => matrix.pick(cell)),
        },
      },
      this.canvas,
      this.labels,
    );
  }

  withCell(event, use) {
    const { left, top } = this.root.getBoundingClientRect();
    const x = (event.clientX - left - this.x) / this.width;
    const y = (event.clientY - top - this.y) / this.height;
    if (!(x >= 0 && x < 1 && y >= 0 && y < 1)) return;
    const [first, last, start, stop] = this.area;
    use({
      row: first + Math.floor(y * (last - first)),
      column: start + Math.floor(x * (stop - start)),
    });
  }

  /** Draw a part of the matrix; return whether every cell has room for its label. */
  draw(area, available, framed) {
    const { record } = this.matrix;
    const [top, bottom, left, right] = area;
    const [numRows, numColumns] = [bottom - top, right - left];
    const rowsFit = numRows * LEAST_CELL <= TALLEST + 60;
    const rowTexts = rowsFit ? record.rows.slice(top, bottom).map((text) => shortLabel(text)) : [];
    const mayFit = numColumns * LEAST_CELL <= available;
    const columnTexts = mayFit
      ? record.columns.slice(left, right).map((text) => shortLabel(text))
      : [];
    const labelWidth = rowsFit ? Math.min(116, 12 + 1.1 * widest(rowTexts)) : 36;
    const slant = Math.min(48, Math.max(0, 0.62 * widest(columnTexts) - 8)); // of turned labels
    const all = available - labelWidth - 4;
    const columnsFit = (all - slant) / numColumns >= LEAST_CELL;
    const room = columnsFit ? all - slant : all;
    const cell = columnsFit ? Math.min(MOST_CELL, Math.floor(room / numColumns)) : 0;
    this.width = columnsFit ? cell * numColumns : room;
    const row = rowsFit
      ? Math.min(
          columnsFit ? Math.max(cell, 16) : 18,
          Math.max(LEAST_CELL + 2, Math.floor(TALLEST / numRows)),
        )
      : 0;
    this.height = rowsFit
      ? row * numRows
      : Math.min(TALLEST, Math.max(240, (this.width * numRows) / numColumns));
    const isFlat = columnsFit && widest(columnTexts) <= cell - 4;
    const labelHeight = !columnsFit || isFlat ? 18 : Math.min(76, 12 + 0.8 * widest(columnTexts));
    Object.assign(this, { area, x: labelWidth, y: Math.ceil(labelHeight) });
    this.drawCells(columnsFit ? numColumns : null, rowsFit ? numRows : null, cell, row);
    const fullHeight = this.y + this.height + 4;
    this.root.style.height = `${fullHeight}px`;
    this.root.setAttribute("aria-label", `${record.label}. Arrow keys move, Enter chooses.`);
    this.labels.setAttribute("viewBox", `0 0 ${available} ${fullHeight}`);
    this.labels.setAttribute("width", available);
    this.labels.setAttribute("height", fullHeight);
    this.labels.replaceChildren(
      ...(rowsFit ? this.rowLabels(rowTexts, top) : this.ticks(numRows, true)),
      ...(columnsFit ? this.columnLabels(columnTexts, left) : this.ticks(numColumns, false)),
      svg("rect", {
        x: this.x - 0.5,
        y: this.y - 0.5,
        width: this.width + 1,
        height: this.height + 1,
        fill: "none",
        stroke: theme.grid,
      }),
      this.cursor,
    );
    this.framed = framed && !(rowsFit && columnsFit) ? framed : null;
    this.mark();
    return rowsFit && columnsFit;
  }

  drawCells(exactColumns, exactRows, cell, row) {
    const { record } = this.matrix;
    const ratio = Math.min(2, globalThis.devicePixelRatio || 1);
    const [canvasWidth, canvasHeight] = [
      Math.round(this.width * ratio),
      Math.round(this.height * ratio),
    ];
    const [top, bottom, left, right] = this.area;
    const numColumns = exactColumns ?? Math.min(right - left, canvasWidth);
    const numRows = exactRows ?? Math.min(bottom - top, canvasHeight);
    const values = record.tiles(this.area, numRows, numColumns);
    Object.assign(this.canvas, { width: canvasWidth, height: canvasHeight });
    this.canvas.style.cssText = `left:${this.x}px;top:${this.y}px;width:${this.width}px;height:${this.height}px`;
    paintTiles(this.canvas, values, numRows, numColumns, record.isSigned);
    if (cell >= 14 && row >= 14) this.drawGaps(ratio, cell, row);
  }

  drawGaps(ratio, cell, row) {
    const context = this.canvas.getContext("2d");
    context.fillStyle = theme.page;
    for (let x = cell; x < this.width; x += cell)
      context.fillRect(x * ratio - 0.5, 0, 1, this.canvas.height);
    for (let y = row; y < this.height; y += row)
      context.fillRect(0, y * ratio - 0.5, this.canvas.width, 1);
  }

  rowLabels(texts, top) {
    const { record } = this.matrix;
    const step = this.height / texts.length;
    return texts.map((text, index) =>
      svg("text", {
        x: this.x - 6,
        y: this.y + (index + 0.5) * step,
        "text-anchor": "end",
        ...labelStyle(top + index === record.row),
        text,
      }),
    );
  }

  columnLabels(texts, left) {
    const { record } = this.matrix;
    const step = this.width / texts.length;
    const isFlat = widest(texts) <= step - 4;
    // Turned labels need their height between them; without it only some are drawn.
    const every = isFlat ? 1 : Math.ceil(LEAST_SLANTED / step);
    const chosen = record.column === null ? NaN : record.column - left;
    const hasRoom = (index) =>
      index === chosen || (index % every === 0 && !(Math.abs(index - chosen) < every));
    return texts.map((text, index) => {
      if (!hasRoom(index)) return "";
      const [x, y] = [this.x + (index + 0.5) * step, this.y - (isFlat ? 9 : 6)];
      return svg("text", {
        x,
        y,
        "text-anchor": isFlat ? "middle" : "start",
        transform: isFlat ? null : `rotate(-52 ${x} ${y})`,
        ...labelStyle(left + index === record.column),
        text,
      });
    });
  }

  ticks(number, isDown) {
    const length = isDown ? this.height : this.width;
    const unit = niceStep((number * 40) / length);
    const texts = [];
    for (let at = 0; at < number; at += unit) {
      const along = ((at + 0.5) / number) * length;
      texts.push(
        svg("text", {
          x: isDown ? this.x - 6 : this.x + along,
          y: isDown ? this.y + along : this.y - 9,
          "text-anchor": isDown ? "end" : "middle",
          ...labelStyle(false),
          text: at + 1,
        }),
      );
    }
    return texts;
  }

  /** Draw the frames around the chosen row and column, the cursor, and the part shown exactly. */
  mark() {
    if (!this.area || this.root.hidden) return;
    const { record, cursor } = this.matrix;
    const [top, bottom, left, right] = this.area;
    const [across, down] = [this.width / (right - left), this.height / (bottom - top)];
    const frame = (first, last, start, stop, attributes) =>
      svg("rect", {
        x: this.x + (Math.max(start, left) - left) * across,
        y: this.y + (Math.max(first, top) - top) * down,
        width: Math.max(2, (Math.min(stop, right) - Math.max(start, left)) * across),
        height: Math.max(2, (Math.min(last, bottom) - Math.max(first, top)) * down),
        fill: "none",
        stroke: theme.accent,
        ...attributes,
      });
    const marks = [];
    const has = (index, first, last) =>
      index !== null && index !== undefined && index >= first && index < last;
    if (has(record.row, top, bottom)) {
      marks.push(frame(record.row, record.row + 1, left, right, { "stroke-width": 1.5 }));
    }
    if (has(record.column, left, right)) {
      marks.push(frame(top, bottom, record.column, record.column + 1, { "stroke-width": 1.5 }));
    }
    if (this.framed) {
      const [first, last, start, stop] = this.framed;
      marks.push(frame(first, last, start, stop, { stroke: theme.ink, "stroke-width": 1.5 }));
    } else if (has(cursor.row, top, bottom) && has(cursor.column, left, right)) {
      marks.push(
        frame(cursor.row, cursor.row + 1, cursor.column, cursor.column + 1, {
          stroke: theme.ink,
          "stroke-width": 1.5,
        }),
      );
    }
    this.cursor.replaceChildren(...marks);
  }
}

/** Paint tiles over a whole canvas: hatched where nothing was computed. */
export function paintTiles(canvas, values, numRows, numColumns, isSigned) {
  const context = canvas.getContext("2d");
  const image = new ImageData(numColumns, numRows);
  let isHatched = false;
  for (let i = 0; i < values.length; i++) {
    if (Number.isNaN(values[i])) {
      isHatched = true;
      continue;
    }
    const [r, g, b] = rgb(values[i], isSigned);
    image.data.set([r, g, b, 255], 4 * i);
  }
  if (isHatched) hatch(context, canvas.width, canvas.height);
  const source = el("canvas", { width: numColumns, height: numRows });
  source.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
}

/** Hatch a canvas: what is never computed. */
export function hatch(context, width, height) {
  context.fillStyle = theme.frame;
  context.fillRect(0, 0, width, height);
  context.strokeStyle = theme.hatch;
  context.lineWidth = 1.2;
  context.beginPath();
  for (let x = -height; x < width; x += 7) {
    context.moveTo(x, height);
    context.lineTo(x + height, 0);
  }
  context.stroke();
}

function drawLegend(element, { isSigned, scaleText, hasHatching }) {
  const canvas = el("canvas", { width: 120, height: 8, class: "scale", "aria-hidden": true });
  const context = canvas.getContext("2d");
  for (let x = 0; x < 120; x++) {
    context.fillStyle = color(isSigned ? x / 59.5 - 1 : x / 119, isSigned);
    context.fillRect(x, 0, 1, 8);
  }
  const parts = [el("span", { text: scaleText[0] }), canvas, el("span", { text: scaleText[1] })];
  if (hasHatching) {
    const sample = el("canvas", { width: 24, height: 10, class: "scale", "aria-hidden": true });
    hatch(sample.getContext("2d"), 24, 10);
    parts.push(el("span", { class: "never" }, sample, el("span", { text: hasHatching })));
  }
  element.replaceChildren(...parts);
}

function labelStyle(isChosen) {
  return {
    "font-family": FONT,
    "font-size": LABEL_FONT,
    "font-weight": isChosen ? 650 : 400,
    "dominant-baseline": "central",
    fill: isChosen ? theme.accent : theme.muted,
  };
}

function font() {
  return `${LABEL_FONT}px ${FONT}`;
}

function widest(texts) {
  return Math.max(0, ...texts.slice(0, 400).map((text) => textWidth(text, font())));
}

function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, least)));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= least);
}

export function clamp(value, low, high) {
  return Math.min(Math.max(value, low), Math.max(low, high));
}
