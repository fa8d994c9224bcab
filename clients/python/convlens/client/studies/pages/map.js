"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const count = data.x.length;
const element = (id) => document.getElementById(id);
const stage = element("stage"), dots = element("dots"), thumbs = element("thumbs"), card = element("card");
const dark = matchMedia("(prefers-color-scheme: dark)");

// Colours that people with any vision tell apart; after them, hues as far apart as may be.
const LIGHT = ["#0072b2", "#d55e00", "#008a64", "#a0409a", "#8a6d00", "#2a8fc4", "#5d6370"];
const DARK = ["#5aaef0", "#ff8f4a", "#3ccf9f", "#e08ad8", "#d8b93a", "#9bd4f5", "#a2a7b3"];
const VERDICTS = ["wrong", "right"];
// In pixels: around the map, between thumbnails, of a dot, and how far from one a pointer meets it.
const MARGIN = 48, GAP = 0.16, DOT = 3.5, REACH = 9;
// Of the scale at which all of the map is seen.
const FARTHEST = 0.5, NEAREST = 400;

// What pictures can be told apart by; each has a class for every picture, and names of these.
const modes = [
  { key: "label", title: "Label", of: data.label, names: data.labels },
  { key: "prediction", title: "Prediction", of: data.prediction, names: data.predictions },
  { key: "right", title: "Right or wrong", of: data.right, names: VERDICTS },
].filter((mode) => mode.of);
for (const mode of modes) mode.chosen = new Set();
let mode = modes[0];

let scale = 1, left = 0, top_ = 0, whole = 1;
let size = Number(element("size").value);
let words = "";
let kept = new Uint8Array(count);
// Which pictures are drawn as such, and the step of the scale that this is for.
const taken = new Uint8Array(count);
let level = NaN;
let told = -1, pinned = false;
const shown = new Map();

function colourOf(mode, number) {
  const colours = dark.matches ? DARK : LIGHT;
  if (mode.key === "right") return colours[number ? 0 : 1];
  if (mode.names.length <= colours.length) return colours[number];
  const [lightness, chroma] = [[0.52, 0.15], [0.62, 0.13], [0.44, 0.12]][number % 3];
  return `oklch(${lightness + (dark.matches ? 0.2 : 0)} ${chroma} ${(number * 137.508 + 20) % 360})`;
}

// Which pictures the legend and the search leave.
function choose() {
  const wanted = words.trim().toLowerCase();
  for (let i = 0; i < count; i++) {
    const chosen = modes.every((each) => !each.chosen.size || each.chosen.has(each.of[i]));
    kept[i] = chosen && (!wanted || textOf(i).includes(wanted)) ? 1 : 0;
  }
  level = NaN;
  drawLegend();
  draw();
}

function textOf(i) {
  const label = data.label ? data.labels[data.label[i]] : "";
  return `${data.names[i]}\n${label}\n${data.predictions[data.prediction[i]]}`.toLowerCase();
}

// Takes pictures that do not overlap, one after the other: at first those that are there already,
// so that none goes when one comes nearer. It is done anew at every eighth of a doubling, for the
// scale where that begins, and holds up to the next one.
function makeRoom() {
  const step = Math.floor(8 * Math.log2(scale / size));
  if (step === level) return;
  level = step;
  const unit = 2 ** (step / 8), cell = 1 + GAP, cells = new Map();
  const order = [...data.order].sort((a, b) => taken[b] - taken[a]);
  taken.fill(0);
  for (const i of order) {
    if (!kept[i]) continue;
    const [column, row] = [data.x[i], data.y[i]].map((at) => Math.floor((at * unit) / cell));
    if (meets(i, unit, cells, column, row)) continue;
    taken[i] = 1;
    const key = column * 1e6 + row;
    if (cells.has(key)) cells.get(key).push(i);
    else cells.set(key, [i]);
  }
}

