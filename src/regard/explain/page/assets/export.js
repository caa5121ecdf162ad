// Exactly what is shown, as a file: an SVG drawn from the page itself, that SVG as PNG, or the data.

import { theme } from "./colors.js";
import { svg } from "./elements.js";
import { view } from "./view.js";

const SKIPPED =
  "details.twin, .toolbar, .popover[hidden], [hidden], dialog, form, noscript, script, style";
const NOT_IN_XML = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g;
const MOST_PIXELS = 60_000_000; // of a PNG

/** Return the page as the text of an SVG file. */
export async function pageAsSvg() {
  const main = document.getElementById("main");
  const { left, top, width, height: whole } = main.getBoundingClientRect();
  const gap = formHeight(main);
  const height = whole - gap;
  const picture = svg(
    "svg",
    {
      xmlns: "http://www.w3.org/2000/svg",
      width: Math.ceil(width),
      height: Math.ceil(height),
      viewBox: `0 0 ${Math.ceil(width)} ${Math.ceil(height)}`,
    },
    svg("rect", { width: "100%", height: "100%", fill: theme.page }),
  );
  let above = top;
  for (const child of main.children) {
    if (child.matches("form")) above += gap;
    draw(child, picture, { left, top: above });
  }
  const text = new XMLSerializer().serializeToString(picture).replace(NOT_IN_XML, "");
  return `<?xml version="1.0" encoding="UTF-8"?>\n${text}`;
}

/** Return how far what follows the form is below it; a picture has no form. */
function formHeight(main) {
  const form = main.querySelector(":scope > form");
  const [from, to] = [form, form?.nextElementSibling].map((e) => e?.getBoundingClientRect().top ?? 0);
  return to - from;
}

/** Draw an element and what it has into a picture, where it is on the page. */
function draw(element, picture, origin) {
  if (element.matches(SKIPPED)) return;
  const style = getComputedStyle(element);
  if (style.visibility === "hidden" || style.display === "none") return;
  const box = element.getBoundingClientRect();
  const [x, y] = [box.left - origin.left, box.top - origin.top];
  if (element instanceof SVGSVGElement) {
    const copy = element.cloneNode(true);
    for (const [name, value] of Object.entries({ x, y, width: box.width, height: box.height }))
      copy.setAttribute(name, value);
    picture.append(copy);
    return;
  }
  if (style.opacity !== "1") {
    const group = svg("g", { opacity: style.opacity });
    picture.append(group);
    picture = group;
  }
  if (element instanceof HTMLCanvasElement || element instanceof HTMLImageElement) {
    const href =
      element instanceof HTMLCanvasElement ? element.toDataURL("image/png") : element.src;
    picture.append(
      svg("image", {
        x,
        y,
        width: box.width,
        height: box.height,
        href,
        preserveAspectRatio: "none",
      }),
    );
    return;
  }
  drawBox(style, x, y, box, picture);
  let inner = picture;
  if (style.overflowX !== "visible") inner = clipped(picture, x, y, box);
  for (const child of element.childNodes) {
    if (child instanceof Text) drawText(child, style, inner, origin);
    else if (child instanceof Element) draw(child, inner, origin);
  }
}

let numClips = 0;

function clipped(picture, x, y, { width, height }) {
  const id = `clip-${numClips++}`;
  const group = svg("g", { "clip-path": `url(#${id})` });
  picture.append(svg("clipPath", { id }, svg("rect", { x, y, width, height })), group);
  return group;
}

function drawBox(style, x, y, { width, height }, picture) {
  const hasFill = !/rgba\(.*, 0\)|transparent/.test(style.backgroundColor);
  const [above, under, before] = ["Top", "Bottom", "Left"].map((side) =>
    parseFloat(style[`border${side}Width`]),
  );
  const line = above && under && before ? above : 0; // all around
  const radius = Math.min(parseFloat(style.borderTopLeftRadius) || 0, height / 2);
  if (hasFill || line) {
    picture.append(
      svg("rect", {
        x: x + line / 2,
        y: y + line / 2,
        width: Math.max(0, width - line),
        height: Math.max(0, height - line),
        rx: radius || null,
        fill: hasFill ? style.backgroundColor : "none",
        stroke: line ? style.borderTopColor : null,
        "stroke-width": line || null,
      }),
    );
  }
  const bars = line
    ? []
    : [
        [x, y, width, above, style.borderTopColor],
        [x, y + height - under, width, under, style.borderBottomColor],
        [x, y, before, height, style.borderLeftColor],
      ];
  for (const [left, top, across, down, fill] of bars) {
    if (across && down)
      picture.append(svg("rect", { x: left, y: top, width: across, height: down, fill }));
  }
  if (style.outlineStyle === "none") return;
  const [size, gap] = [parseFloat(style.outlineWidth), parseFloat(style.outlineOffset)];
  const out = gap + size / 2;
  picture.append(
    svg("rect", {
      x: x - out,
      y: y - out,
      width: width + 2 * out,
      height: height + 2 * out,
      rx: radius + out,
      fill: "none",
      stroke: style.outlineColor,
      "stroke-width": size,
    }),
  );
}

/** Draw the lines of a text where the page broke them. */
function drawText(node, style, picture, origin) {
  if (!node.data.trim()) return;
  const range = document.createRange();
  for (const { start, end, box } of textLines(node, range)) {
    const text = node.data.slice(start, end).trim();
    if (!text) continue;
    picture.append(
      svg("text", {
        x: box.left - origin.left,
        y: (box.top + box.bottom) / 2 - origin.top,
        text,
        "dominant-baseline": "central",
        "font-family": style.fontFamily,
        "font-size": style.fontSize,
        "font-weight": style.fontWeight,
        fill: style.color,
        "xml:space": "preserve",
      }),
    );
  }
}

function textLines(node, range) {
  range.selectNodeContents(node);
  const boxes = range.getClientRects();
  if (boxes.length <= 1)
    return boxes.length ? [{ start: 0, end: node.data.length, box: boxes[0] }] : [];
  const lines = [];
  for (let i = 0; i < node.data.length; i++) {
    range.setStart(node, i);
    range.setEnd(node, i + 1);
    const box = range.getBoundingClientRect();
    const last = lines.at(-1);
    if (last && (box.width === 0 || Math.abs(box.top - last.box.top) < 2)) {
      last.end = i + 1;
    } else if (box.width) {
      lines.push({ start: i, end: i + 1, box });
    }
  }
  return lines;
}

/** Return the page as a PNG. */
export async function pageAsPng() {
  const text = await pageAsSvg();
  const image = new Image();
  image.src = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  await image.decode();
  const scale = Math.min(2, Math.sqrt(MOST_PIXELS / (image.width * image.height)));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(image.width * scale);
  canvas.height = Math.round(image.height * scale);
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(image.src);
  return new Promise((resolve) => {
    canvas.toBlob(resolve, "image/png");
  });
}

/** Return the document of the explanation, and what of it is shown, as JSON. */
export async function pageAsJson(explained) {
  for (const map of explained.maps) await map.open();
  const attention = explained.maps.map((map) => map.toDocument());
  return JSON.stringify({ ...explained.document, attention, shown: view });
}

/** Offer a file to the reader. */
export function save(content, name, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(
    content instanceof Blob ? content : new Blob([content], { type }),
  );
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
