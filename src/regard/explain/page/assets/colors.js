// Colors: those of all pictures of regard, and the two scales made of them.

const STEPS = 256;
// The relative luminance on which black and white have the same contrast, 4.58 (WCAG 2.2).
const EQUAL_CONTRAST = Math.sqrt(1.05 * 0.05) - 0.05;
const NAMES = ["page", "ink", "muted", "grid", "frame", "accent", "second"];
export const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";

/** The colors of the reader's setting; read again when that changes. */
export const theme = {};

/** Read the colors of the page, and compute the scales. */
export function readTheme() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(`--${name}`).trim();
  for (const name of NAMES) theme[name] = read(name);
  const scale = Array.from({ length: 12 }, (_, step) => read(`scale-${step}`));
  theme.hatch = mix(theme.grid, theme.muted, 0.14);
  theme.sequential = ramp([theme.page, ...scale]);
  theme.positive = ramp([theme.page, read("wide-band"), read("band"), theme.accent]);
  theme.negative = ramp([
    theme.page,
    mix(theme.page, theme.second, 0.3),
    mix(theme.page, theme.second, 0.62),
    theme.second,
  ]);
}

/** Return the color of a magnitude 0 to 1, or of a signed value -1 to 1, as three numbers. */
export function rgb(value, isSigned) {
  const steps = isSigned ? (value < 0 ? theme.negative : theme.positive) : theme.sequential;
  return steps[Math.min(STEPS - 1, Math.round(Math.abs(value) * (STEPS - 1)))];
}

/** Return the color of a value as CSS. */
export function color(value, isSigned) {
  return `rgb(${rgb(value, isSigned).join(",")})`;
}

/** Return the color of text on that of a value. */
export function textColor(value, isSigned) {
  const parts = rgb(value, isSigned).map((part) => {
    const fraction = part / 255;
    return fraction <= 0.04045 ? fraction / 12.92 : ((fraction + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  return luminance > EQUAL_CONTRAST ? "#000000" : "#ffffff";
}

function ramp(colors) {
  const stops = colors.map(parse);
  return Array.from({ length: STEPS }, (_, step) => {
    const at = (step / (STEPS - 1)) * (stops.length - 1);
    const index = Math.min(stops.length - 2, Math.floor(at));
    return stops[index].map((low, part) =>
      Math.round(low + (stops[index + 1][part] - low) * (at - index)),
    );
  });
}

function mix(first, second, fraction) {
  const [one, two] = [parse(first), parse(second)];
  const parts = one.map((low, part) => Math.round(low + (two[part] - low) * fraction));
  return "#" + parts.map((part) => part.toString(16).padStart(2, "0")).join("");
}

function parse(text) {
  return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
}