// Whether a picture overlaps one of those in the cells around it.
function meets(i, unit, cells, column, row) {
  for (let across = column - 1; across <= column + 1; across++) {
    for (let down = row - 1; down <= row + 1; down++) {
      if (cells.get(across * 1e6 + down)?.some((j) => overlap(i, j, unit))) return true;
    }
  }
  return false;
}

function overlap(i, j, unit) {
  const near = (at, length) =>
    Math.abs(at[i] - at[j]) * unit < (length[i] + length[j]) / 2 / data.side + GAP;
  return near(data.x, data.width) && near(data.y, data.height);
}

function fit() {
  const width = Math.max(...data.x) || 1e-9, height = Math.max(...data.y) || 1e-9;
  whole = Math.min(
    Math.max(80, stage.clientWidth - 2 * MARGIN) / width,
    Math.max(80, stage.clientHeight - 2 * MARGIN) / height,
  );
  scale = whole;
  left = (stage.clientWidth - width * scale) / 2;
  top_ = (stage.clientHeight - height * scale) / 2;
}

// Zooms by a factor, while the point (x, y) of the stage stays where it is.
function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const next = Math.min(NEAREST * whole, Math.max(FARTHEST * whole, scale * factor));
  left = x - ((x - left) * next) / scale;
  top_ = y - ((y - top_) * next) / scale;
  scale = next;
  draw();
}

function move(across, down) {
  left += across;
  top_ += down;
  draw();
}

let asked = 0;
function draw() {
  asked ||= requestAnimationFrame(() => {
    asked = 0;
    drawNow();
  });
}

function drawNow() {
  makeRoom();
  const width = stage.clientWidth, height = stage.clientHeight, ratio = devicePixelRatio || 1;
  dots.width = width * ratio;
  dots.height = height * ratio;
  const pen = dots.getContext("2d");
  pen.scale(ratio, ratio);
  const colours = mode.names.map((_, number) => colourOf(mode, number));
  const faint = getComputedStyle(document.documentElement).getPropertyValue("--line");
  const seen = new Set();
  for (const pass of [0, 1]) {
    for (let i = 0; i < count; i++) {
      if (kept[i] !== pass) continue;
      const x = left + data.x[i] * scale, y = top_ + data.y[i] * scale;
      if (x < -size || y < -size || x > width + size || y > height + size) continue;
      if (pass && taken[i]) {
        seen.add(i);
        place(i, x, y, colours[mode.of[i]]);
        continue;
      }
      pen.fillStyle = pass ? colours[mode.of[i]] : faint;
      pen.beginPath();
      pen.arc(x, y, pass ? DOT : DOT - 1, 0, 7);
      pen.fill();
    }
  }
  for (const [i, thumb] of shown) {
    if (seen.has(i)) continue;
    thumb.remove();
    shown.delete(i);
  }
  tellStatus();
  if (told >= 0) placeCard();
}

function place(i, x, y, colour) {
  let thumb = shown.get(i);
  if (!thumb) {
    thumb = document.createElement("div");
    thumb.className = "thumb";
    thumb.dataset.number = i;
    thumbs.append(thumb);
    shown.set(i, thumb);
  }
  const [width, height] = cut(thumb, i, size / data.side);
  thumb.style.transform = `translate(${x - width / 2}px, ${y - height / 2}px)`;
  thumb.style.setProperty("--colour", colour);
  thumb.classList.toggle("told", i === told);
}

// Gives an element the part of the sheet that has a picture, so many times as large.
function cut(target, i, factor) {
  const width = data.width[i] * factor, height = data.height[i] * factor;
  const row = Math.floor(i / data.columns), column = i % data.columns, step = data.side * factor;
  target.style.width = `${width}px`;
  target.style.height = `${height}px`;
  target.style.backgroundSize = `${data.columns * step}px auto`;
  target.style.backgroundPosition = `${-column * step}px ${-row * step}px`;
  return [width, height];
}

