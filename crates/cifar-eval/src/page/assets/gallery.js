// The gallery: a grid that creates only the tiles near the viewport. So 60,000 images scroll as
// smoothly as 60.

const TILE = { width: 132, height: 154, picture: 96 };
/** Rows of tiles to keep above and below the viewport. */
const OVERSCAN = 3;

/** The index in `matching` of the image that keys act on. */
let current = 0;
const tiles = new Map();
let across = 1;

function setUpGallery() {
  const grid = byId("grid");
  grid.addEventListener("click", ({ target }) => {
    const tile = target.closest(".tile");
    if (tile) openAt(Number(tile.dataset.at));
  });
  addEventListener("scroll", () => requestAnimationFrame(showTiles), { passive: true });
  addEventListener("resize", () => { layOut(); });
  filterListeners.push(() => { current = 0; clearTiles(); layOut(); summarise(); });
  reviewListeners.push(() => { clearTiles(); showTiles(); });
}

function clearTiles() {
  for (const tile of tiles.values()) tile.remove();
  tiles.clear();
}

/** Computes the number of tiles per row and the height of the grid from the available width. */
function layOut() {
  const grid = byId("grid");
  if (grid.clientWidth === 0) return;
  const fitting = Math.max(1, Math.floor(grid.clientWidth / TILE.width));
  if (fitting !== across) clearTiles();
  across = fitting;
  grid.style.height = `${Math.ceil(matching.length / across) * TILE.height}px`;
  showTiles();
}

/** Creates the tiles near the viewport and removes the others. */
function showTiles() {
  const grid = byId("grid");
  if (grid.clientWidth === 0) return;
  const top = -grid.getBoundingClientRect().top;
  const first = Math.max(0, (Math.floor(top / TILE.height) - OVERSCAN) * across);
  const last = Math.min(matching.length, (Math.ceil((top + innerHeight) / TILE.height) + OVERSCAN) * across);
  for (const [at, tile] of tiles) {
    if (at < first || at >= last) { tile.remove(); tiles.delete(at); }
  }
  for (let at = first; at < last; at++) {
    if (tiles.has(at)) continue;
    const tile = makeTile(at);
    tiles.set(at, tile);
    grid.append(tile);
  }
}

function makeTile(at) {
  const row = matching[at];
  const entry = decisions.get(ROWS.id[row]);
  const [left, top] = [(at % across) * TILE.width, Math.floor(at / across) * TILE.height];
  const shown = filter.sort === "rank" || filter.sort === "id" ? `#${ROWS.id[row]}` : `${MEASURES.get(filter.sort).title} ${formatted(measure(filter.sort, row))}`;
  const tile = make("button", {
    type: "button",
    className: "tile",
    tabIndex: at === current ? 0 : -1,
    title: reasonOf(row),
    "aria-label": `image ${ROWS.id[row]}, labelled ${labelOf(row)}, predicted as ${predictedOf(row)}${categoryOf(row) ? `, ${categoryOf(row)}` : ""}${entry ? `, ${inWords(entry)}` : ""}`,
    "data-at": at,
  },
    picture(row, TILE.picture),
    make("span", { className: "names" }, labelOf(row), isMisclassified(row) ? make("span", { className: "warn", textContent: ` → ${predictedOf(row)}` }) : null),
    make("span", { className: "more", textContent: `${shown} · ${splitOf(row)}` }));
  if (entry) tile.append(make("span", { className: `badge ${entry.decision}`, textContent: entry.label || entry.decision }));
  tile.style.cssText = `left:${left}px;top:${top}px;--category:${colourOf(categoryOf(row))}`;
  const item = make("div", { role: "listitem", className: at === current ? "item current" : "item" }, tile);
  return item;
}

function summarise() {
  const pictured = matching.filter((row) => PICTURE[row] >= 0).length;
  const without = matching.length - pictured;
  byId("gallery-summary").textContent = matching.length === 0
    ? "No image matches the filters."
    : `${grouped(matching.length)} of ${grouped(COUNT)} images${without > 0 ? `, ${grouped(without)} of them without a picture in this file` : ""}.`;
  byId("gallery-count").textContent = grouped(matching.length);
}

/** Moves the selection by `step` images and scrolls it into view. */
function move(step) {
  if (matching.length === 0) return;
  goTo(Math.min(matching.length - 1, Math.max(0, current + step)));
}

function goTo(at) {
  const old = tiles.get(current);
  if (old) { old.classList.remove("current"); old.firstChild.tabIndex = -1; }
  current = at;
  const grid = byId("grid");
  if (grid.clientWidth === 0) return;
  const header = document.querySelector("header.top").getBoundingClientRect().bottom;
  const top = grid.getBoundingClientRect().top + Math.floor(at / across) * TILE.height;
  if (top < header) scrollBy(0, top - header - 8);
  else if (top + TILE.height > innerHeight) scrollBy(0, top + TILE.height - innerHeight + 8);
  showTiles();
  const item = tiles.get(at);
  item.classList.add("current");
  item.firstChild.tabIndex = 0;
  if (!byId("detail").open) item.firstChild.focus({ preventScroll: true });
}
