"use strict";
const $ = (id) => document.getElementById(id);
const block = (id) => JSON.parse($(id).textContent);
const data = block("data");
const named = (columns, row) => Object.fromEntries(columns.map((name, at) => [name, row[at]]));
const photos = data.photos.map((row) => named(data.photoColumns, row));
const cracks = data.cracks.map((row) => named(data.crackColumns, row));
const { names: LETTERS, perOctave: PER_OCTAVE, first: FIRST } = data.bins;
const lower = (bin) => 2 ** (bin / PER_OCTAVE + FIRST); // smallest width of a class
const unit = cracks.some((crack) => crack.unit === "mm") ? "mm" : "px";
const COLOURS = ["#4777ef", "#1bd0d5", "#62fc6b", "#d2e935", "#fe9b2d", "#f0390a"];
const NOT_MEASURED = "#ffffff";
const NO_SCALE = "#9e9e9e"; // widths in px, where the colours stand for mm
const GALLERY = 200; // photos that a print shows at most
const FAILED = 20; // photos that failed and are named
const ROWS = 300; // rows shown before more are asked for
const MORE = 1000;
const file = (path) => path.split(/[\\/]/).pop();
const formats = [2, 3, 4].map((digits) => new Intl.NumberFormat("en", { maximumSignificantDigits: digits }));
const figure = (value, digits = 3) => (value === null || value === undefined ? "" : formats[digits - 2].format(value));

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// ---- widths as colours: six steps between the 2nd and the 98th per cent of all that was measured

function totals(some) {
  const counts = new Array(LETTERS.length).fill(0);
  for (const crack of some) if (crack.unit === unit) for (const [bin, count] of crack.widths) counts[bin] += count;
  return counts;
}

function range(counts) {
  const all = counts.reduce((sum, count) => sum + count, 0);
  let [from, to, seen] = [0, LETTERS.length - 1, 0];
  if (!all) return [0, LETTERS.length];
  counts.forEach((count, bin) => {
    if (seen < 0.02 * all) from = bin;
    if (seen < 0.98 * all) to = bin;
    seen += count;
  });
  return [from, to + 1];
}

const [FROM, TO] = range(totals(cracks));
const step = (bin) => Math.min(Math.max(Math.floor((COLOURS.length * (bin - FROM)) / (TO - FROM)), 0), COLOURS.length - 1);

function swatch(colour, text) {
  const sample = make("i");
  sample.style.background = colour;
  return make("span", {}, sample, text);
}

function legend() {
  const edge = (at) => lower(FROM + Math.ceil(((TO - FROM) * at) / COLOURS.length)); // where `step` changes
  const last = COLOURS.length - 1;
  const parts = COLOURS.flatMap((colour, at) => {
    const [low, high] = [edge(at), edge(at + 1)].map((width) => figure(width, 2));
    if (low === high && at < last) return []; // fewer classes than colours
    return [swatch(colour, at === 0 ? `< ${high}` : at === last ? `≥ ${low}` : `${low} – ${high}`)];
  });
  parts.push(swatch(NOT_MEASURED, "not measurable"));
  if (!cracks.every((crack) => crack.unit === unit)) parts.push(swatch(NO_SCALE, "no scale"));
  $("legend").append(`Width in ${unit}:`, ...parts);
}

// ---- a photo with its layers

function lineLayer(number, detail) {
  const photo = photos[number];
  const scaled = cracks.every((crack) => crack.photo !== number || crack.unit === unit);
  const svg = draw("svg", { width: photo.width, height: photo.height, class: "lines" });
  const thick = Math.max(2, Math.max(photo.width, photo.height) / 500);
  for (const [crack, stepsX, stepsY, widths] of detail.lines) {
    const ways = new Map();
    let [x, y] = [stepsX[0], stepsY[0]];
    let before = null;
    for (let at = 1; at < stepsX.length; at++) {
      const from = `${x + 0.5} ${y + 0.5}`;
      x += stepsX[at];
      y += stepsY[at];
      const letter = widths[at] === "." ? widths[at - 1] : widths[at];
      const measured = scaled ? COLOURS[step(LETTERS.indexOf(letter))] : NO_SCALE;
      const colour = letter === "." ? NOT_MEASURED : measured;
      ways.set(colour, (ways.get(colour) ?? "") + (before === colour ? "L" : `M${from}L`) + `${x + 0.5} ${y + 0.5}`);
      before = colour;
    }
    for (const [colour, way] of ways) {
      const look = { d: way, stroke: colour, "stroke-width": thick, fill: "none", "data-crack": crack };
      svg.append(draw("path", look, ...(colour === NO_SCALE ? [draw("title", {}, "no scale")] : [])));
    }
  }
  return svg;
}

