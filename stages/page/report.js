"use strict";
/* The interactive parts of the page: sortable tables, learning curves with a cursor, confusion matrices that show the
   images of a cell (of many classes, lists of confused pairs), and the gallery of mistakes. All data is in the page, in <script id="payload">. */

const data = JSON.parse(document.getElementById("payload").textContent);
const { classes, models, selected, columns, ranks } = data;
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const labels = bytes(data.labels);
const $ = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const node = tag.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4))
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/* ---- sortable tables */

/* A column of numbers, such as "95.07 ± 0.18 (5)", "93.1 to 94.0", "1,234" or "85.36 %", sorts by the first number of each
   cell, any other column as text. Missing values come last. */
const missing = (text) => ["", "-", "unknown"].includes(text);
const numeric = (text) => /^[-+]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?($|\s)/i.test(text);
const number = (text) => parseFloat(text.replaceAll(",", ""));

function sorted(rows, column, down) {
  const text = (row) => row.cells[column].textContent.trim();
  const present = rows.filter((row) => !missing(text(row)));
  const numbers = present.every((row) => numeric(text(row)));
  present.sort((a, b) => numbers ? number(text(a)) - number(text(b)) : text(a).localeCompare(text(b), "en"));
  return [...(down ? present.reverse() : present), ...rows.filter((row) => missing(text(row)))];
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = make("button", { type: "button" }, head.textContent);
    button.addEventListener("click", () => {
      const rows = [...table.tBodies[0].rows];
      const texts = rows.map((row) => row.cells[column].textContent.trim()).filter((text) => !missing(text));
      const before = head.getAttribute("aria-sort"); // at first: numbers down, texts up
      const down = before ? before === "ascending" : texts.every(numeric);
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      table.tBodies[0].append(...sorted(rows, column, down));
    });
    head.replaceChildren(button);
  });
}

/* ---- the menu */

