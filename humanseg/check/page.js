"use strict";

const check = JSON.parse(document.getElementById("data").textContent);
const [kinds, sources, splits, view] = ["kind", "source", "split", "view"].map(id => document.getElementById(id));
const [gallery, large, ticked] = ["sheets", "large", "ticked"].map(id => document.getElementById(id));
const LABEL = [40, 180, 255], NETWORK = [255, 150, 20], STRIPES = [[255, 255, 255], [119, 119, 119]]; // as in page.html
const LARGE = 1600; // pixels: the longer side of a photograph's own file, when it is opened
const UNBROKEN = 0xdc00; // a byte of a name that is no UTF-8 stands in the name as this plus the byte

function make(tag, kind = "", text = "") {
  const element = document.createElement(tag);
  element.className = kind;
  element.textContent = text; // whatever others wrote is text, and never HTML
  return element;
}

const rounded = number => String(Number(number.toPrecision(3)));
const named = photo => photo.name.slice(photo.name.lastIndexOf("/") + 1);

// What is ticked

/** The browser's memory, by the page's address; none where a browser keeps nothing of files. */
function memory() {
  try { return localStorage; } catch { return null; }
}

const MEMORY = `ticked ${location.pathname}`;
const chosen = new Set(JSON.parse(memory()?.getItem(MEMORY) ?? "[]"));

function tick(photos, on) {
  for (const { path } of photos) {
    if (on && path) chosen.add(path);
    else chosen.delete(path);
  }
  memory()?.setItem(MEMORY, JSON.stringify([...chosen]));
  showTicked();
}

function showTicked() {
  ticked.textContent = `${chosen.size} ticked`;
  document.getElementById("save").disabled = !chosen.size;
  for (const element of document.querySelectorAll(".photo")) {
    const on = chosen.has(shows.get(element).photo.path);
    element.classList.toggle("ticked", on);
    element.querySelector("input").checked = on;
  }
}

/** The bytes of a name as the file system has them. */
function bytes(name) {
  const parts = [...name].map(one => {
    const code = one.codePointAt(0);
    return code > UNBROKEN + 127 && code < UNBROKEN + 256 ? [code - UNBROKEN] : [...new TextEncoder().encode(one)];
  });
  return new Uint8Array(parts.flat());
}

function save() {
  if (!chosen.size) return;
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([...chosen].flatMap(path => [bytes(path), "\n"]), { type: "text/plain" }));
  link.download = "exclude.txt";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// Pictures

const shows = new WeakMap(); // what an element shows: { photo, panel, opened, card }
const near = new Set(); // canvases in or near the window; others hold no pixels
const loaded = new Map(), files = new Map(); // of their photographs the thumbnails, and what the files themselves show

const observer = new IntersectionObserver(entries => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) { near.add(target); paint(target); }
    else {
      near.delete(target);
      for (const pictures of [loaded, files]) pictures.delete(shows.get(target).photo);
      target.width = target.height = 0;
    }
  }
}, { rootMargin: "50%" });

async function decoded(kind, base64) {
  const image = new Image();
  image.src = `data:image/${kind};base64,${base64}`;
  await image.decode();
  return image;
}

/** The pixels of a picture, at a size. */
function pixels(image, width, height) {
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data;
}

/** The grey values of a mask at a size; none where there is no mask. */
async function values(base64, width, height) {
  if (!base64) return null;
  const data = pixels(await decoded("png", base64), width, height), grey = new Uint8Array(width * height);
  for (let place = 0; place < grey.length; place++) grey[place] = data[4 * place];
  return grey;
}

async function load(photo) {
  const image = await decoded("jpeg", photo.jpeg), width = image.naturalWidth, height = image.naturalHeight;
  const [label, network] = await Promise.all([values(photo.mask, width, height), values(photo.network, width, height)]);
  return { image, width, height, label, network };
}

/** What a photograph's file shows; null where it is gone, or the browser can't read it, or does not turn it as it should be. */
async function fileOf(photo) {
  const image = new Image();
  image.src = photo.link;
  try { await image.decode(); } catch { return null; }
  const [one, other] = [image.naturalWidth * photo.height, image.naturalHeight * photo.width];
  return Math.abs(one - other) < 0.02 * one ? image : null;
}

function remembered(pictures, photo, make) {
  if (!pictures.has(photo)) pictures.set(photo, make(photo));
  return pictures.get(photo);
}

