// The map of features: images that the network finds similar are near each other (UMAP).

/**
 * Colours of classes, which colour-blind readers can tell apart (Petroff 2021, arXiv 2107.02270).
 * Further classes repeat them with other shapes.
 */
const CLASS_COLOURS = ["#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"];
const SHAPES = ["disc", "triangle", "square", "cross"];
const FRAME = 18;
const LARGEST_ZOOM = 60;

/** The rows that are drawn in colour: those on the map that pass the gallery filters. */
let mapped = [];
/** The index in `mapped` of the selected point; −1 for none. */
let chosen = -1;
/** The key of the only group that is drawn in colour; null for all groups. */
let emphasised = null;
/** `zoom` times the size that fits, moved by `x` and `y` pixels. */
let viewport = { zoom: 1, x: 0, y: 0 };
/** An off-screen canvas with all points; null before the first drawing. */
let featurePoints = null;

/** The middle of the map and half its larger side. */
const EXTENT = (() => {
  const ends = [0, 1].map((axis) => {
    let [low, high] = [Infinity, -Infinity];
    for (const place of ROWS.position) {
      if (place === null) continue;
      low = Math.min(low, place[axis]);
      high = Math.max(high, place[axis]);
    }
    return [low, high];
  });
  return { middle: ends.map(([low, high]) => (low + high) / 2), size: ends.map(([low, high]) => Math.max(high - low, 1e-6)) };
})();

/** How points are coloured: the groups, and the group of a row. */
const COLOURINGS = {
  label: { groups: () => CLASSES.map((name, key) => ({ key, name, ...styleOfClass(key) })), of: (row) => ROWS.label[row] },
  prediction: { groups: () => CLASSES.map((name, key) => ({ key, name, ...styleOfClass(key) })), of: (row) => ROWS.predicted[row] },
  category: {
    groups: () => [...FLAGGED.map((name) => ({ key: name, name, colour: colourOf(name), shape: "disc" })), { key: "", name: "not flagged", colour: null, shape: "disc" }],
    of: categoryOf,
  },
};

function styleOfClass(at) {
  return { colour: CLASS_COLOURS[at % CLASS_COLOURS.length], shape: SHAPES[Math.floor(at / CLASS_COLOURS.length) % SHAPES.length] };
}

const colouring = () => COLOURINGS[byId("feature-colour").value];

function setUpFeatureMap() {
  const canvas = byId("feature-map");
  if (!canvas) return;
  byId("feature-colour").replaceChildren(...Object.keys(COLOURINGS).map((name) => option(name, name)));
  byId("feature-colour").addEventListener("change", () => { emphasised = null; showFeatureMap(); });
  const middle = () => [canvas.clientWidth / 2, canvas.clientHeight / 2];
  byId("feature-in").addEventListener("click", () => zoomAt(1.6, ...middle()));
  byId("feature-out").addEventListener("click", () => zoomAt(1 / 1.6, ...middle()));
  byId("feature-reset").addEventListener("click", resetFeatureMap);
  listenToPointers(canvas);
  canvas.addEventListener("keydown", featureKey);
  canvas.addEventListener("blur", () => choose(-1));
  addEventListener("resize", showFeatureMap);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showFeatureMap);
  filterListeners.push(showFeatureMap);
}