function composed(number) {
  const photo = photos[number];
  const detail = block(`photo${number}`);
  const node = make("div", { class: "photo" });
  node.style.width = `${photo.width}px`;
  node.style.height = `${photo.height}px`;
  if (detail.picture) {
    const picture = make("img", { alt: "", src: detail.picture, width: photo.width, height: photo.height, class: "picture" });
    node.append(picture);
  }
  if (detail.mask) {
    const mask = make("img", { alt: "", src: detail.mask, class: "over" });
    const place = () => { // its cells may reach beyond the photo
      mask.width = mask.naturalWidth * detail.cell;
      mask.height = mask.naturalHeight * detail.cell;
    };
    mask.complete && mask.naturalWidth ? place() : mask.addEventListener("load", place);
    node.append(mask);
  }
  node.append(lineLayer(number, detail));
  return node;
}

// ---- viewer

const view = { photo: -1, crack: null, node: null, scale: 1, x: 0, y: 0 };

function place() {
  view.node.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
  $("stage").dataset.scale = view.scale;
  const picture = view.node.querySelector(".picture");
  // The picture in the page is small: zoomed in, the photo itself is shown where it still lies beside the page.
  if (picture && !picture.dataset.tried && picture.naturalWidth && view.scale * photos[view.photo].width > 1.2 * picture.naturalWidth) {
    picture.dataset.tried = "1";
    const original = new Image();
    original.addEventListener("load", () => (picture.src = original.src));
    if (photos[view.photo].link) original.src = photos[view.photo].link;
  }
}

function fit() {
  const [photo, stage] = [photos[view.photo], $("stage")];
  view.scale = Math.min(stage.clientWidth / photo.width, stage.clientHeight / photo.height);
  view.x = (stage.clientWidth - photo.width * view.scale) / 2;
  view.y = (stage.clientHeight - photo.height * view.scale) / 2;
  place();
}

function zoom(factor, x = $("stage").clientWidth / 2, y = $("stage").clientHeight / 2) {
  const scale = Math.min(Math.max(view.scale * factor, 0.01), 40);
  view.x = x - ((x - view.x) * scale) / view.scale;
  view.y = y - ((y - view.y) * scale) / view.scale;
  view.scale = scale;
  place();
}

function lookAt(crack) {
  const [left, top, right, bottom] = crack.box;
  const [width, height] = [$("stage").clientWidth, $("stage").clientHeight];
  view.scale = Math.min(width / (1.4 * (right - left) + 40), height / (1.4 * (bottom - top) + 40), 8);
  view.x = width / 2 - (view.scale * (left + right)) / 2;
  view.y = height / 2 - (view.scale * (top + bottom)) / 2;
  place();
}

function layers() {
  const opacity = $("opacity").value / 100;
  const [mask, lines] = [view.node.querySelector(".over"), view.node.querySelector(".lines")];
  if (mask) {
    mask.style.opacity = opacity / 2;
    mask.hidden = !$("mask").checked;
  }
  lines.style.opacity = opacity;
  lines.style.display = $("lines").checked ? "" : "none";
}

function show(number, crack = null) {
  const photo = photos[number];
  if (view.photo !== number) {
    view.photo = number;
    view.node = composed(number);
    $("stage").replaceChildren(view.node);
    $("photo").value = number;
    $("original").href = photo.link || "#";
    $("original").hidden = !photo.link;
    layers();
    crack || fit();
  }
  view.crack = crack;
  if (crack) lookAt(crack);
  for (const path of view.node.querySelectorAll("path"))
    path.style.opacity = crack && Number(path.dataset.crack) !== crack.crack ? 0.35 : "";
  for (const row of $("rows").children) row.classList.toggle("now", Boolean(crack) && row.dataset.id === crack.id);
  for (const dot of document.querySelectorAll(".dot")) dot.classList.toggle("now", Number(dot.dataset.photo) === number);
  const facts = [photo.name, `${photo.width} × ${photo.height} px`, photo.scale || "no scale", photo.taken].filter(Boolean);
  const note = make("span", { class: "note" }, photo.notes ? ` ${photo.notes}` : "");
  $("said").replaceChildren(crack ? `${words(crack)}. ` : "", facts.join(", "), note);
}