async function paint(canvas) {
  const { photo, panel, opened } = shows.get(canvas), thumbnail = await remembered(loaded, photo, load);
  show(canvas, panel, thumbnail, thumbnail.image);
  const file = opened && photo.link ? await remembered(files, photo, fileOf) : null;
  if (file) show(canvas, panel, thumbnail, file);
}

/** Draws a photograph at an image's size, or at LARGE, with what its masks have. */
function show(canvas, panel, { width, height, label, network }, image) {
  if (!near.has(canvas)) return;
  const scale = Math.min(1, LARGE / Math.max(image.naturalWidth, image.naturalHeight));
  const size = [image.naturalWidth, image.naturalHeight].map(side => Math.max(1, Math.round(scale * side)));
  [canvas.width, canvas.height] = size;
  const context = canvas.getContext("2d"), marks = new ImageData(width, height);
  if (panel === "difference") context.filter = "grayscale(1) brightness(0.5)";
  context.drawImage(image, 0, 0, ...size);
  context.filter = "none";
  if (panel === "difference" && label) drawDifference(marks, label, network);
  else if (panel === "network") drawMask(marks, network, NETWORK, view.value);
  else if (panel === "label" && label) drawMask(marks, label, LABEL, view.value);
  const layer = new OffscreenCanvas(width, height);
  layer.getContext("2d").putImageData(marks, 0, 0);
  context.drawImage(layer, 0, 0, ...size); // what a file shows can't be read, only be drawn over
}

function mark({ data }, place, colour, share) {
  data.set([...colour, 255 * share], 4 * place);
}

const isPerson = value => value > 191, isIgnored = value => value > 63 && value <= 191;

function drawMask(picture, mask, colour, how) {
  if (how === "hidden") return;
  const { width, height } = picture;
  mask.forEach((value, place) => {
    const x = place % width, y = (place - x) / width;
    if (isIgnored(value)) mark(picture, place, STRIPES[(x + y >> 1) & 1], 0.6);
    if (!isPerson(value)) return;
    const inside = (x === 0 || isPerson(mask[place - 1])) && (x === width - 1 || isPerson(mask[place + 1]))
      && (y === 0 || isPerson(mask[place - width])) && (y === height - 1 || isPerson(mask[place + width]));
    if (!inside) mark(picture, place, colour, 1);
    else if (how === "filled") mark(picture, place, colour, 0.4);
  });
}

function drawDifference(picture, label, network) {
  label.forEach((value, place) => {
    if (isIgnored(value) || isPerson(value) === isPerson(network[place])) return;
    mark(picture, place, isPerson(value) ? LABEL : NETWORK, 0.85);
  });
}

function canvasOf(photo, panel, opened) {
  if (!photo.jpeg) return make("div", "missing", "no picture: it can't be read");
  const canvas = make("canvas");
  canvas.role = "img";
  canvas.ariaLabel = `${panel} of ${named(photo)}`;
  shows.set(canvas, { photo, panel, opened });
  observer.observe(canvas);
  return canvas;
}

const panelsOf = photo => ["photograph", "label", ...photo.network ? ["network", "difference"] : []];

// Sheets

/** A photograph with its tick. `told` stands below its name. */
function photoOf(photo, card, panels, told) {
  const element = make("figure", "photo"), label = make("label"), input = make("input"), name = make("span", "", named(photo));
  shows.set(element, { photo, card });
  element.tabIndex = input.tabIndex = -1;
  input.type = "checkbox";
  input.disabled = !photo.path; // no list can have a name with a line break
  label.title = photo.path ? photo.name : `${photo.name}: no list can name it`;
  label.append(input, name);
  element.append(panels, label, make("small", "", told));
  input.addEventListener("change", () => tick([photo], input.checked));
  return element;
}

function place(photo) {
  return [photo.source, photo.split || "unused"].filter(Boolean).join(" · ");
}

const ASKED = { // of the network; the names and units of what was measured stand in the distributions
  disagreement: "disagreement with the network", unlabelled: "people without a label", nobody: "labels without a person", edge: "edges that are off",
};
const title = name => check.distributions[name]?.title ?? ASKED[name] ?? name;

/** A number with its unit, where it has one. */
function measured(name, value) {
  if (name in ASKED) return `${rounded(100 * value)} %`;
  return `${rounded(value)} ${check.distributions[name]?.unit ?? ""}`.trim();
}

