// The page of `make app`: it posts a photo to /classify, then to /explain, and shows what comes back.
const at = id => document.getElementById(id);
const percent = part => (100 * part).toFixed(1) + " %";
let current = null, named = "";  // the photo that is shown, a Blob, and the name of an example
let turn = 0;  // counts what was asked, so that an answer that comes late is dropped
let photos = [], table = [];  // several that were chosen, and the rows of the CSV file

function element(name, text = "", attributes = {}) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(text);
  return made;
}

function picture(source, caption) {
  const made = element("figure");
  made.append(element("img", "", { src: source, alt: caption, className: "small" }), element("figcaption", caption));
  return made;
}

async function ask(what, photo, run) {
  const query = new URLSearchParams({ run, background: at("background")?.value ?? "auto" });
  let reply;
  try {
    reply = await fetch(`${what}?${query}`, { method: "POST", body: photo });
  } catch {
    throw new Error("The photo cannot be read; or the page has ended: then type `make app` again, and reload.");
  }
  const found = await reply.json();
  if (!reply.ok) throw new Error(found.error);
  return found;
}

function warn(sentences, plain = []) {
  const notes = plain.map(one => element("p", one));
  at("notes").replaceChildren(...notes, ...[...new Set(sentences)].map(one => element("p", "⚠ " + one, { className: "warning" })));
}

function verdict(answers, label, faults) {
  const said = answers.map(one => one.answer);
  at("verdict").replaceChildren(...(said[0].out_of_distribution
    ? ["Probably none of these ", element("span", `(most like ${said[0].class}, ${percent(said[0].probability)})`)]
    : [said[0].class, element("span", " " + percent(said[0].probability))]));
  const notes = answers.flatMap(one => one.answer.warnings.map(text => (answers.length > 1 ? `${one.run}: ` : "") + text));
  const plain = label && label !== said[0].class ? [`This test image is labelled ${label}.`] : [];
  for (const { run } of answers.filter(one => one.answer.out_of_distribution === null)) {
    plain.push(`${run} does not tell when a picture shows none of the classes.`);
  }
  if (said.length > 1) {
    const same = said[0].class === said[1].class;
    plain.push(answers.map(one => `${one.run} says ${one.answer.class} (${percent(one.answer.probability)})`).join(", ")
      + (same ? ": the same class." : ": they differ."));
  }
  warn([...notes, ...faults], plain);
  const highest = answer => Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]).slice(0, 5).map(pair => pair[0]);
  const rows = [...new Set(said.flatMap(highest))].slice(0, 7).map(name => {
    const values = said.map(one => one.probabilities[name]);
    const row = element("tr", "", { className: Math.abs(values[0] - (values[1] ?? values[0])) > 0.1 ? "differs" : "" });
    row.append(element("th", name, { scope: "row" }), ...values.map(value => {
      const cell = element("td", percent(value));
      const bar = element("i");
      bar.style.width = `${(said.length > 1 ? 5 : 10) * value}rem`;
      cell.prepend(bar);
      return cell;
    }));
    return row;
  });
  at("bars").tHead.hidden = said.length < 2;
  answers.forEach((one, place) => { at("bars").tHead.rows[0].cells[place + 1].textContent = one.run; });
  at("bars").tBodies[0].replaceChildren(...rows);
}

function mark(photo, name) {
  [current, named] = [photo, name];
  document.querySelectorAll(".example").forEach(one => one.setAttribute("aria-pressed", one.id === name));
  document.querySelectorAll("#gallery button").forEach(one => one.setAttribute("aria-pressed", one.photo === photo));
  if (!photos.includes(photo)) photos = table = [];
  at("many").hidden = photos.length < 2;
  history.replaceState(null, "", at(name)?.className === "example" ? "#" + name : location.pathname);
}