function tellStatus() {
  const left_ = kept.reduce((sum, each) => sum + each, 0);
  const part = left_ === count ? `${count} pictures` : `${left_} of ${count} pictures`;
  element("status").textContent = `${part}, ${shown.size} drawn here · ${(scale / whole).toFixed(1)}×`;
  element("clear").hidden = left_ === count;
}

function drawLegend() {
  const list = element("legend");
  // Who went to a class by the keyboard is still there.
  const held = list.contains(document.activeElement) ? document.activeElement.dataset.number : "";
  const sums = new Array(mode.names.length).fill(0);
  for (const number of mode.of) sums[number]++;
  const numbers = sums.map((_, number) => number).filter((number) => sums[number]);
  numbers.sort((a, b) => sums[b] - sums[a] || a - b);
  element("legend-title").textContent = mode.title;
  list.classList.toggle("filtered", mode.chosen.size > 0);
  list.replaceChildren(...numbers.map((number) => entry(number, sums[number])));
  list.querySelector(`[data-number="${held}"]`)?.focus();
}

function entry(number, sum) {
  const button = made("button", "");
  button.type = "button";
  button.dataset.number = number;
  button.setAttribute("aria-pressed", mode.chosen.has(number));
  const swatch = made("span", "swatch");
  swatch.style.setProperty("--colour", colourOf(mode, number));
  button.append(swatch, made("span", "", mode.names[number]), made("span", "number", sum));
  button.addEventListener("click", () => {
    if (!mode.chosen.delete(number)) mode.chosen.add(number);
    choose();
  });
  const item = document.createElement("li");
  item.append(button);
  return item;
}

function made(kind, name, text = "") {
  const element = document.createElement(kind);
  element.className = name;
  element.textContent = text;
  return element;
}

// The picture under a place of the window; -1 where there is none.
function pick(event) {
  const thumb = event.target.closest?.(".thumb");
  if (thumb) return Number(thumb.dataset.number);
  const frame = stage.getBoundingClientRect();
  const x = event.clientX - frame.left, y = event.clientY - frame.top;
  let best = -1, least = REACH;
  for (let i = 0; i < count; i++) {
    if (!kept[i] || shown.has(i)) continue;
    const away = Math.hypot(left + data.x[i] * scale - x, top_ + data.y[i] * scale - y);
    if (away < least) [best, least] = [i, away];
  }
  return best;
}

function tell(i, pin = false) {
  pinned = pin && i >= 0;
  card.classList.toggle("pinned", pinned);
  if (i !== told) {
    shown.get(told)?.classList.remove("told");
    shown.get(i)?.classList.add("told");
    told = i;
    card.hidden = i < 0;
    if (i >= 0) fillCard(i);
  }
  if (i >= 0) placeCard();
}

function fillCard(i) {
  const large = made("div", "large");
  cut(large, i, 208 / Math.max(data.width[i], data.height[i]));
  const facts = document.createElement("dl");
  const fact = (name, text) => facts.append(made("dt", "", name), made("dd", "", text));
  if (data.label) fact("Label", data.labels[data.label[i]]);
  const share = `${(100 * data.probability[i]).toFixed(1)} %`;
  fact("Prediction", `${data.predictions[data.prediction[i]]} · ${share}`);
  card.replaceChildren(large, made("p", "name", data.names[i]), facts);
  if (data.right) {
    const word = VERDICTS[data.right[i]];
    card.append(made("p", `verdict ${word}`, `The network is ${word}`));
  }
}

// Beside its picture, on the side that has room for it.
function placeCard() {
  const x = left + data.x[told] * scale, y = top_ + data.y[told] * scale;
  const away = (shown.has(told) ? size / 2 : DOT) + 14;
  const width = card.offsetWidth, height = card.offsetHeight;
  const right = x + away + width + 8 <= stage.clientWidth;
  const across = right ? x + away : x - away - width;
  const within = (at, most) => Math.max(8, Math.min(at, most - 8));
  const down = within(y - height / 2, stage.clientHeight - height);
  card.style.transform = `translate(${within(across, stage.clientWidth - width)}px, ${down}px)`;
}