function unfold() { // what the address names, and the part around it
  const named = [...document.querySelectorAll("main [id]")].find((one) => "#" + one.id === location.hash);
  for (let part = named; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  named?.scrollIntoView();
}
addEventListener("hashchange", unfold);
for (const link of document.querySelectorAll("a[href^='#']")) link.addEventListener("click", () => setTimeout(unfold));
unfold();
const parts = [...document.querySelectorAll(".part")];
const links = parts.map((part) => document.querySelector(`nav a[href='#${part.id}']`));
addEventListener("scroll", () => {
  const here = parts.findLastIndex((part) => part.getBoundingClientRect().top < 90);
  links.forEach((link, place) => place === here ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current"));
}, { passive: true });

/* ---- learning curves */

/* The axis holds all points of the curves that are drawn. With several seeds, each has a thin line of its own. */
const byModel = new Map();
for (const run of data.curves) byModel.set(run.model, [...(byModel.get(run.model) ?? []), run]);
const several = data.curves.length > byModel.size;
let kind = "accuracy", at = Infinity;

const phone = matchMedia("(max-width: 46rem)");
phone.addEventListener("change", drawCurves);

function drawCurves() {
  const narrow = phone.matches, width = narrow ? 420 : 900, height = 390, left = 48, right = 12, top = 26, bottom = 44;
  const percent = kind === "accuracy", training = $("curve-training").checked;
  const lines = data.curves.flatMap((run) => [...(training ? [[run, kind, 1, "5 4"]] : []), [run, `val_${kind}`, several ? 1.2 : 2.4, ""]]);
  const values = lines.flatMap(([run, key]) => run[key]);
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const tall = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1].find((size) => (high - low) / size <= 8) || (high - low) / 8;
  [low, high] = [Math.floor(low / tall) * tall, Math.ceil(high / tall) * tall];
  if (low === high) high = low + tall;
  const last = Math.max(...data.curves.map((run) => run.epoch.length));
  const x = (epoch) => left + ((epoch - 1) / Math.max(1, last - 1)) * (width - left - right);
  const y = (value) => top + (1 - (value - low) / (high - low)) * (height - top - bottom);
  const svg = make("svg:svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, tabindex: 0,
    role: "slider", "aria-valuemin": 1, "aria-valuemax": last, "aria-label": `${kind} of every model by epoch` });
  for (let tick = 0; tick <= Math.round((high - low) / tall); tick++) {
    const value = low + tick * tall;
    svg.append(make("svg:line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
      make("svg:text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, percent ? (100 * value).toFixed(0) : value.toFixed(2)));
  }
  const step = Math.ceil(last / (narrow ? 6 : 12));
  for (let epoch = 1; epoch <= last; epoch += step)
    svg.append(make("svg:text", { x: x(epoch), y: height - 26, "text-anchor": "middle" }, String(epoch)));
  svg.append(make("svg:text", { x: width - right, y: height - 6, "text-anchor": "end" }, "epoch"),
    make("svg:text", { x: left, y: 12 }, percent ? "accuracy, %" : "loss, nats"));
  for (const [run, key, thick, dash] of lines) {
    const points = run.epoch.map((epoch, i) => `${x(epoch)},${y(run[key][i])}`);
    const line = (part, opacity) => make("svg:polyline",
      { fill: "none", stroke: run.colour, "stroke-width": thick, "stroke-dasharray": dash, "stroke-opacity": opacity, points: part.join(" ") });
    svg.append(...(run.epoch.length > 1
      ? [line(points.slice(0, run.low_resolution + 1), 0.35), line(points.slice(run.low_resolution), 1)]
      : [make("svg:circle", { fill: run.colour, cx: x(1), cy: y(run[key][0]), r: 3 })]));
  }
  const cursor = make("svg:line", { class: "cursor", y1: top, y2: height - bottom });
  svg.append(cursor);
  const write = (found) => { // of one seed the value, of several the lowest and the highest
    const ends = [...new Set([Math.min(...found), Math.max(...found)].map((value) => (percent ? (100 * value).toFixed(2) : value.toFixed(4))))];
    return ends.join(" to ") + (percent ? " %" : "");
  };
  const show = (epoch) => {
    at = Math.min(last, Math.max(1, epoch));
    cursor.setAttribute("x1", x(at));
    cursor.setAttribute("x2", x(at));
    const readings = [make("span", {}, `Epoch ${at}:`), ...[...byModel].map(([model, runs]) => {
      const swatch = make("i"), end = Math.max(...runs.map((run) => run.epoch.length));
      swatch.style.background = runs[0].colour;
      const of = (key) => write(runs.map((run) => run[key][Math.min(at, run.epoch.length) - 1]));
      const name = end < at ? `${model}, ended with epoch ${end}:` : model;
      return make("span", {}, swatch, `${name} ${of(`val_${kind}`)} (training ${of(kind)})`);
    })];
    $("curve-values").replaceChildren(...readings);
    svg.setAttribute("aria-valuenow", at);
    svg.setAttribute("aria-valuetext", readings.map((reading) => reading.textContent).join(" "));
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width) * width;
    show(Math.round(1 + ((place - left) / (width - left - right)) * (last - 1)));
  });
  svg.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, Home: -last, End: last }[event.key];
    if (move) { show(at + move); event.preventDefault(); }
  });
  $("curves").replaceChildren(svg);
  show(at);
  for (const button of document.querySelectorAll("[data-curve]"))
    button.setAttribute("aria-pressed", button.dataset.curve === kind);
}
for (const button of document.querySelectorAll("[data-curve]"))
  button.addEventListener("click", () => { kind = button.dataset.curve; drawCurves(); });
$("curve-training").addEventListener("change", drawCurves);
drawCurves();

/* ---- images with their probabilities */

/* Bytes per image and model: three classes (of two, both), the predicted one first, and their percentages. */
const answers = Object.fromEntries(models.map((model) => [model, bytes(data.answers[model])]));
const answer = (model, place, rank) => [answers[model][2 * ranks * place + rank], answers[model][2 * ranks * place + ranks + rank]];
const guess = (model, place) => answer(model, place, 0)[0];
const chance = (model, place) => answer(model, place, 0)[1];
const sheet = $("sheet");
let side = 0; // screen pixels of a square image: a multiple of its own