async function show(photo, name = "") {
  const mine = ++turn;
  mark(photo, name);
  stopFilm();
  at("canvas").hidden = at("clear").hidden = name !== "a drawing";
  at("photo").hidden = name === "a drawing";
  at("photo").src = URL.createObjectURL(photo);
  at("photo").onerror = () => { at("photo").hidden = true; };
  at("photo").onload = () => at("photo").classList.toggle("small", at("photo").naturalWidth < 100);
  const runs = [...new Set([at("run").value, at("other").value])].filter(Boolean);
  at("verdict").classList.add("busy");
  at("working").classList.remove("busy");
  at("answer").classList.add("old");
  at("why").hidden = true;
  const answers = [], faults = [];
  await Promise.all(runs.map(async (run, place) => {
    try {
      answers[place] = { run, answer: await ask("classify", photo, run) };
    } catch (error) {
      faults.push(runs.length > 1 ? `${run}: ${error.message}` : error.message);
    }
    const there = answers.filter(Boolean);
    if (mine !== turn || !there.length) return;  // each is shown as soon as it is there, also while another model loads
    verdict(there, at(name)?.dataset.label, faults);
    at("answer").classList.remove("old");
  }));
  if (mine !== turn) return;
  at("verdict").classList.remove("busy");
  at("answer").classList.remove("old");
  if (!answers.some(Boolean)) {
    at("verdict").replaceChildren("Not classified");
    at("bars").tBodies[0].replaceChildren();
    return warn(faults);
  }
  at("why").hidden = false;
  at("steps").replaceChildren();
  at("working").classList.add("busy");
  const panels = answers.filter(Boolean).map(({ run }) => [run, element("div", runs.length > 1 ? run : "", { className: "panel" })]);
  at("explained").replaceChildren(...panels.map(pair => pair[1]));
  await Promise.all(panels.map(async ([run, panel]) => {
    try {
      const why = await ask("explain", photo, run);
      if (mine !== turn) return;
      const large = element("div", "", { className: "row large" });
      large.append(picture(why.seen, "what the model sees"),
        picture(why.mattered, `orange: speaks for ${why.class}; blue: against it`));
      const similar = element("div", "", { className: "row" });
      similar.append(...why.similar.map(one => picture(one.image, `${one.class}, similarity ${one.similarity.toFixed(2)}`)));
      panel.append(large, element("h2", "The most similar training images"), similar);
      at("steps").replaceChildren(...why.steps.map(one => picture(one.image, one.name)));
    } catch (error) {
      panel.append(element("p", "⚠ " + error.message, { className: "warning" }));
    }
  }));
  if (mine === turn) at("working").classList.remove("busy");
}

function take(files) {
  if (!files.length) return;
  photos = [...files];
  show(photos[0]);
  if (photos.length > 1) list();
}

async function list() {
  const rows = table = [["file", "model", "class", "probability", "out_of_distribution", "warnings", "error"]];
  const run = at("run").value, files = photos;
  at("gallery").replaceChildren();
  at("save").hidden = true;
  for (const [place, file] of files.entries()) {
    at("count").textContent = `${place + 1} of ${files.length} photos`;
    const tile = element("button", "", { photo: file, onclick: () => { show(file); scrollTo({ top: 0 }); } });
    tile.append(element("img", "", { src: URL.createObjectURL(file), alt: "", onerror: event => event.target.remove() }));
    try {
      const found = await ask("classify", file, run);
      tile.append(`${found.warnings.length ? "⚠ " : ""}${found.class}, ${percent(found.probability)}`);
      rows.push([file.name, run, found.class, found.probability, found.out_of_distribution, found.warnings.join("; "), ""]);
    } catch (error) {
      tile.append("⚠ Not classified");
      rows.push([file.name, run, "", "", "", "", error.message]);
    }
    tile.append(element("div", file.name, { className: "soft" }));
    if (rows !== table) return;  // other photos or another model were chosen meanwhile
    tile.setAttribute("aria-pressed", file === current);
    at("gallery").append(tile);
  }
  at("count").textContent = `${files.length} photos`;
  at("save").hidden = false;
}