/** One pointer moves the map, two zoom it. A pointer that hardly moved has clicked. */
function listenToPointers(canvas) {
  const pointers = new Map();
  let moved = 0;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const under = (event) => nearestPoint(mapped.length, placeOnFeatureMap(), ...place(event), 14);
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    if (pointers.size === 0) moved = 0;
    pointers.set(event.pointerId, place(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return choose(under(event));
    const now = place(event);
    moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    pointers.set(event.pointerId, now);
    if (moved < 4) return;
    canvas.classList.add("dragged");
    if (other) {
      const apart = ([x, y]) => Math.max(1, Math.hypot(x - other[0], y - other[1]));
      zoomAt(apart(now) / apart(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else {
      viewport.x += now[0] - before[0];
      viewport.y += now[1] - before[1];
      redraw();
    }
  });
  const end = (event) => {
    pointers.delete(event.pointerId);
    if (pointers.size === 0) canvas.classList.remove("dragged");
  };
  canvas.addEventListener("pointerup", (event) => {
    const clicked = pointers.size === 1 && moved < 4;
    end(event);
    if (!clicked) return;
    choose(under(event));
    if (chosen >= 0) openRow(mapped[chosen]);
  });
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", () => { if (pointers.size === 0) choose(-1); });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomAt(Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : 0.0015)), ...place(event));
  }, { passive: false });
}

/** Zooms by a factor; the place at (x, y) stays where it is. */
function zoomAt(factor, x, y) {
  const canvas = byId("feature-map");
  const zoom = Math.min(LARGEST_ZOOM, Math.max(0.5, viewport.zoom * factor));
  const by = zoom / viewport.zoom;
  const moved = (offset, at, size) => at - size / 2 - (at - size / 2 - offset) * by;
  viewport = { zoom, x: moved(viewport.x, x, canvas.clientWidth), y: moved(viewport.y, y, canvas.clientHeight) };
  redraw();
}

function resetFeatureMap() {
  viewport = { zoom: 1, x: 0, y: 0 };
  showFeatureMap();
}

let redrawing = false;

/** Draws once per frame. */
function redraw() {
  if (redrawing) return;
  redrawing = true;
  requestAnimationFrame(() => { redrawing = false; drawFeaturePoints(); choose(-1); });
}

/** Returns the function from a row to the position of its point. */
function projection() {
  const { clientWidth: width, clientHeight: height } = byId("feature-map");
  const fit = Math.min((width - 2 * FRAME) / EXTENT.size[0], (height - 2 * FRAME) / EXTENT.size[1]) * viewport.zoom;
  const [left, top] = [width / 2 + viewport.x, height / 2 + viewport.y];
  return (row) => {
    const [x, y] = ROWS.position[row];
    return [left + (x - EXTENT.middle[0]) * fit, top - (y - EXTENT.middle[1]) * fit];
  };
}

/** Returns the function from an index in `mapped` to the position of its point. */
function placeOnFeatureMap() {
  const project = projection();
  return (at) => project(mapped[at]);
}

/** Draws everything again, after the filters, the colours or the size have changed. */
function showFeatureMap() {
  const canvas = byId("feature-map");
  if (!canvas || canvas.clientWidth === 0) return;
  const onMap = ROWS.position.reduce((count, place) => count + (place === null ? 0 : 1), 0);
  mapped = matching.filter((row) => ROWS.position[row] !== null && isEmphasised(row));
  byId("feature-count").textContent = `${grouped(mapped.length)} of ${grouped(onMap)} images`;
  const scale = devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * scale;
  canvas.height = canvas.clientHeight * scale;
  showFeatureLegend();
  drawFeaturePoints();
  choose(-1);
}

const isEmphasised = (row) => emphasised === null || colouring().of(row) === emphasised;

/** Draws all points into the off-screen canvas: grey ones first, then group by group. */
function drawFeaturePoints() {
  const canvas = byId("feature-map");
  const scale = devicePixelRatio || 1;
  featurePoints = make("canvas", { width: canvas.width, height: canvas.height });
  const context = featurePoints.getContext("2d");
  context.scale(scale, scale);
  const project = projection();
  const radius = Math.min(7, (mapped.length > 5000 ? 1.9 : 2.6) * viewport.zoom ** 0.4);
  const shown = new Set(mapped);
  const faint = [];
  for (let row = 0; row < COUNT; row++) if (ROWS.position[row] !== null && !shown.has(row)) faint.push(row);
  const line = getComputedStyle(document.documentElement).getPropertyValue("--faint");
  const paint = (rows, colour, shape, opacity) => {
    context.fillStyle = colour;
    context.globalAlpha = opacity;
    context.beginPath();
    for (const row of rows) {
      const [x, y] = project(row);
      if (x < -9 || y < -9 || x > canvas.clientWidth + 9 || y > canvas.clientHeight + 9) continue;
      trace(context, shape, x, y, PICTURE[row] < 0 ? 0.75 * radius : radius);
    }
    context.fill();
  };
  const { groups, of } = colouring();
  const members = new Map(groups().map(({ key }) => [key, []]));
  for (const row of mapped) members.get(of(row)).push(row);
  paint(faint, resolved(line), "disc", 0.12);
  for (const { key, colour, shape } of groups().reverse()) paint(members.get(key), colour ?? resolved(line), shape, colour ? 0.8 : 0.3);
}

/** The value of a colour that depends on the theme. */
function resolved(colour) {
  const probe = make("span", { hidden: true });
  probe.style.color = colour;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

/** Adds a shape around (x, y) to the path. */
function trace(context, shape, x, y, radius) {
  if (shape === "disc") {
    context.moveTo(x + radius, y);
    context.arc(x, y, radius, 0, 2 * Math.PI);
  } else if (shape === "triangle") {
    context.moveTo(x, y - 1.3 * radius);
    context.lineTo(x + 1.2 * radius, y + 0.8 * radius);
    context.lineTo(x - 1.2 * radius, y + 0.8 * radius);
    context.closePath();
  } else if (shape === "square") {
    context.rect(x - 0.9 * radius, y - 0.9 * radius, 1.8 * radius, 1.8 * radius);
  } else {
    context.rect(x - 1.2 * radius, y - 0.35 * radius, 2.4 * radius, 0.7 * radius);
    context.rect(x - 0.35 * radius, y - 1.2 * radius, 0.7 * radius, 0.85 * radius);
    context.rect(x - 0.35 * radius, y + 0.35 * radius, 0.7 * radius, 0.85 * radius);
  }
}

/** Selects a point: a ring around it, and a card with its picture and names. */
function choose(at) {
  chosen = at;
  if (!featurePoints) return;
  const canvas = byId("feature-map");
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(featurePoints, 0, 0);
  const card = byId("feature-card");
  card.hidden = at < 0;
  if (at < 0) {
    byId("feature-hint").textContent = "";
    return;
  }
  const row = mapped[at];
  const [x, y] = projection()(row);
  const scale = devicePixelRatio || 1;
  context.scale(scale, scale);
  context.lineWidth = 2;
  context.strokeStyle = getComputedStyle(document.body).color;
  context.beginPath();
  context.arc(x, y, 7, 0, 2 * Math.PI);
  context.stroke();
  const names = `${labelOf(row)}${isMisclassified(row) ? ` → ${predictedOf(row)}` : ""}`;
  const facts = [`#${ROWS.id[row]} · ${splitOf(row)}`, `outlier ${formatted(measure("outlier_score", row))}`, categoryOf(row)].filter((fact) => fact !== "");
  card.replaceChildren(picture(row, 112), make("strong", { className: "names", textContent: names }),
    ...facts.map((fact) => make("span", { className: "more", textContent: fact })));
  const left = x + 16 + card.offsetWidth > canvas.clientWidth ? x - 16 - card.offsetWidth : x + 16;
  card.style.left = `${Math.max(0, left)}px`;
  card.style.top = `${Math.max(0, Math.min(y - 20, canvas.clientHeight - card.offsetHeight))}px`;
  byId("feature-hint").textContent = [names, ...facts].join(", ");
}

/** Arrow keys select a point, Enter opens it, + and − zoom, Home shows the whole map. */
function featureKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { key } = event;
  const canvas = byId("feature-map");
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const next = pointBeside(key, mapped.length, placeOnFeatureMap(), chosen);
  if (next !== null) {
    const [x, y] = placeOnFeatureMap()(next);
    if (x < 0 || y < 0 || x > width || y > height) {
      viewport.x += width / 2 - x;
      viewport.y += height / 2 - y;
      drawFeaturePoints();
    }
    choose(next);
  } else if (key === "Enter" && chosen >= 0) openRow(mapped[chosen]);
  else if (key === "+" || key === "=") zoomAt(1.6, width / 2, height / 2);
  else if (key === "-") zoomAt(1 / 1.6, width / 2, height / 2);
  else if (key === "Home") resetFeatureMap();
  else return;
  event.preventDefault();
  event.stopPropagation();
}

/** The groups with their colours. A click leaves one of them in colour, a second click all. */
function showFeatureLegend() {
  const { groups, of } = colouring();
  const counts = new Map();
  for (const row of matching) if (ROWS.position[row] !== null) counts.set(of(row), (counts.get(of(row)) ?? 0) + 1);
  const legend = byId("feature-legend");
  const focused = legend.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const scale = devicePixelRatio || 1;
  legend.replaceChildren(...groups().map(({ key, name, colour, shape }) => {
    const mark = make("canvas", { width: 14 * scale, height: 14 * scale, "aria-hidden": "true" });
    const context = mark.getContext("2d");
    context.scale(scale, scale);
    context.fillStyle = colour ?? "#8a8a8a";
    trace(context, shape, 7, 7, 5);
    context.fill();
    const control = make("button", { type: "button", "data-key": String(key), title: "show only this group in colour", onclick: () => { emphasised = emphasised === key ? null : key; showFeatureMap(); } },
      mark, name, make("span", { className: "faint", textContent: grouped(counts.get(key) ?? 0) }));
    control.setAttribute("aria-pressed", String(emphasised === key));
    return control;
  }));
  if (focused !== null) [...legend.children].find((control) => control.dataset.key === focused)?.focus();
}