function tile(place, model) {
  const [label, first] = [labels[place], guess(model, place)];
  const shown = Array.from({ length: ranks }, (_, rank) => answer(model, place, rank));
  const words = `test image ${data.images[place]}, ${classes[label]}; ${model} predicts `
    + shown.map(([which, percent]) => `${classes[which]} ${percent} %`).join(", ");
  const image = make("span", { class: "image", role: "img", "aria-label": words });
  image.style.width = image.style.height = `${side}px`;
  image.style.backgroundImage = `url(${sheet.src})`;
  image.style.backgroundSize = `${side * columns}px auto`;
  image.style.backgroundPosition = `${-side * (place % columns)}px ${-side * Math.floor(place / columns)}px`;
  const bars = shown.map(([which, percent]) => {
    const bar = make("i");
    bar.style.width = `${Math.max(1, percent)}%`;
    const kind = which === label ? "right" : which === first ? "wrong" : "";
    return make("div", { class: `bar ${kind}`, "aria-hidden": true }, make(which === label ? "b" : "span", { title: classes[which] }, classes[which]), make("span", {}, `${percent} %`), bar);
  });
  return make("li", { class: "tile" }, image, ...bars, make("div", { class: "soft", "aria-hidden": true }, `no. ${data.images[place]}${models.length > 1 ? ", " + model : ""}`));
}

function choice(id, options, chosen) {
  $(id).append(...options.map(([value, text]) => make("option", { value, ...(value === chosen ? { selected: "" } : {}) }, text)));
}

/* ---- confusion matrices */

const sides = ["left", "right"];
let cell = null;

function matrix(side) {
  const model = $(`${side}-model`).value;
  $(side).replaceChildren();
  for (const id of [side, `${side}-section`]) $(id).hidden = !model;
  if (model) $(side).append(matrixOf(model));
}

function buttonOf(chosen, attributes) {
  return make("button", { ...attributes, type: "button", "data-cell": chosen.join(), onclick: () => press(chosen), onkeydown: walk, onfocus: stop });
}

function matrixOf(model) { // a cell is a button that shows its images
  const total = data.tested.reduce((a, b) => a + b, 0);
  const caption = `${model}: ${data.correct[model].toLocaleString("en")} of ${total.toLocaleString("en")} correct.`;
  return data.many ? pairsOf(model, caption) : cellsOf(model, caption);
}

function pairsOf(model, caption) {
  const rows = data.confusion[model].map(([actual, predicted, count]) => {
    const found = buttonOf([actual, predicted], { class: "cell" });
    found.append(`${classes[actual]} → ${classes[predicted]}`);
    return make("tr", {}, make("td", {}, found), make("td", {}, count.toLocaleString("en")),
      make("td", {}, `${((100 * count) / data.tested[actual]).toFixed(1)} %`));
  });
  const heads = ["actual → predicted class", "images", "of the class"].map((text) => make("th", { scope: "col" }, text));
  return make("table", { class: "pairs" }, make("caption", {}, `${caption} The most frequent confusions.`),
    make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows));
}

function cellsOf(model, caption) {
  const counts = data.confusion[model];
  const most = Math.max(1, ...counts.flatMap((row, i) => row.filter((_, j) => i !== j)));
  const head = make("tr", {}, make("td"), ...classes.map((name) => make("th", { scope: "col" }, make("span", { title: name }, name))));
  const rows = counts.map((row, actual) => make("tr", {}, make("th", { scope: "row", title: classes[actual] }, classes[actual]), ...row.map((count, predicted) => {
    const words = `${count} of class ${classes[actual]} predicted as ${classes[predicted]} by ${model}`;
    const kind = { class: `cell ${actual === predicted ? "diagonal" : ""}`, title: words };
    const found = buttonOf([actual, predicted], { ...kind, "aria-label": words });
    found.append(count ? String(count) : "·");
    if (actual !== predicted && count) found.style.background = `color-mix(in srgb, var(--wrong) ${Math.round(8 + (47 * count) / most)}%, var(--back))`;
    return make("td", {}, found);
  })));
  return make("table", { class: "matrix" }, make("caption", {}, `${caption} Rows: actual class; columns: predicted class.`),
    make("thead", {}, head), make("tbody", {}, ...rows));
}

function press(chosen) {
  cell = chosen;
  for (const button of document.querySelectorAll("[data-cell]")) {
    button.setAttribute("aria-pressed", button.dataset.cell === cell.join());
    button.tabIndex = button.dataset.cell === cell.join() ? 0 : -1;
  }
  sides.forEach(behind);
}

function stop(event) { // the tab key stops once per matrix, at the cell that had the focus last
  for (const button of event.target.closest("table").querySelectorAll("button")) button.tabIndex = -1;
  event.target.tabIndex = 0;
}