function stopFilm() {
  at("film").srcObject?.getTracks().forEach(track => track.stop());
  at("film").srcObject = null;
  at("film").hidden = true;
  at("camera").textContent = "Camera";
}

at("files").onchange = event => { take(event.target.files); };
at("files").onclick = event => { event.target.value = ""; };  // so that the same file can be chosen again
at("snap").onchange = event => { take(event.target.files); };
at("camera").onclick = async () => {
  if (at("film").srcObject) {
    const still = element("canvas", "", { width: at("film").videoWidth, height: at("film").videoHeight });
    still.getContext("2d").drawImage(at("film"), 0, 0);
    still.toBlob(photo => show(photo));
  } else if (matchMedia("(pointer: coarse)").matches || !navigator.mediaDevices) {
    at("snap").click();
  } else {
    try {
      at("film").srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
      await at("film").play();
      at("canvas").hidden = at("photo").hidden = true;
      at("film").hidden = false;
      at("camera").textContent = "Take the photo";
    } catch (error) {
      warn([`The camera cannot be used: ${error.message}.`]);
    }
  }
};
at("save").onclick = () => {
  const cell = value => /[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value;
  const text = table.map(row => row.map(cell).join(",") + "\n").join("");
  element("a", "", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: "classes.csv" }).click();
};
function asked(event) {
  for (const one of at("other").options) one.disabled = one.value === at("run").value;
  if (at("other").value === at("run").value) at("other").value = "";
  if (current) show(current, named);
  if (photos.length > 1 && event.target.id !== "other") list();
}
for (const id of ["run", "other", "background"]) at(id)?.addEventListener("change", asked);
for (const one of document.querySelectorAll(".example")) one.onclick = async () => {
  const mine = ++turn;
  const photo = await (await fetch("examples/" + one.id)).blob();
  if (mine !== turn) return;
  show(photo, one.id);
  scrollTo({ top: 0, behavior: "smooth" });
};

addEventListener("paste", event => { if (event.clipboardData.files.length) take(event.clipboardData.files); });
addEventListener("dragover", event => { event.preventDefault(); at("drop").classList.add("over"); });
addEventListener("dragleave", () => at("drop").classList.remove("over"));
addEventListener("drop", event => {
  event.preventDefault();
  at("drop").classList.remove("over");
  take(event.dataTransfer.files);
});

const pen = at("canvas").getContext("2d");
function wipe() {
  turn++;
  mark(null, "");
  at("answer").classList.remove("old");
  at("verdict").replaceChildren("Draw one");
  at("verdict").classList.remove("busy");
  at("why").hidden = true;
  at("bars").tBodies[0].replaceChildren();
  warn([], ["Large, with the mouse or a finger. The class comes after each line."]);
  pen.fillStyle = CANVAS;
  pen.fillRect(0, 0, 280, 280);
}
at("draw").onclick = () => {
  stopFilm();
  wipe();
  at("canvas").hidden = at("clear").hidden = false;
  at("photo").hidden = true;
};
at("clear").onclick = wipe;
at("canvas").onpointerdown = event => {
  at("canvas").setPointerCapture(event.pointerId);
  Object.assign(pen, { strokeStyle: BRUSH, lineWidth: 22, lineCap: "round", lineJoin: "round" });
  pen.beginPath();
  at("canvas").onpointermove(event);
};
at("canvas").onpointermove = event => {
  if (!at("canvas").hasPointerCapture(event.pointerId)) return;
  const scale = 280 / at("canvas").clientWidth;
  pen.lineTo(event.offsetX * scale, event.offsetY * scale);
  pen.stroke();
};
at("canvas").onpointerup = () => at("canvas").toBlob(photo => show(photo, "a drawing"));

const examples = [...document.querySelectorAll(".example")];
const linked = () => examples.find(one => "#" + one.id === location.hash);
addEventListener("hashchange", () => linked()?.click());
(linked() ?? examples[0])?.click();