const interval = (value, low, high) =>
  value === null ? "not measurable" : `${figure(value)} (${figure(low)} – ${figure(high)})`;

const words = (crack) =>
  `Crack ${crack.crack}: ${crack.type}, ${figure(crack.length, 4)} ${crack.unit} long, ` +
  `widest ${interval(crack.max, crack.maxLow, crack.maxHigh)}${crack.max === null ? "" : ` ${crack.unit}`}` +
  (crack.severity ? `, ${crack.severity}` : "");

function viewer() {
  const stage = $("stage");
  photos.forEach((photo, number) => $("photo").append(make("option", { value: number }, `${file(photo.name)} (${photo.cracks})`)));
  $("photo").addEventListener("input", () => show(Number($("photo").value)));
  const turn = (by) => show((view.photo + by + photos.length) % photos.length);
  const actions = { previous: () => turn(-1), next: () => turn(1), in: () => zoom(1.5), out: () => zoom(1 / 1.5), whole: fit };
  for (const [id, action] of Object.entries(actions)) $(id).addEventListener("click", action);
  for (const id of ["opacity", "mask", "lines"]) $(id).addEventListener("input", layers);
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = stage.getBoundingClientRect();
    zoom(1.0015 ** -event.deltaY, event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  stage.addEventListener("pointerdown", (event) => stage.setPointerCapture(event.pointerId));
  stage.addEventListener("pointermove", (event) => event.buttons && move(event.movementX, event.movementY));
  const keys = {
    "+": actions.in, "=": actions.in, "-": actions.out, 0: fit, n: actions.next, p: actions.previous,
    ArrowLeft: () => move(60, 0), ArrowRight: () => move(-60, 0), ArrowUp: () => move(0, 60), ArrowDown: () => move(0, -60),
  };
  stage.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
}

function move(x, y) {
  view.x += x;
  view.y += y;
  place();
}

// ---- table

const NUMBERS = new Set(["length", "mean", "max", "share"]);
const HEAD = {
  photo: "Photo", crack: "Crack", type: "Type", length: `Length, ${unit}`, mean: `Mean width, ${unit}`,
  max: `Largest width, ${unit}`, share: "Measured", ...(data.severities.length ? { severity: "Severity" } : {}),
};
const state = { sort: "max", down: true, rows: ROWS, shown: [] };

function key(crack) {
  const value = { photo: photos[crack.photo].name, severity: data.severities.indexOf(crack.severity) }[state.sort] ?? crack[state.sort];
  const other = NUMBERS.has(state.sort) && state.sort !== "share" && crack.unit !== unit;
  const single = state.sort === "max" && !crack.borneOut; // no three points in a row: may be a stain
  return value === null || other || single ? null : value; // what cannot be compared comes last
}

function sorted(some) {
  const sign = state.down ? -1 : 1;
  const keyed = some.map((crack) => [key(crack), crack]);
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  keyed.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b)));
  return keyed.map(([, crack]) => crack);
}

function wanted(crack) {
  const photo = photos[crack.photo];
  const text = $("text").value.toLowerCase();
  const least = (id, value) => !$(id).value || (value !== null && crack.unit === unit && value >= Number($(id).value));
  return (
    (!text || `${photo.name} ${crack.id} ${photo.notes}`.toLowerCase().includes(text)) &&
    (!$("type").value || crack.type === $("type").value) &&
    (!$("severity").value || crack.severity === $("severity").value) &&
    least("width", crack.max) && least("length", crack.length)
  );
}

function row(crack) {
  const foreign = crack.unit === unit ? "" : ` ${crack.unit}`;
  const name = make("button", { type: "button", title: photos[crack.photo].name }, file(photos[crack.photo].name));
  name.addEventListener("click", (event) => {
    show(crack.photo, crack);
    if (event.detail) $("stage").scrollIntoView({ block: "nearest" }); // by mouse; keys go on through the rows
  });
  const spread = (value, low, high) =>
    value === null ? [make("small", {}, "not measurable")]
      : [`${figure(value)}${foreign} `, make("small", {}, `${figure(low, 2)} – ${figure(high, 2)}`)];
  const cells = {
    photo: [name], crack: [String(crack.crack)], type: [crack.type], length: [figure(crack.length, 4) + foreign],
    mean: spread(crack.mean, crack.meanLow, crack.meanHigh), max: [...spread(crack.max, crack.maxLow, crack.maxHigh), ...(crack.borneOut === false ? [make("small", { title: "fewer than three points in a row were measured" }, " single reading")] : [])],
    share: [`${Math.round(100 * crack.share)} %`],
    severity: [crack.severity ?? "", ...(crack.possible?.includes("|") ? [make("small", { title: crack.possible }, " uncertain")] : [])],
  };
  const node = make("tr", { "data-id": crack.id }, ...Object.keys(HEAD).map((id) => make("td", {}, ...cells[id])));
  node.classList.toggle("now", view.crack === crack);
  return node;
}