function walk(event) { // arrow keys move between cells
  const place = event.target.closest("td"), row = place.parentElement;
  const [column, line] = [place.cellIndex, row.sectionRowIndex];
  const [down, across] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] || [0, 0];
  if (!down && !across) return;
  const next = row.parentElement.rows[line + down]?.cells[column + across]?.querySelector("button");
  if (next) next.focus();
  event.preventDefault();
}

function behind(side) {
  const model = $(`${side}-model`).value, list = $(`${side}-images`);
  list.replaceChildren();
  $(`${side}-words`).textContent = "";
  if (!model || !cell) return;
  const [actual, predicted] = cell;
  const places = [...labels.keys()].filter((place) => labels[place] === actual && guess(model, place) === predicted);
  places.sort((a, b) => chance(model, b) - chance(model, a));
  const count = data.many
    ? data.confusion[model].find((pair) => pair[0] === actual && pair[1] === predicted)?.[2] ?? places.length
    : data.confusion[model][actual][predicted];
  const some = places.length < count ? `${places.length} of ${count} images` : `${count} image${count === 1 ? "" : "s"}`;
  $(`${side}-words`).textContent = `${model}: ${some} of class ${classes[actual]} predicted as ${classes[predicted]}`;
  list.append(...places.map((place) => tile(place, model)));
}

choice("left-model", models.map((model) => [model, model]), selected);
choice("right-model", [["", "none"], ...models.map((model) => [model, model])], "");
for (const side of sides) $(`${side}-model`).addEventListener("change", () => { matrix(side); press(cell); });
function mostConfused() {
  const counts = data.confusion[selected];
  let best = [0, 1];
  if (data.many) return counts[0]?.slice(0, 2) ?? best;
  counts.forEach((row, i) => row.forEach((count, j) => { if (i !== j && count > counts[best[0]][best[1]]) best = [i, j]; }));
  return best;
}
sides.forEach(matrix);

/* ---- the gallery of mistakes */

let page = 1;
choice("gallery-model", models.map((model) => [model, model]), selected);
choice("gallery-class", [["", "all classes"], ...classes.map((name, index) => [String(index), name])], "");

function gallery() {
  const model = $("gallery-model").value, which = $("gallery-class").value, least = Number($("gallery-least").value);
  const everyone = $("gallery-everyone").checked;
  $("gallery-least-value").textContent = `${least} %`;
  const wrong = (name, place) => guess(name, place) !== labels[place];
  const places = [...labels.keys()].filter((place) => wrong(model, place) && (which === "" || labels[place] === Number(which))
    && chance(model, place) >= least && (!everyone || models.every((name) => wrong(name, place))));
  places.sort((a, b) => chance(model, b) - chance(model, a));
  const shown = places.slice(0, 24 * page);
  $("gallery-words").textContent = places.length ? `${shown.length} of ${places.length} mistakes${data.missing ? " on this page" : ""}, the most confident first` : "No such mistakes.";
  $("gallery-tiles").replaceChildren(...shown.map((place) => tile(place, model)));
  $("gallery-more").hidden = shown.length === places.length;
}
for (const id of ["gallery-model", "gallery-class", "gallery-least", "gallery-everyone"])
  $(id).addEventListener("input", () => { page = 1; gallery(); });
$("gallery-more").addEventListener("click", () => { page += 1; gallery(); });
for (const link of document.querySelectorAll("[data-gallery-class]"))
  link.addEventListener("click", () => { $("gallery-class").value = link.dataset.galleryClass; page = 1; gallery(); });

/* ---- each model */

function eachModel() {
  for (const list of document.querySelectorAll("[data-gallery]"))
    list.append(...data.galleries[list.dataset.model][list.dataset.gallery].map((place) => tile(place, list.dataset.model)));
}

function start() {
  const size = sheet.naturalWidth / columns;
  side = size * Math.max(1, Math.floor(98 / size));
  eachModel();
  press(mostConfused());
  gallery();
  for (const id of ["left-words", "right-words", "gallery-words"])
    $(id).setAttribute("aria-live", "polite"); // from now on: the first texts are not announced
  document.body.dataset.ready = "yes";
}
if (sheet.complete) start(); else sheet.addEventListener("load", start);
