// The data map: variability on the horizontal axis, confidence on the vertical axis, correctness as
// colour. Swayamdipta et al. 2020, arXiv 2009.10795.

const MARGIN = { left: 46, right: 12, top: 12, bottom: 38 };
let mapRows = [];
/** The index in `mapRows` of the selected point; −1 for none. */
let pointed = -1;
/** An off-screen canvas with all points; null before the first drawing. */
let points = null;

function setUpMap() {
  const canvas = byId("map");
  const nearest = (event) => {
    const box = canvas.getBoundingClientRect();
    pointed = nearestPoint(mapRows.length, placeOnMap(), event.clientX - box.left, event.clientY - box.top, 14);
    drawMap();
  };
  canvas.addEventListener("pointermove", nearest);
  canvas.addEventListener("pointerleave", () => { pointed = -1; drawMap(); });
  canvas.addEventListener("click", (event) => { nearest(event); if (pointed >= 0) openRow(mapRows[pointed]); });
  canvas.addEventListener("keydown", mapKey);
  addEventListener("resize", showMap);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showMap);
  filterListeners.push(showMap);
}

const CONFIDENCE = MEASURES.get("confidence").values;
const VARIABILITY = MEASURES.get("variability").values;
const confidence = (row) => CONFIDENCE[row];
const variability = (row) => VARIABILITY[row];

/** End of the variability axis: the maximum over all images, so that filters do not change it. */
const MAX_VARIABILITY = Math.max(0.1, VARIABILITY.reduce((most, value) => Math.max(most, value ?? 0), 0));

/** The position of a row's point, in pixels. */
function position(row, width, height) {
  return [
    MARGIN.left + (variability(row) / MAX_VARIABILITY) * (width - MARGIN.left - MARGIN.right),
    MARGIN.top + (1 - confidence(row)) * (height - MARGIN.top - MARGIN.bottom),
  ];
}

/** Draws all points once into an off-screen canvas. Selecting a point then only adds a ring. */
function showMap() {
  const canvas = byId("map");
  if (canvas.clientWidth === 0) return;
  pointed = -1;
  mapRows = matching.filter((row) => confidence(row) !== null && variability(row) !== null);
  byId("map-count").textContent = `${grouped(mapRows.length)} images`;
  const [width, height, scale] = [canvas.clientWidth, canvas.clientHeight, devicePixelRatio || 1];
  points = make("canvas", { width: width * scale, height: height * scale });
  canvas.width = width * scale;
  canvas.height = height * scale;
  const context = points.getContext("2d");
  context.scale(scale, scale);
  axes(context, width, height);
  context.globalAlpha = mapRows.length > 5000 ? 0.35 : 0.75;
  const radius = mapRows.length > 5000 ? 1 : 2;
  // Parsing a colour is slower than drawing a point, so it is set only when it changes.
  const { values: correctness } = MEASURES.get("correctness");
  const colours = new Map();
  let last;
  for (const row of mapRows) {
    const [x, y] = position(row, width, height);
    const value = correctness[row];
    if (!colours.has(value)) colours.set(value, shade(value));
    if (value !== last) context.fillStyle = colours.get(value);
    last = value;
    context.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
  }
  drawMap();
}

/** From vermilion (never correct) through grey to blue (always correct). */
function shade(correctness) {
  if (correctness === null) return "gray";
  const mix = (low, middle, high) => Math.round(correctness < 0.5 ? low + (middle - low) * correctness * 2 : middle + (high - middle) * (correctness * 2 - 1));
  return `rgb(${mix(213, 150, 0)} ${mix(94, 150, 114)} ${mix(0, 150, 198)})`;
}

function axes(context, width, height) {
  const style = getComputedStyle(document.body);
  const [left, right, top, bottom] = [MARGIN.left, width - MARGIN.right, MARGIN.top, height - MARGIN.bottom];
  context.font = "12px system-ui, sans-serif";
  context.fillStyle = style.color;
  context.strokeStyle = "rgb(128 128 128 / 0.25)";
  for (let tick = 0; tick <= 4; tick++) {
    const [x, y] = [left + ((right - left) * tick) / 4, bottom - ((bottom - top) * tick) / 4];
    context.beginPath();
    context.moveTo(x, top); context.lineTo(x, bottom);
    context.moveTo(left, y); context.lineTo(right, y);
    context.stroke();
    context.textAlign = tick === 4 ? "right" : "center";
    context.fillText(((MAX_VARIABILITY * tick) / 4).toFixed(2), x, bottom + 15);
    context.textAlign = "right";
    context.fillText((tick / 4).toFixed(2), left - 6, y + 4);
  }
  context.textAlign = "center";
  context.fillText("variability →", (left + right) / 2, height - 4);
  context.save();
  context.translate(11, (top + bottom) / 2);
  context.rotate(-Math.PI / 2);
  context.fillText("confidence →", 0, 0);
  context.restore();
}

function drawMap() {
  if (!points) return;
  const canvas = byId("map");
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(points, 0, 0);
  const hint = byId("map-hint");
  if (mapRows.length === 0) hint.textContent = "No image that matches the filters has training dynamics.";
  else if (pointed < 0) hint.replaceChildren(...legend());
  else {
    const row = mapRows[pointed];
    const scale = canvas.width / canvas.clientWidth;
    context.scale(scale, scale);
    context.lineWidth = 2;
    context.strokeStyle = getComputedStyle(document.body).color;
    context.beginPath();
    context.arc(...position(row, canvas.clientWidth, canvas.clientHeight), 6, 0, 2 * Math.PI);
    context.stroke();
    const words = `#${ROWS.id[row]} ${labelOf(row)}${isMisclassified(row) ? ` → ${predictedOf(row)}` : ""}, confidence ${formatted(confidence(row))}, variability ${formatted(variability(row))}, correctness ${formatted(measure("correctness", row))}`;
    hint.replaceChildren(picture(row, 32), " ", words);
  }
}

function legend() {
  const dot = (correctness, text) => {
    const mark = make("span", { className: "dot" });
    mark.style.background = shade(correctness);
    return make("span", { className: "key" }, mark, text);
  };
  return [dot(0, "never correct"), dot(0.5, "correct in half of the epochs"), dot(1, "always correct")];
}

function mapKey(event) {
  if (event.key === "Enter" && pointed >= 0) { openRow(mapRows[pointed]); event.preventDefault(); event.stopPropagation(); }
  const next = pointBeside(event.key, mapRows.length, placeOnMap(), pointed);
  if (next === null) return;
  event.preventDefault();
  event.stopPropagation();
  pointed = next;
  drawMap();
}

/** Returns the function from an index in `mapRows` to the position of its point. */
function placeOnMap() {
  const { clientWidth: width, clientHeight: height } = byId("map");
  return (at) => position(mapRows[at], width, height);
}