function list() {
  state.shown = sorted(cracks.filter(wanted));
  const some = state.shown.slice(0, state.rows);
  $("rows").replaceChildren(...some.map(row));
  $("more").hidden = some.length === state.shown.length;
  $("shown").value = `${state.shown.length} of ${cracks.length} cracks`;
  for (const head of $("head").children)
    head.setAttribute("aria-sort", head.dataset.key === state.sort ? (state.down ? "descending" : "ascending") : "none");
  histogram();
}

function table() {
  for (const [id, text] of Object.entries(HEAD)) {
    const button = make("button", { type: "button" }, text);
    button.addEventListener("click", () => {
      state.down = state.sort === id ? !state.down : NUMBERS.has(id) || id === "severity";
      state.sort = id;
      list();
    });
    $("head").append(make("th", { "data-key": id, scope: "col" }, button));
  }
  for (const type of [...new Set(cracks.map((crack) => crack.type))].sort()) $("type").append(make("option", {}, type));
  for (const label of data.severities) $("severity").append(make("option", {}, label));
  $("classes").hidden = !data.severities.length;
  for (const id of ["text", "type", "severity", "width", "length"]) $(id).addEventListener("input", list);
  $("more").addEventListener("click", () => {
    state.rows += MORE;
    list();
  });
  $("rows").addEventListener("keydown", (event) => {
    const by = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const button = by && event.target.closest("tr")[by]?.querySelector("button");
    if (!button) return;
    event.preventDefault();
    button.focus();
    button.click();
  });
}

// ---- overview

function tiles() {
  const measured = cracks.filter((crack) => crack.unit === unit);
  const sum = measured.reduce((total, crack) => total + crack.length, 0);
  const widest = measured.reduce((most, crack) => (crack.borneOut && (!most || crack.max > most.max) ? crack : most), null);
  const metres = unit === "mm" && sum >= 1000;
  const found = [
    [photos.length, "photos"],
    [photos.filter((photo) => photo.cracks).length, "with cracks"],
    [cracks.length, "cracks"],
    [`${figure(metres ? sum / 1000 : sum, 4)} ${metres ? "m" : unit}`, "of cracks"],
    [widest ? `${figure(widest.max)} ${unit}` : "–", "largest width"],
  ];
  data.severities.forEach((label) => found.push([cracks.filter((crack) => crack.severity === label).length, label]));
  $("tiles").append(...found.map(([value, name]) => make("div", {}, make("b", {}, String(value)), name)));
  const noted = photos.filter((photo) => photo.notes).length;
  const parts = [
    `Measured by cracktool ${data.version}, tables ${data.schema}.`,
    data.profile ? `Severity: ${data.profile}. ${data.rules}` : "",
    "Intervals in grey hold the width with 95 %.",
    noted ? `${noted} photos have remarks.` : "",
  ];
  $("about").append(parts.filter(Boolean).join(" "));
  const { failed } = data;
  const others = failed.length > FAILED ? `; and ${failed.length - FAILED} more` : "";
  $("failed").append(failed.length ? `Not on this page, as it failed: ${failed.slice(0, FAILED).join("; ")}${others}.` : "");
}