function cardOf(card, sheet) {
  const element = make("article", "card"), photos = make("div", "photos");
  for (const number of card.photos) {
    const photo = check.photos[number], panels = make("div", "panels");
    panels.append(...(sheet.judged && photo.network ? panelsOf(photo) : ["label"]).map(panel => canvasOf(photo, panel, false)));
    const sorted = sheet.quantity in photo.numbers ? [measured(sheet.quantity, photo.numbers[sheet.quantity])] : [];
    photos.append(photoOf(photo, card, panels, [place(photo), ...sorted].join(" · ")));
  }
  element.append(photos);
  if (card.words) element.append(make("p", "", card.words));
  return element;
}

const fits = photo => (!sources.value || photo.source === sources.value.slice(1)) && (!splits.value || photo.split === splits.value.slice(1));

function sheetOf(sheet) {
  const cards = sheet.cards.filter(card => card.photos.some(number => fits(check.photos[number])));
  const element = make("section", "sheet"), header = make("header"), grid = make("div", "cards");
  const head = make("h3", sheet.severity, sheet.title), all = make("button", "button", "Tick all");
  const of = cards.length < sheet.count ? `${cards.length} of ${sheet.count}` : `${cards.length}`;
  element.classList.toggle("judged", sheet.judged);
  element.classList.toggle("pairs", cards.some(card => card.photos.length > 1));
  all.type = "button";
  all.addEventListener("click", () => {
    const photos = cards.map(card => check.photos[card.photos[0]]); // of a pair the first, which trains
    tick(photos, !photos.every(photo => !photo.path || chosen.has(photo.path)));
  });
  header.append(head, make("small", "", of), make("small", "", sheet.words), all);
  grid.append(...cards.map(card => cardOf(card, sheet)));
  element.append(header, grid);
  return element;
}

let photographs = [], current = null; // the elements that keys go through, and the one that they act on

function draw() {
  observer.disconnect();
  near.clear();
  loaded.clear();
  const sheets = check.sheets.filter(sheet => !kinds.value || sheet.name === kinds.value).map(sheetOf);
  const filled = sheets.filter(sheet => sheet.querySelector(".card"));
  gallery.replaceChildren(...filled.length ? filled : [make("p", "", "No photograph fits.")]);
  photographs = [...gallery.querySelectorAll(".photo")];
  current = null;
  showTicked();
  drawDistributions();
}

function go(element) {
  if (!element) return;
  current?.classList.remove("current");
  current = element;
  current.classList.add("current");
  current.scrollIntoView({ block: "nearest" });
  if (large.open) enlarge();
  else current.focus({ preventScroll: true });
}

const move = step => go(photographs[current ? photographs.indexOf(current) + step : 0]);

/** Shows the card of the current photograph, all that is known of it, and its neighbours in a pair. */
function enlarge() {
  const { card } = shows.get(current), header = make("header"), photos = make("div", "photos"), close = make("button", "button", "Close");
  close.type = "button";
  close.addEventListener("click", () => large.close());
  header.append(make("p", "", card.words), close);
  for (const number of card.photos) {
    const photo = check.photos[number], panels = make("div", "panels");
    panels.append(...panelsOf(photo).map(panel => {
      const figure = make("figure");
      figure.append(canvasOf(photo, panel, true), make("figcaption", "", panel));
      figure.firstChild.style.aspectRatio = `${photo.width || 1} / ${photo.height || 1}`;
      return figure;
    }));
    const size = photo.width ? `${photo.width} × ${photo.height}` : "";
    const element = photoOf(photo, card, panels, [place(photo), size].filter(Boolean).join(" · "));
    element.querySelector("span").textContent = photo.name;
    element.classList.toggle("current", card.photos.length > 1 && photo === shows.get(current).photo);
    if (photo.link) element.append(linkTo(photo));
    element.append(numbersOf(photo));
    photos.append(element);
  }
  large.replaceChildren(header, photos);
  if (!large.open) large.showModal();
  large.focus(); // else a button in it would take the keys
  showTicked();
}

function linkTo(photo) {
  const link = make("a", "", "Open the file");
  Object.assign(link, { href: photo.link, target: "_blank", rel: "noopener noreferrer" });
  return link;
}

function numbersOf(photo) {
  const list = make("dl");
  for (const [name, value] of Object.entries(photo.numbers)) {
    const row = make("div");
    row.append(make("dt", "", title(name)), make("dd", "", measured(name, value)));
    list.append(row);
  }
  return list;
}

