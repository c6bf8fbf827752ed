// Duplicate pairs side by side, with their difference image.

const PAIRS_PER_PAGE = 24;
/** Pixel differences are amplified by this factor. */
const AMPLIFICATION = 4;
/** The largest shift of the second image that is tried, in pixels. */
const MAX_SHIFT = 2;
let pairPage = 0;

function showPairs() {
  const pages = Math.max(1, Math.ceil(DATA.pairs.length / PAIRS_PER_PAGE));
  pairPage = Math.min(pages - 1, Math.max(0, pairPage));
  const start = pairPage * PAIRS_PER_PAGE;
  byId("pair-list").replaceChildren(...DATA.pairs.slice(start, start + PAIRS_PER_PAGE).map(makePair));
  if (DATA.pairs.length === 0) byId("pair-list").append(make("p", { textContent: "No duplicates were found." }));
  const go = (by) => () => { pairPage += by; showPairs(); scrollTo(0, 0); };
  byId("pair-pager").replaceChildren(
    make("button", { type: "button", textContent: "← previous", disabled: pairPage === 0, onclick: go(-1) }),
    make("span", { className: "faint", textContent: `page ${pairPage + 1} of ${pages}` }),
    make("button", { type: "button", textContent: "next →", disabled: pairPage === pages - 1, onclick: go(1) }));
}

function makePair([first, second, similarity, kind]) {
  const side = (row) => make("button", { type: "button", className: "side", "aria-label": `open image ${ROWS.id[row]}, labelled ${labelOf(row)}`, onclick: () => openRow(row) },
    picture(row, 96), make("span", { className: "names", textContent: labelOf(row) }), make("span", { className: "more", textContent: `#${ROWS.id[row]} · ${splitOf(row)}` }));
  const alignment = make("span", { className: "more", textContent: "" });
  const difference = make("div", { className: "side" });
  if (PICTURE[first] >= 0 && PICTURE[second] >= 0) {
    const canvas = make("canvas", { className: "picture", width: WIDTH, height: HEIGHT, style: `width:96px;height:${Math.round((96 * HEIGHT) / WIDTH)}px`, role: "img", "aria-label": "difference" });
    difference.append(canvas, make("span", { className: "names", textContent: "difference" }), alignment);
    showDifference(first, second, canvas, alignment);
  } else difference.append(make("span", { className: "picture missing", style: "width:96px;height:96px", textContent: "not in this file" }));
  const facts = make("p", {}, make("strong", { textContent: kind }), ` · similarity ${formatted(similarity)}`);
  if (ROWS.split[first] !== ROWS.split[second]) facts.append(" · ", make("span", { className: "warn", textContent: "across splits" }));
  if (ROWS.label[first] !== ROWS.label[second]) facts.append(" · ", make("span", { className: "warn", textContent: "different labels" }));
  return make("article", { className: "pair" }, facts, make("div", { className: "sides" }, side(first), side(second), difference));
}

async function showDifference(first, second, canvas, alignment) {
  const [a, b] = await Promise.all([pixels(first), pixels(second)]);
  const { mirrored, dx, dy } = bestFit(a, b);
  const context = canvas.getContext("2d");
  const image = context.createImageData(WIDTH, HEIGHT);
  for (let y = 0; y < HEIGHT; y++) {
    for (let x = 0; x < WIDTH; x++) {
      const to = (y * WIDTH + x) * 4;
      const from = source(x, y, mirrored, dx, dy);
      for (let channel = 0; channel < 3; channel++) {
        image.data[to + channel] = from < 0 ? 128 : 128 + AMPLIFICATION * (b[from + channel] - a[to + channel]);
      }
      image.data[to + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
  const parts = [mirrored ? "mirrored" : "", dx !== 0 || dy !== 0 ? `shift ${dx}, ${dy}` : ""].filter((part) => part !== "");
  alignment.textContent = parts.join(", ") || "not shifted";
}

/** The offset of the second image's pixel that covers (x, y) of the first; −1 if there is none. */
function source(x, y, mirrored, dx, dy) {
  const [sx, sy] = [x + dx, y + dy];
  if (sx < 0 || sy < 0 || sx >= WIDTH || sy >= HEIGHT) return -1;
  return (sy * WIDTH + (mirrored ? WIDTH - 1 - sx : sx)) * 4;
}

/** Aligns `b` to `a` with the smallest mean absolute difference. Ties go to the smallest shift. */
function bestFit(a, b) {
  let best = { mirrored: false, dx: 0, dy: 0, cost: Infinity };
  const shifts = [];
  for (let dy = -MAX_SHIFT; dy <= MAX_SHIFT; dy++) for (let dx = -MAX_SHIFT; dx <= MAX_SHIFT; dx++) shifts.push([dx, dy]);
  shifts.sort(([ax, ay], [bx, by]) => Math.abs(ax) + Math.abs(ay) - Math.abs(bx) - Math.abs(by));
  for (const mirrored of [false, true]) {
    for (const [dx, dy] of shifts) {
      let [sum, count] = [0, 0];
      for (let y = 0; y < HEIGHT; y++) {
        for (let x = 0; x < WIDTH; x++) {
          const from = source(x, y, mirrored, dx, dy);
          if (from < 0) continue;
          const to = (y * WIDTH + x) * 4;
          sum += Math.abs(a[to] - b[from]) + Math.abs(a[to + 1] - b[from + 1]) + Math.abs(a[to + 2] - b[from + 2]);
          count++;
        }
      }
      if (sum / count < best.cost) best = { mirrored, dx, dy, cost: sum / count };
    }
  }
  return best;
}