// Fingers and buttons that are down, by their numbers, and whether they have moved.
const down = new Map();
let moved = false;

stage.addEventListener("pointerdown", (event) => {
  if (event.target.closest(".zoom, #card")) return;
  if (!down.size) moved = false;
  down.set(event.pointerId, event);
});

stage.addEventListener("pointermove", (event) => {
  const before = down.get(event.pointerId);
  if (!before) {
    if (!pinned && !event.target.closest(".zoom, #card")) tell(pick(event));
    return;
  }
  const [across, below] = [event.clientX - before.clientX, event.clientY - before.clientY];
  if (!moved && Math.hypot(across, below) < 4) return;
  if (!moved) stage.setPointerCapture(event.pointerId);
  moved = true;
  stage.classList.add("dragged");
  const other = [...down.values()].find((each) => each.pointerId !== event.pointerId);
  if (other) pinch(before, event, other);
  else move(across, below);
  down.set(event.pointerId, event);
});

function pinch(before, after, other) {
  const frame = stage.getBoundingClientRect();
  const gap = (each) => Math.hypot(each.clientX - other.clientX, each.clientY - other.clientY) || 1;
  const middle = [(after.clientX + other.clientX) / 2, (after.clientY + other.clientY) / 2];
  move((after.clientX - before.clientX) / 2, (after.clientY - before.clientY) / 2);
  zoom(gap(after) / gap(before), middle[0] - frame.left, middle[1] - frame.top);
}

function lift(event) {
  if (!down.delete(event.pointerId)) return;
  if (!down.size) stage.classList.remove("dragged");
  if (!moved && event.type === "pointerup") tell(pick(event), true);
}
stage.addEventListener("pointerup", lift);
stage.addEventListener("pointercancel", lift);
stage.addEventListener("pointerleave", () => pinned || down.size || tell(-1));

stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const frame = stage.getBoundingClientRect();
  const step = event.deltaY * [1, 24, 400][event.deltaMode] * (event.ctrlKey ? 8 : 1);
  zoom(Math.exp(-Math.max(-400, Math.min(400, step)) / 400), event.clientX - frame.left, event.clientY - frame.top);
}, { passive: false });

const KEYS = {
  "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), "0": () => (fit(), draw()),
  ArrowLeft: () => move(80, 0), ArrowRight: () => move(-80, 0),
  ArrowUp: () => move(0, 80), ArrowDown: () => move(0, -80), Escape: () => tell(-1),
};
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, aside")) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

element("nearer").addEventListener("click", () => zoom(1.6));
element("farther").addEventListener("click", () => zoom(1 / 1.6));
element("all").addEventListener("click", KEYS["0"]);
element("size").addEventListener("input", (event) => {
  size = Number(event.target.value);
  draw();
});
element("search").addEventListener("input", (event) => {
  words = event.target.value;
  choose();
});
element("clear").addEventListener("click", () => {
  for (const each of modes) each.chosen.clear();
  element("search").value = words = "";
  choose();
});

for (const each of modes) {
  const label = document.createElement("label"), input = document.createElement("input");
  Object.assign(input, { type: "radio", name: "mode", value: each.key, checked: each === mode });
  input.addEventListener("change", () => {
    mode = each;
    drawLegend();
    draw();
  });
  label.append(input, made("span", "", each.title));
  element("modes").append(label);
}
dark.addEventListener("change", () => (drawLegend(), draw()));
new ResizeObserver(() => {
  const was = whole, [x, y] = [stage.clientWidth / 2, stage.clientHeight / 2];
  if (scale === was) fit();
  draw();
}).observe(stage);
fit();
choose();