function histogram() {
  const counts = totals(state.shown);
  const used = counts.flatMap((count, bin) => (count ? [bin] : []));
  if (!used.length) return void $("histogram").replaceChildren("no width was measured");
  const [from, to] = [used[0], used.at(-1) + 1];
  const [width, height, most] = [360, 130, Math.max(...counts)];
  const x = (bin) => 16 + ((bin - from) * (width - 32)) / (to - from);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height + 24}`, role: "img", "aria-label": "Histogram of widths" });
  for (let bin = from; bin < to; bin++) {
    const high = (counts[bin] / most) * height;
    const bar = draw("rect", { x: x(bin), y: height - high, width: Math.max(x(bin + 1) - x(bin) - 1, 1), height: high, fill: COLOURS[step(bin)] });
    bar.append(draw("title", {}, `${figure(lower(bin), 2)} – ${figure(lower(bin + 1), 2)} ${unit}: ${counts[bin]} places`));
    svg.append(bar);
  }
  svg.append(draw("line", { x1: 16, x2: width - 16, y1: height, y2: height, class: "axis" }));
  const every = Math.max(1, Math.ceil((to - from) / PER_OCTAVE / 6)) * PER_OCTAVE;
  for (let bin = Math.ceil(from / PER_OCTAVE) * PER_OCTAVE; bin <= to; bin += every)
    svg.append(draw("text", { x: x(bin), y: height + 15, "text-anchor": "middle" }, `${figure(lower(bin), 2)}`));
  svg.append(draw("text", { x: width - 8, y: 12, "text-anchor": "end" }, `width in ${unit}`));
  $("histogram").replaceChildren(svg);
}

function map() {
  const placed = photos.flatMap((photo, number) => (photo.latitude === null ? [] : [{ ...photo, number }]));
  if (!placed.length) return void $("where").remove();
  const middle = placed.reduce((sum, photo) => sum + photo.latitude, 0) / placed.length;
  const metres = 111_320; // of a degree of latitude
  const flat = placed.map((photo) => [photo.longitude * metres * Math.cos((middle * Math.PI) / 180), -photo.latitude * metres]);
  const [left, top] = [0, 1].map((axis) => Math.min(...flat.map((place) => place[axis])));
  const span = Math.max(...flat.map(([x]) => x - left), ...flat.map(([, y]) => y - top), 10);
  const [size, edge] = [360, 24];
  const scale = (size - 2 * edge) / span;
  const svg = draw("svg", { viewBox: `0 0 ${size} ${size + 20}`, role: "group", "aria-label": "Map of the photos, north up" });
  placed.forEach((photo, at) => {
    const [x, y] = [edge + (flat[at][0] - left) * scale, edge + (flat[at][1] - top) * scale];
    const dot = draw("circle", {
      cx: x, cy: y, r: 4 + Math.min(6, Math.sqrt(photo.cracks)), class: "dot", tabindex: 0, role: "button",
      fill: photo.cracks ? COLOURS.at(-1) : "#2ca02c", "data-photo": photo.number,
    }, draw("title", {}, `${file(photo.name)}: ${photo.cracks} cracks, ${photo.latitude}, ${photo.longitude}`));
    dot.addEventListener("click", () => show(photo.number));
    dot.addEventListener("keydown", (event) => event.key === "Enter" && show(photo.number));
    svg.append(dot);
  });
  const round = 10 ** Math.floor(Math.log10(span / 2));
  const bar = [5, 2, 1].map((factor) => factor * round).find((length) => length <= span / 2) ?? round;
  svg.append(
    draw("line", { x1: edge, x2: edge + bar * scale, y1: size + 4, y2: size + 4, stroke: "CanvasText", "stroke-width": 2 }),
    draw("text", { x: edge, y: size + 18 }, bar >= 1000 ? `${bar / 1000} km` : `${figure(bar)} m`),
    draw("text", { x: size - 8, y: 14, "text-anchor": "end" }, "N ↑"),
  );
  $("map").append(svg);
}

// ---- print: all rows that the filters leave, and their photos

function gallery() {
  state.rows = Infinity;
  list();
  const numbers = [...new Set(state.shown.map((crack) => crack.photo))].sort((a, b) => a - b);
  const figures = numbers.slice(0, GALLERY).map((number) => {
    const photo = photos[number];
    const node = composed(number);
    const scale = Math.min(680 / photo.width, 420 / photo.height);
    node.style.transform = `scale(${scale})`;
    node.querySelector(".over")?.style.setProperty("opacity", 0.4);
    const frame = make("div", { class: "frame" }, node);
    frame.style.width = `${photo.width * scale}px`;
    frame.style.height = `${photo.height * scale}px`;
    return make("figure", {}, make("figcaption", {}, `${photo.name} ${photo.scale} ${photo.notes}`), frame);
  });
  const left = numbers.length - figures.length;
  $("gallery").replaceChildren(...figures, ...(left > 0 ? [`${left} more photos are not printed: filter for fewer.`] : []));
}

tiles();
legend();
map();
viewer();
table();
list();
if (photos.length) show(state.shown.length ? state.shown[0].photo : 0);
addEventListener("resize", () => view.node && place());
addEventListener("beforeprint", gallery);
addEventListener("afterprint", () => $("gallery").replaceChildren());