// Distributions

function drawDistributions() {
  const own = sources.value.slice(1);
  document.getElementById("compared").textContent = sources.value ? `${own} in colour, all sources in grey` : "";
  const measured = Object.values(check.distributions).filter(({ counts }) => Object.values(counts).flat().some(Boolean));
  const charts = measured.map(one => chartOf(one, sources.value ? own : null)); // PNGs alone have no JPEG quality
  document.getElementById("distributions").replaceChildren(...charts);
}

function shares(counts) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  return counts.map(count => total ? count / total : 0);
}

/** A histogram as shares of the photographs: of one source before all, or of all. */
function chartOf({ title, unit, edges, counts }, source) {
  const figure = make("figure", "chart"), head = make("figcaption", "", title), bars = make("div", "bars"), axis = make("div", "axis");
  const every = edges.slice(1).map((_, bin) => Object.values(counts).reduce((sum, some) => sum + some[bin], 0));
  const own = source === null ? every : counts[source] ?? every.map(() => 0);
  const all = shares(every), some = shares(own), highest = Math.max(...all, ...some) || 1;
  const whole = edges.every((edge, bin) => edge === edges[0] + bin); // a bin holds one number
  head.append(make("small", "", unit));
  own.forEach((count, bin) => {
    const range = whole ? edges[bin] : `${edges[bin]} to ${edges[bin + 1]}`, bar = make("i");
    bar.title = `${range} ${unit}: ${count} photographs, ${rounded(100 * some[bin])} %`;
    const drawn = source === null ? [["", some]] : [["all", all], ["", some]];
    for (const [kind, heights] of drawn) {
      const part = make("b", kind);
      part.style.height = `${100 * heights[bin] / highest}%`;
      bar.append(part);
    }
    bars.append(bar);
  });
  const labels = whole ? edges.slice(0, -1) : [0, 0.25, 0.5, 0.75, 1].map(part => edges[Math.round(part * (edges.length - 1))]);
  axis.classList.toggle("whole", whole); // a label for each bin, else for some edges
  axis.append(...labels.map(edge => make("span", "", rounded(edge))));
  head.title = `${title} ${unit}`.trim();
  figure.append(head, make("p", "highest", `${rounded(100 * highest)} %`), bars, axis);
  return figure;
}

// Filters and keys

function option(value, text) {
  const element = make("option", "", text);
  element.value = value;
  return element;
}

const present = name => [...new Set(check.photos.map(photo => photo[name]))].sort();

kinds.append(option("", "everything"), ...check.sheets.map(({ name, title, count }) => option(name, `${title} (${count})`)));
sources.append(option("", "all"), ...Object.keys(Object.values(check.distributions)[0].counts).map(name => option(`=${name}`, name || "samples")));
splits.append(option("", "all"), ...present("split").map(name => option(`=${name}`, name || "unused")));

for (const filter of [kinds, sources, splits]) filter.addEventListener("change", draw);
view.addEventListener("change", () => near.forEach(paint));
document.getElementById("save").addEventListener("click", save);
large.addEventListener("close", () => current?.focus({ preventScroll: true }));

document.addEventListener("click", event => {
  const kind = event.target.closest("[data-kind]"), photo = event.target.closest(".photo");
  if (kind) { kinds.value = kind.dataset.kind; draw(); }
  if (event.target === large) large.close();
  if (!photo || large.contains(photo)) return;
  go(photo);
  if (event.target.closest(".panels")) enlarge();
});

const KEYS = {
  ArrowRight: () => move(1), j: () => move(1), ArrowLeft: () => move(-1), k: () => move(-1),
  " ": tickCurrent, x: tickCurrent, Enter: openOrClose, o: openOrClose, s: save,
  m: () => { view.selectedIndex = (view.selectedIndex + 1) % view.length; near.forEach(paint); },
};

function tickCurrent() {
  if (current) tick([shows.get(current).photo], !chosen.has(shows.get(current).photo.path));
}

function openOrClose() {
  if (large.open) large.close();
  else if (current) enlarge();
}

document.addEventListener("keydown", event => {
  const own = event.target.closest("select, button, a, input"); // they have keys of their own
  const taken = own && (own.matches("select") || [" ", "Enter"].includes(event.key));
  if (taken || !KEYS[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  KEYS[event.key]();
});

draw();
